"""Plain text: one row between blank lines, with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamahome_tui.data import limits
from llamahome_tui.data.rows import Row, read_rows
from tests.unit.data.readers.files import bad, good, write


def test_blank_lines_set_texts_apart(tmp_path: Path) -> None:
    text = "\n one\n two\r\nthree\n\n \t\nfour\n\n\n"
    assert good(write(tmp_path, "d.txt", text)) == [(2, {"text": " one\n two\nthree"}), (7, {"text": "four"})]
    assert good(write(tmp_path, "bom.txt", "\ufeffone\n\ntwo")) == [(1, {"text": "one"}), (3, {"text": "two"})]
    assert good(write(tmp_path, "blank.txt", "\n\n")) == []


def test_lines_longer_than_a_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHUNK", 8)
    text = "a" * 20 + "        " + "b" * 4 + "\n\n" + "c" * 8 + "\n" + "        \n" + "d"
    values = [value["text"] for _, value in good(write(tmp_path, "d.txt", text))]
    assert values == ["a" * 20 + "        bbbb", "c" * 8, "d"]


def test_what_cannot_be_used_names_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_ROW_BYTES", 100)
    content = b"one\n\ntwo\ncaf\xe9\n\nthree\n\0\n\n" + b"long \n" * 50 + b"\n\nlast"
    path = write(tmp_path, "d.txt", content)
    assert [(one.line, isinstance(one, Row)) for one in read_rows(path)] == [
        (1, True),
        (4, False),
        (7, False),
        (9, False),
        (61, True),
    ]
    assert ["UTF-8" in bad(path)[0][2], "NUL" in bad(path)[1][2], "blank lines" in bad(path)[2][2]] == [True] * 3
