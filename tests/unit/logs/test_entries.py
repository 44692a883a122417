"""Choosing lines by level, time and pattern."""

from __future__ import annotations

import re

from llamahome_tui.logs.entries import Wanted, choose, level_of, offset_since, time_of
from llamahome_tui.logs.reader import LogReader
from llamahome_tui.units import utc

LOG = """\
2026-01-01T10:00:00.000Z INFO    first
2026-01-01T10:00:01.000Z ERROR   it broke
Traceback (most recent call last):
  File "x.py", line 1
ValueError: no
2026-01-01T10:00:02.000Z DEBUG   quiet
2026-01-01T10:00:03.500Z WARNING careful
"""


def reader(tmp_path, text=LOG):
    (tmp_path / "x.log").write_text(text)
    return LogReader(tmp_path / "x.log")


def texts(tmp_path, wanted, text=LOG):
    return [line.text for line in choose(reader(tmp_path, text).forward(), wanted)]


def test_a_traceback_belongs_to_its_line(tmp_path):
    assert texts(tmp_path, Wanted(level="error")) == LOG.splitlines()[1:5]
    assert texts(tmp_path, Wanted(level="warning")) == [*LOG.splitlines()[1:5], LOG.splitlines()[6]]


def test_since_and_pattern(tmp_path):
    since = time_of("2026-01-01T10:00:02.000Z x")
    assert texts(tmp_path, Wanted(since=since)) == LOG.splitlines()[5:]
    assert texts(tmp_path, Wanted(pattern=re.compile("care|first"))) == [LOG.splitlines()[0], LOG.splitlines()[6]]


def test_a_log_without_times_is_judged_line_by_line(tmp_path):
    text = "WARNING: careful\n  because\nstep 1\nERROR: no\nstep 2\n"
    assert texts(tmp_path, Wanted(level="warning"), text) == ["WARNING: careful", "  because", "ERROR: no"]


def test_times_and_levels_of_other_programs():
    assert time_of("[2026-01-01 10:00:00,250] [INFO] trainer") == time_of("2026-01-01T10:00:00.250Z")
    assert time_of("2026-01-01T12:00:00+02:00 x") == time_of("2026-01-01T10:00:00Z")
    assert time_of("2026-13-01T10:00:00Z") is None
    assert level_of("CRITICAL it burns") == "error"
    assert level_of("RuntimeError: CUDA") == "error"
    assert level_of("step 3 loss 1.2") is None


def test_the_start_for_a_time_is_found_by_halving(tmp_path):
    lines = [f"{utc(1_700_000_000 + i)} INFO    line {i}" + "\n  more" * (i % 3) for i in range(2000)]
    log = reader(tmp_path, "\n".join(lines) + "\n")
    for wanted in (0, 1, 999, 1234, 1999):
        first = next(log.forward(offset_since(log, 1_700_000_000 + wanted)))
        assert first.text.endswith(f"line {wanted}")
    assert offset_since(log, 1_800_000_000) == log.size
    assert offset_since(reader(tmp_path, "no\ntimes\n"), 1_700_000_000) == 0
