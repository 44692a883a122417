"""Rows are streamed with their lines; every kind of broken file names file, line and reason, in bounded memory."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamahome_tui.data import limits
from llamahome_tui.data.rows import Bad, Row, read_rows
from tests.unit.data.readers.files import bad, good, write


def test_json_lines(tmp_path: Path) -> None:
    assert good(write(tmp_path, "d.jsonl", '{"a": 1}\n\n  \n{"a": "\u00e9"}')) == [(1, {"a": 1}), (4, {"a": "é"})]
    assert good(write(tmp_path, "d.jsonl", b'\xef\xbb\xbf{"a": 1}\r\n{"a": 2}\r\n')) == [(1, {"a": 1}), (2, {"a": 2})]


@pytest.mark.parametrize("indent", [None, 1])
def test_json_arrays(tmp_path: Path, indent: int | None) -> None:
    values = [{"a": n, "b": ["x\ny", {"c": None}]} for n in range(5)]
    text = json.dumps(values, indent=indent)
    found = good(write(tmp_path, "d.json", text))
    assert [value for _, value in found] == values
    if indent:
        assert all(text.splitlines()[line - 1].strip() == "{" for line, _ in found)
    else:
        assert [line for line, _ in found] == [1, 2, 3, 4, 5]  # they share a line: which one is told by number


def test_what_is_broken_in_an_array_on_one_line_is_told_by_number(tmp_path: Path) -> None:
    flat = write(tmp_path, "d.json", '[{"a": 1}, {"a": 2}, 3, {"a"}]')
    assert bad(flat) == [(3, "", "is no object but a number"), (4, "", ANY)]
    assert bad(write(tmp_path, "d.json", '[{"a": 1}, {"a": 2} {}]')) == [(2, "", "is not JSON: expected a comma or ]")]
    comma = "is not JSON: a comma before the closing ]"
    assert bad(write(tmp_path, "d.json", '[\n{"a": 1},\n{"a": 2},\n]\n')) == [(4, "", comma)]


def test_nul_bytes_are_called_that(tmp_path: Path) -> None:
    path = write(tmp_path, "d.jsonl", b'{"a": 1}\n\0\0\0\n{"a": "\0"}\n' + b"\0" * 5000)
    nul = "holds NUL bytes, as where a disk was full or a machine failed"
    assert bad(path) == [(2, "", nul), (3, "", nul), (4, "", nul)]
    tab = write(tmp_path, "d.jsonl", '{"a": "\t"}')
    assert bad(tab) == [(1, "", "is not JSON: Invalid control character at column 8")]


def test_arrays_larger_than_a_piece_and_rows_across_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHUNK", 64)
    values = [{"n": n, "text": "é€😀" * (n % 40)} for n in range(200)]
    text = (
        "\ufeff[\n" + ",\n".join(json.dumps(value, ensure_ascii=n % 2 == 0) for n, value in enumerate(values)) + "\n]\n"
    )
    assert good(write(tmp_path, "d.jsonl", text)) == [(n + 2, value) for n, value in enumerate(values)]


def test_an_empty_array_and_an_empty_file_have_no_rows(tmp_path: Path) -> None:
    assert good(write(tmp_path, "d.jsonl", "[ ]")) == []
    assert good(write(tmp_path, "d.jsonl", "")) == []
    assert good(write(tmp_path, "d.jsonl", "\n \n")) == []


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (b'{"a": 1}\n{"a": \n', 2, "not JSON"),
        (b'{"a": 1}\n[1]\n', 2, "a list"),
        (b'{"a": 1}\n"x"\n', 2, "a text"),
        (b'{"a": 1}\nnull\n', 2, "null"),
        (b'{"a": 1}\n{"a": NaN}\n', 2, "NaN"),
        (b'{"a": 1}\n{"a": -Infinity}\n', 2, "-Infinity"),
        (b'{"a": 1}\n{"a": 1e999}\n', 2, "too large a number"),
        (b'{"a": 1}\n\xef\xbb\xbf{"a": 1}\n', 2, "byte order mark"),
        (b'{"a": 1}\n{"a": 1} {"a": 2}\n', 2, "column 10"),
        (b'{"a": 1}\n{"a": "\xff"}\n', 2, "UTF-8"),
        ('{\n "a": 1\n}\n{\n', 1, "one object per line"),
        (b'[{"a": 1}]\n{"a": 2}', 2, "follows the array"),
        (b'{"a": 1}\n{"a": "x\\u0000"}\n', 2, "NUL"),
        (b'{"a": 1}\n{"a": [{"b": "x\\u0000"}]}\n', 2, "NUL"),
        (b'{"a": 1}\n{"a": {"b": ["x\\ud800"]}}\n', 2, "half of a character"),
        (b'{"a": 1}\n{"x\\udc00": 1}\n', 2, "half of a character"),
        (b'{"a": 1}\n\x00\x00\x00\n', 2, "NUL bytes"),
        (b'{"a": 1}\n{"a": ' + b"[" * 50_000 + b"\n", 2, "deep"),
        (b'{"a": 1}\n{"a": ' + b"[" * 80 + b"]" * 80 + b"}\n", 2, "deeper"),
        (b'{"a": 1}\n{"a": ' + b"9" * 10_000 + b"}\n", 2, "not JSON"),
        ('{"a": 1}'.encode("utf-16"), 1, "UTF-16"),
        (b"\x1f\x8b\x08\x00", 1, "gzip"),
        (b'[\n{"a": 1},\n{"a": 2\n}, {"a"\n: }]', 5, "not JSON"),
        (b'[\n{"a": 1}\n{"a": 2}]', 3, "comma"),
        (b'[\n{"a": 1},\n]', 3, "comma"),
        (b'[\n{"a": 1},\n', 3, "does not end"),
        (b'[\n{"a": 1}\n', 3, "does not end"),
        (b'[\n{"a": 1},\n{"a": "\xff"}]', 3, "UTF-8"),
        (b'[\n{"a": 1},\n3]', 3, "a number"),
        (b"[" * 100_000, 1, "deep"),
    ],
)
def test_what_is_broken_names_its_line(tmp_path: Path, content: bytes, line: int, reason: str) -> None:
    path = write(tmp_path, "d.jsonl", content)
    bad = [one for one in read_rows(path) if isinstance(one, Bad)]
    assert len(bad) == 1
    assert (bad[0].file, bad[0].line) == (str(path), line)
    assert reason in bad[0].reason


def test_a_broken_line_costs_that_line_only(tmp_path: Path) -> None:
    path = write(tmp_path, "d.jsonl", '{"a": 1}\nbroken\n{"a": 3}\n')
    assert [type(one) for one in read_rows(path)] == [Row, Bad, Row]


@pytest.mark.parametrize("opening", [b'{"a": "', b'[\n{"a": "'])
def test_giant_rows_take_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opening: bytes) -> None:
    monkeypatch.setattr(limits, "MAX_ROW_BYTES", 1 << 20)
    path = tmp_path / "d.jsonl"
    with path.open("wb") as stream:
        stream.write(opening)
        for _ in range(40):
            stream.write(b"x" * (1 << 20))
        stream.write(b'"}\n')
    tracemalloc.start()
    found = list(read_rows(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [type(one) for one in found] == [Bad]
    assert peak < 24 << 20


def test_progress_tells_where_the_reading_is(tmp_path: Path) -> None:
    path = write(tmp_path, "d.jsonl", '{"a": 1}\n' * 10)
    told: list[int] = []
    list(read_rows(path, told.append))
    assert told == sorted(told)
    assert told[-1] == path.stat().st_size


@given(st.binary(max_size=200))
def test_any_bytes_are_rows_or_reasons(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for one in read_rows(write(Path(folder), "d.jsonl", content)):
            assert isinstance(one, Row) or one.reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5), lambda i: st.lists(i, max_size=3)
)


@given(st.lists(st.dictionaries(st.text(max_size=3), JSON, max_size=3), max_size=6), st.sampled_from([None, 0, 2]))
def test_what_json_writes_is_read_back(values: list[Any], indent: int | None) -> None:
    import tempfile

    values = [value for value in values if "\0" not in json.dumps(value).replace("\\u0000", "\0")]
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), "d.jsonl", json.dumps(values, indent=indent, ensure_ascii=False))
        assert [value for _, value in good(path)] == values
