"""What a file is: told by its content; what is no data file is one sentence that says what to do, at once."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from llamahome_tui.data.rows import Row, read_rows
from tests.unit.data.readers.files import bad, good, write


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("d.jsonl", '{"a": 1}'.encode("utf-16"), "UTF-16"),
        ("d.jsonl", '{"a": 1}'.encode("utf-16-le"), "iconv -f UTF-16LE"),
        ("d.csv", "a,b\n".encode("utf-16-be"), "iconv -f UTF-16BE"),
        ("d.jsonl", '{"a": 1}'.encode("utf-32"), "UTF-32"),
        ("d.xlsx", b"PK\x03\x04....", "export it as CSV"),
        ("d.jsonl.bz2", b"BZh9....", "bunzip2"),
        ("d.jsonl.xz", b"\xfd7zXZ\0...", "unxz"),
        ("d.arrow", b"ARROW1\0\0", "Parquet"),
        ("d.db", b"SQLite format 3\0", "CSV"),
        ("d.jsonl", b"question,answer\n1,2\n", "rename it to what it is"),
        ("d.json", b"", ""),
        ("d.txt", b'{"text": "x"}\n', "rename it to .jsonl"),
        ("d.dat", b"anything", "name it .jsonl"),
        ("d", b"anything", "name it .jsonl"),
        ("d.gz", b"anything", "is no gzip archive"),
        ("d.zst", b"anything", "is no zstd archive"),
    ],
)
def test_what_a_file_is_not(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    found = bad(write(tmp_path, name, content))
    assert len(found) == bool(content)
    assert reason in (found[0][2] if found else "")


def test_json_is_known_under_any_name(tmp_path: Path) -> None:
    for name in ("d", "d.data", "d.JSON", "d.jsonl"):
        assert good(write(tmp_path, name, '{"a": 1}')) == [(1, {"a": 1})]
        assert good(write(tmp_path, name, ' [{"a": 1}]')) == [(1, {"a": 1})]


def test_latin_1_says_how_to_convert_it(tmp_path: Path) -> None:
    ((line, _, reason),) = bad(write(tmp_path, "d.jsonl", '{"a": 1}\n{"a": "é"}\n'.encode("latin-1")))
    assert line == 2
    assert "iconv" in reason


def test_what_is_no_file_answers_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        for path, words in (
            (tmp_path / "none.jsonl", "No such file"),
            (tmp_path, "a folder"),
            (tmp_path / "pipe.jsonl", "a pipe"),
            (Path("/dev/zero"), "a device"),
            (tmp_path / "s", "cannot be read"),
        ):
            ((_, _, reason),) = bad(path)
            assert reason.startswith("cannot be read")
            assert words in reason


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    path = write(tmp_path, "d.jsonl", "{}")
    monkeypatch.setattr(os, "open", refused)
    assert bad(path) == [(0, "", "cannot be read: Permission denied")]


def test_what_the_listener_raises_passes_through(tmp_path: Path) -> None:
    path = write(tmp_path, "d.jsonl", '{"a": 1}\n' * 100_000)

    def gone(_: int) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        list(read_rows(path, gone))


def test_ten_thousand_columns(tmp_path: Path) -> None:
    header = ",".join(f"c{n}" for n in range(10_000))
    path = write(tmp_path, "d.csv", f"{header}\n" + ",".join("x" * 10_000) + "\n")
    (row,) = read_rows(path)
    assert isinstance(row, Row)
    assert len(row.value) == 10_000
