"""The journal against the floor: a bare write() of the same lines; and opening one of a million events at its end."""

from __future__ import annotations

import json
import os
import statistics
import time
from pathlib import Path

import pytest

from llamahome_tui.jobs.journal import JournalWriter, read, tail, tail_offset
from llamahome_tui.jobs.reader import JournalReader

ROUNDS = 7
EVENTS = 20_000
# The floor makes its line with json.dumps too and writes it; numbers, clocks, syncing and checks are what is left.
LIMIT, SLACK = 0.55, 1.5
OPEN_LIMIT_S = 0.2


def floor(path: Path) -> float:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    begun = time.perf_counter()
    for step in range(EVENTS):
        os.write(fd, json.dumps({"type": "metrics", "step": step, "loss": 1.25, "lr": 2e-4}).encode() + b"\n")
    seconds = time.perf_counter() - begun
    os.close(fd)
    path.unlink()
    return EVENTS / seconds


def journal(path: Path) -> float:
    writer = JournalWriter(path)
    begun = time.perf_counter()
    for step in range(EVENTS):
        writer.append("metrics", step=step, loss=1.25, lr=2e-4)
    seconds = time.perf_counter() - begun
    writer.close()
    path.unlink()
    return EVENTS / seconds


@pytest.mark.performance
def test_events_written_per_second(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rates: dict[str, list[float]] = {"floor": [], "journal": []}
    for _ in range(ROUNDS):
        rates["floor"].append(floor(tmp_path / "floor"))
        rates["journal"].append(journal(tmp_path / "journal"))
    ratio = statistics.median(rates["journal"]) / statistics.median(rates["floor"])
    with capsys.disabled():
        print(
            f"\njournal, events written per second: {statistics.median(rates['journal']):,.0f}"
            f" against {statistics.median(rates['floor']):,.0f} of a bare write(): ratio {ratio:.2f} (at least {LIMIT})"
        )
    assert ratio >= LIMIT / SLACK


@pytest.mark.performance
def test_a_million_events_are_opened_tail_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "journal"
    line = '{"v":1,"seq":%d,"t":1700000000.0,"mono":%d.5,"type":"metrics","step":%d,"loss":1.25,"lr":0.0002}\n'
    path.write_text("".join(line % (n, n, n) for n in range(1, 1_000_001)))
    seconds: dict[str, list[float]] = {"first": [], "follow": [], "middle": []}
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        assert tail(path, 500)[-1]["seq"] == 1_000_000
        first = time.perf_counter()
        assert len(JournalReader(path, tail_offset(path, 500)).poll()) == 500
        follow = time.perf_counter()
        assert next(read(path, 500_000))["seq"] == 500_001
        seconds["first"].append(first - begun)
        seconds["follow"].append(follow - first)
        seconds["middle"].append(time.perf_counter() - follow)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    with capsys.disabled():
        print(
            f"\njournal of 1M events ({path.stat().st_size >> 20} MiB): newest 500 in {medians['first'] * 1000:.1f} ms,"
            f" begun to follow in {medians['follow'] * 1000:.1f} ms, by number in {medians['middle'] * 1000:.1f} ms"
        )
    assert medians["first"] + medians["follow"] < OPEN_LIMIT_S
