"""Any row of any file by its number: the same rows that reading it through gives, from wherever one starts."""

from __future__ import annotations

import gzip
import json
import os
import random
import tempfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from llamahome_tui.data import browse, limits
from llamahome_tui.data.browse import RowIndex
from llamahome_tui.data.rows import Bad, Row, read_rows

LENGTHS = [random.Random(n).randrange(80) for n in range(3000)]
LINES = [json.dumps({"n": n, "text": "é€" * length}, ensure_ascii=n % 3 == 0) for n, length in enumerate(LENGTHS)]


def jsonl() -> bytes:
    blank = {n: "\n  \n" if n % 50 == 0 else "\n" for n in range(len(LINES))}
    text = "".join(line + blank[n] for n, line in enumerate(LINES))
    return b"\xef\xbb\xbf\n" + text.replace(LINES[7], "broken").encode().removesuffix(b"\n")


def parquet() -> bytes:
    sink = pyarrow.BufferOutputStream()
    rows = [{"n": n, "text": "x" * length} for n, length in enumerate(LENGTHS)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink, row_group_size=400)
    return sink.getvalue().to_pybytes()


CSV = "a,b\n" + "".join(f'"{n}\n,",{"y" * length}\n' for n, length in enumerate(LENGTHS))
FILES = {
    "d.jsonl": jsonl(),
    "crlf.jsonl": jsonl().replace(b"\n", b"\r\n"),
    "d.json": ("\n[" + ",\n".join(LINES) + "]\n").encode(),
    "flat.json": ("[" + ",".join(LINES) + "]").encode(),
    "torn.json": ("[" + ",\n".join(LINES)).encode(),
    "d.csv": (CSV + "only one\n1,2\n").encode(),
    "d.tsv": CSV.replace(",", "\t").encode(),
    "d.txt": "\n\n".join(f"{n}\né" + "z" * length for n, length in enumerate(LENGTHS)).encode(),
    "d.parquet": parquet(),
    "d.jsonl.gz": gzip.compress(jsonl()),
    "d.csv.zst": zstandard.ZstdCompressor().compress(CSV.encode()),
    "torn.jsonl.gz": gzip.compress(jsonl())[:-2000],
    "spread.jsonl": b'{\n"a": 1\n}\n',
    "empty.jsonl": b"",
    "header.csv": b"a,b\n",
    "wide.jsonl": json.dumps({"a": 1}).encode("utf-16"),
}


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHUNK", 5000)
    monkeypatch.setattr(browse, "_APART", 4000)


@pytest.mark.parametrize("name", FILES)
def test_rows_by_number_are_the_rows_read_through(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FILES[name])
    rows = list(read_rows(path))
    index = RowIndex(path)
    assert index.scan(60)
    assert (index.count, index.done) == (len(rows), True)
    chance = random.Random(name)
    for start in [0, 1, len(rows) - 1, len(rows), *(chance.randrange(len(rows) + 1) for _ in range(25))]:
        count = chance.choice([1, 3, 200])
        assert index.read(start, count) == rows[max(start, 0) : start + count] or start < 0
    index.close()


@pytest.mark.parametrize("name", ["d.jsonl", "d.json", "d.csv", "d.txt", "d.jsonl.gz"])
def test_rows_can_be_read_while_the_index_grows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FILES[name])
    rows = list(read_rows(path))
    index = RowIndex(path)
    assert index.read(0, 5) == []
    counts = [0]
    while not index.scan(0):
        assert index.count >= counts[-1]
        counts.append(index.count)
        start = random.Random(len(counts)).randrange(index.count + 1)
        assert index.read(start, 4) == rows[start : min(start + 4, index.count)]
    assert len(counts) > 20


def test_the_text_of_a_row_as_it_stands_in_the_file(tmp_path: Path) -> None:
    for name, content, texts in (
        ("d.jsonl", b'{"a": 1}\n\n{"a": caf\xe9}\r\n{"a": 3}', ['{"a": 1}', '{"a": caf\ufffd}', '{"a": 3}']),
        ("d.csv", b'a,b\n"x\ny",2\n1,2,3\n4,5', ['"x\ny",2', "1,2,3", "4,5"]),
        ("d.txt", b"one\ntwo\n\nthree", ["one\ntwo", "three"]),
        ("d.json", b'[{"a": 1}]', [""]),
        ("d.jsonl.gz", gzip.compress(b'{"a": 1}\n'), [""]),
        ("d.parquet", parquet(), [""]),
        ("d", b"unknown", [""]),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        index = RowIndex(path)
        index.scan(10)
        assert [index.raw(number) for number in range(len(texts))] == texts
        assert index.raw(9999999) == index.raw(-1) == ""
        assert [index.raw(number, 3) for number in range(len(texts))] == [text[:3] for text in texts]
        assert index.read(0, len(texts)) == list(read_rows(path))[: len(texts)]


def test_a_giant_line_is_one_row_and_its_text_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_ROW_BYTES", 20_000)
    path = tmp_path / "d.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": "' + b"x" * 100_000 + b'"}\n' + b" " * 50_000 + b'\n{"a": 2}\n')
    index = RowIndex(path)
    index.scan(10)
    assert [(one.line, type(one)) for one in index.read(0, 9)] == [(1, Row), (2, Bad), (3, Bad), (4, Row)]
    assert len(index.raw(1)) == 65536
    assert index.read(3, 1) == [Row(str(path), 4, {"a": 2})]


def test_what_is_no_file_is_one_bad_row(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "none", tmp_path / "pipe"):
        index = RowIndex(path)
        assert (index.count, index.done) == (1, True)
        assert index.read(0, 9) == list(read_rows(path))


@given(st.lists(st.sampled_from([b"\n", b" \n", b'{"a": 1}\n', b"x\r\n", b"\t{}\n", b'{"b":', b" ", b"\x0b\n"])))
def test_lines_are_counted_as_they_are_read(pieces: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "d.jsonl")
        path.write_bytes(b'{"n": 0}\n' + b"".join(pieces))
        rows = list(read_rows(path))
        for chunk in (1, 3, 16, 100):
            before, limits.CHUNK = limits.CHUNK, chunk
            try:
                index = RowIndex(path)
                index.scan(10)
                assert index.count == len(rows)
                assert [index.read(number, 1)[0] for number in range(len(rows))] == rows
            finally:
                limits.CHUNK = before
