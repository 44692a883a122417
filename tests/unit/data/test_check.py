"""Every row of every file is looked at: mixed formats, files without rows, progress, and a reading that is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.data import check
from llamahome_tui.data.check import Validation, bad_rows, samples, told_format, validate
from llamahome_tui.data.rows import Bad

U, A = {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}
MESSAGES: dict[str, Any] = {"messages": [U, A]}
ALPACA: dict[str, Any] = {"instruction": "i", "output": "o"}
UNKNOWN = (
    "the format of the rows is not known: their columns are x; "
    "name them in data.columns, as llamahome --batch data formats has them"
)
COMPLETION: dict[str, Any] = {"prompt": "p", "completion": "c"}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def faults(found: Validation) -> list[tuple[int, str, str]]:
    return [(bad.line, bad.field, bad.reason) for bad in found.bad]


def test_a_row_of_another_format_says_which(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", MESSAGES, ALPACA, MESSAGES, MESSAGES | COMPLETION, COMPLETION | {"messages": []})
    found = validate([path])
    assert (found.rows, found.format, found.bad_count) == (3, "messages", 2)
    assert faults(found) == [
        (2, "messages", "is missing: the row is alpaca, and the file is messages"),
        (5, "messages", "is empty: the row is completion, and the file is messages"),
    ]


def test_a_row_that_both_formats_could_be_is_asked_about(tmp_path: Path) -> None:
    label = COMPLETION | {"label": True}
    path = write(tmp_path / "d.jsonl", COMPLETION, label, COMPLETION)
    ((line, field, reason),) = faults(validate([path]))
    assert (line, field) == (2, "")
    assert reason.startswith("is labels, and the file is completion")
    assert validate([path], "completion").bad_count == 0
    text = write(tmp_path / "t.jsonl", ALPACA, ALPACA | {"text": "both"}, {"text": "alone"})
    assert faults(validate([text])) == [(3, "instruction", "is missing")]


def test_files_of_several_formats_are_each_read_as_theirs(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a.jsonl", ALPACA), write(tmp_path / "b.jsonl", MESSAGES, MESSAGES)]
    assert validate(paths).as_dict() == {"rows": 3, "format": "alpaca, messages", "bad": [], "bad_count": 0}


def test_files_without_rows_and_of_no_format(tmp_path: Path) -> None:
    for name, content, reason in (
        ("empty.jsonl", "", "has no rows"),
        ("blank.jsonl", "\n\n", "has no rows"),
        ("array.json", "[]", "has no rows"),
        ("header.csv", "prompt,completion\n", "has no rows"),
        ("strange.jsonl", '{"x": 1}\n' * 3, UNKNOWN),
    ):
        (tmp_path / name).write_text(content)
        found = validate([tmp_path / name])
        assert found.rows == 0
        assert [bad.reason for bad in found.bad] == [reason]
    assert validate([tmp_path / "gone.jsonl", tmp_path]).bad_count == 2
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{]\n" * 300)
    assert validate([broken]).bad_count == 300


def test_the_format_is_told_without_keeping_rows_and_from_few_large_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "_LOOKED_BYTES", 1 << 20)
    large = [ALPACA | {"input": "x" * 300_000} for _ in range(8)]
    path = write(tmp_path / "d.jsonl", *large, *[MESSAGES] * 20)
    assert told_format(path) == "alpaca"
    assert told_format(write(tmp_path / "e.jsonl", {"x": 1})) == ""


def test_many_bad_rows_are_counted_and_the_first_named(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", ALPACA, *[ALPACA | {"output": 3}] * 250)
    found = validate([path])
    assert (found.bad_count, len(found.bad)) == (250, 100)
    error = bad_rows(found.bad, found.bad_count)
    assert error.message == f"{path}:2: output: is no text but a number (and 249 more)"
    assert error.hint.endswith(f"llamahome --batch data validate {path}")
    with pytest.raises(type(error)):
        found.raise_if_bad()


def test_progress_goes_over_all_files_and_an_exception_in_it_ends_the_reading(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name}.jsonl", *[ALPACA | {"input": "x" * 1000}] * 2000) for name in "ab"]
    total = sum(path.stat().st_size for path in paths)
    told: list[tuple[int, int]] = []
    validate(paths, progress=lambda done, all: told.append((done, all)))
    assert told == sorted(told)
    assert told[-1] == (total, total)
    assert len(told) > 10

    class Left(Exception):
        pass

    calls: list[int] = []

    def leave(done: int, _: int) -> None:
        calls.append(done)
        raise Left

    with pytest.raises(Left):
        validate(paths, progress=leave)
    assert len(calls) == 1


def test_a_file_that_is_cut_short_while_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", *[ALPACA] * 100_000)
    reading = samples(path, "alpaca", {})
    next(reading)
    path.write_text("")
    rest = [read for read, _ in reading]
    assert len(rest) < 100_000
    assert all(not isinstance(read, Bad) or read.reason for read in rest)
