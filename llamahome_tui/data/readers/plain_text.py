"""Plain text: a row is what stands between blank lines, under the column text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from llamahome_tui.data import limits
from llamahome_tui.data.readers.cursor import Cursor, Progress
from llamahome_tui.data.readers.jsonl import not_utf8
from llamahome_tui.data.row import Bad, Read, Row


def rows(stream: BinaryIO, name: str, cursor: Cursor, progress: Progress) -> Iterator[Read]:
    """The texts of a stream that begins after line `cursor.line` at byte `cursor.offset`."""
    number, offset = cursor.line, max(cursor.offset, 0)
    most = limits.MAX_ROW_BYTES
    held: list[bytes] = []
    size = 0
    start = (number + 1, offset)
    while True:
        raw = stream.readline(limits.CHUNK)
        blank = not raw or (raw.isspace() and (not held or held[-1].endswith(b"\n")))
        if blank and held:
            cursor.at(*start)
            yield _row(held, name, start[0]) if size <= most else _too_long(name, start[0])
            progress()
            held, size = [], 0
        if not raw:
            return
        if not blank:
            if not held:
                start = (number + 1, offset)
            size += len(raw)
            # Of a text over the limit only its end is kept, to know where it ends.
            held.append(raw)
            if size > most:
                held = held[-1:]
        number += raw.endswith(b"\n")
        offset += len(raw)


def _row(held: list[bytes], name: str, line: int) -> Read:
    raw = b"".join(held)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw.count(b"\n", 0, error.start)
        return Bad(name, line + before, "", not_utf8(raw[error.start], "in this line"))
    if "\0" in text:
        return Bad(name, line + text.count("\n", 0, text.index("\0")), "", "holds a NUL character")
    return Row(name, line, {"text": text.replace("\r\n", "\n").rstrip("\n")})


def _too_long(name: str, line: int) -> Bad:
    most = limits.MAX_ROW_BYTES >> 20
    return Bad(name, line, "", f"the text is longer than {most} MiB: set its documents apart with blank lines")
