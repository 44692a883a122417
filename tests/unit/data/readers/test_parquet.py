"""Parquet: rows by number, nulls gone, and every way a file of it can be broken, each one sentence."""

from __future__ import annotations

import builtins
import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from llamahome_tui.data import limits
from llamahome_tui.data.formats import to_sample
from llamahome_tui.data.rows import Row, read_rows
from llamahome_tui.data.samples import Chat
from tests.unit.data.readers.files import bad, good, write


def parquet(path: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, **options)
    return path


def test_rows_are_numbered_over_all_groups_and_batches(tmp_path: Path) -> None:
    rows = [{"n": n, "text": f"é{n}"} for n in range(5000)]
    path = parquet(tmp_path / "d.parquet", rows, row_group_size=700)
    assert good(path) == [(n + 1, row) for n, row in enumerate(rows)]
    assert good(path.rename(tmp_path / "d.data")) == [(n + 1, row) for n, row in enumerate(rows)]


def test_nulls_within_messages_are_not_there_and_values_are_json(tmp_path: Path) -> None:
    call = {"function": {"name": "f", "arguments": {"x": 1}}}
    talk = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "tool_calls": [call, {"function": {"name": "g", "arguments": {"y": 2}}}]},
        {"role": "tool", "content": "t"},
        {"role": "assistant", "content": "a", "weight": 1.0},
    ]
    other = {"day": datetime.date(2026, 1, 2), "image": b"abc", "score": float("nan"), "tags": ["x", None]}
    path = parquet(tmp_path / "d.parquet", [{"messages": talk, **other}])
    ((_, value),) = good(path)
    assert value == {"messages": talk, "day": "2026-01-02", "image": {"bytes": 3}, "tags": ["x", None]}
    json.dumps(value)
    (row,) = read_rows(path)
    assert isinstance(row, Row)
    made = to_sample(row, "messages")
    assert isinstance(made, Chat)
    assert [call["function"]["arguments"] for call in made.messages[1]["tool_calls"]] == [{"x": 1}, {"y": 2}]


def test_what_is_broken_is_one_sentence(tmp_path: Path) -> None:
    path = parquet(tmp_path / "d.parquet", [{"text": f"{n}" * 50} for n in range(20_000)], row_group_size=5000)
    content = path.read_bytes()
    torn = write(tmp_path, "torn.parquet", content[: len(content) // 2])
    damaged = bytearray(content)
    damaged[len(content) // 2 : len(content) // 2 + 2000] = b"\xff" * 2000
    for broken in (torn, write(tmp_path, "damaged.parquet", bytes(damaged)), write(tmp_path, "b.parquet", b"PAR1")):
        ((line, _, reason),) = bad(broken)
        assert "is broken Parquet" in reason
        assert "\n" not in reason
        assert line == sum(isinstance(one, Row) for one in read_rows(broken)) + (broken.name == "damaged.parquet")
    assert "is no Parquet" in bad(write(tmp_path, "named.parquet", "x,y\n1,2\n"))[0][2]


def test_text_that_is_no_text_names_row_and_column(tmp_path: Path) -> None:
    column = pyarrow.array([b"good", b"caf\xe9", b"also good"], pyarrow.binary()).cast(pyarrow.string(), safe=False)
    pyarrow.parquet.write_table(pyarrow.table({"text": column}), tmp_path / "d.parquet")
    ((line, field, reason),) = bad(tmp_path / "d.parquet")
    assert (line, field) == (2, "text")
    assert "0xe9" in reason
    path = parquet(tmp_path / "nul.parquet", [{"text": "a"}, {"text": "a\0"}])
    assert bad(path) == [(2, "text", "holds a NUL character")]


def test_a_giant_row_costs_that_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_ROW_BYTES", 1000)
    path = parquet(tmp_path / "d.parquet", [{"text": "a"}, {"text": "b" * 2000}, {"text": "c"}])
    assert [isinstance(one, Row) for one in read_rows(path)] == [True, False, True]
    assert "longer than" in bad(path)[0][2]


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UNPACKED_ALLOWANCE", 1 << 20)
    options: dict[str, Any] = {"compression": "zstd", "use_dictionary": False, "row_group_size": 10}
    path = parquet(tmp_path / "d.parquet", [{"n": 1, "text": "x" * (1 << 18)}] * 20, **options)
    ((line, _, reason),) = bad(path)
    assert line == 0
    assert "row group 1 grows more than 500 times" in reason


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pyarrow.table([pyarrow.array([1]), pyarrow.array([2])], names=["a", "a"])
    pyarrow.parquet.write_table(table, tmp_path / "d.parquet")
    assert 'the column "a" stands in the file twice' in bad(tmp_path / "d.parquet")[0][2]


def test_without_pyarrow_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet(tmp_path / "d.parquet", [{"text": "a"}])
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ModuleNotFoundError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "pip install 'llamahome-tui[parquet]'" in bad(path)[0][2]


def test_progress_ends_at_the_size_of_the_file(tmp_path: Path) -> None:
    path = parquet(tmp_path / "d.parquet", [{"n": n} for n in range(5000)], row_group_size=100)
    told: list[int] = []
    list(read_rows(path, told.append))
    assert told == sorted(told)
    assert len(told) > 40
    assert told[-1] == path.stat().st_size
