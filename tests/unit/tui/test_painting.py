"""The stream that is painted on: what it cannot encode moves nothing and ends no thread."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamahome_tui.tui.painting import settle


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = os.openpty()
    yield ours, theirs
    os.close(ours)


def painted(monkeypatch: pytest.MonkeyPatch, terminal: tuple[int, int], environ: dict[str, str]) -> bytes:
    """What reaches the terminal of a line with wide, narrow and impossible characters."""
    ours, theirs = terminal
    with io.TextIOWrapper(io.FileIO(theirs, "w"), encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "__stderr__", stream)
        settle(environ)
        stream.write("a\u65e5b\u00e9c\ud800d")
        stream.flush()
        return os.read(ours, 100)


def test_each_cell_of_what_cannot_be_written_is_a_question_mark(
    monkeypatch: pytest.MonkeyPatch, terminal: tuple[int, int]
) -> None:
    assert painted(monkeypatch, terminal, {"LC_ALL": "C"}) == b"a??b?c?d"


def test_what_can_be_written_is(monkeypatch: pytest.MonkeyPatch, terminal: tuple[int, int]) -> None:
    assert painted(monkeypatch, terminal, {}) == "a\u65e5b\u00e9c?d".encode()


def test_errors_sent_to_a_file_do_not_take_the_terminal_along(
    monkeypatch: pytest.MonkeyPatch, terminal: tuple[int, int]
) -> None:
    _, theirs = terminal
    with Path(os.devnull).open("w") as nowhere, io.TextIOWrapper(io.FileIO(theirs, "w"), encoding="latin-1") as stream:
        monkeypatch.setattr(sys, "__stderr__", nowhere)
        monkeypatch.setattr(sys, "__stdout__", stream)
        settle({})
        assert sys.__stderr__ is stream
