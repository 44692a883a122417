"""Plain text: a row is what stands between blank lines, under the column text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from llamahome_tui.data import limits
from llamahome_tui.data.readers.cursor import Cursor, Progress
from llamahome_tui.data.readers.jsonl import not_utf8
from llamahome_tui.data.row import Bad, Read, Row

_BLANK_LINES = re.compile(rb"(?:[ \t\r\x0b\x0c]*\n)+")
_END = re.compile(rb"\n[ \t\r\x0b\x0c]*\n")


def rows(stream: BinaryIO, name: str, cursor: Cursor, progress: Progress) -> Iterator[Read]:
    """The texts of a stream that begins after line `cursor.line` at byte `cursor.offset`."""
    text = _Text(stream, cursor)
    while True:
        text.skip_blank_lines()
        line, offset = text.line + 1, text.offset
        held = text.until_blank_line(progress)
        if held is None:
            return
        cursor.at(line, offset)
        if len(held) > limits.MAX_ROW_BYTES:
            most = limits.MAX_ROW_BYTES >> 20
            yield Bad(name, line, "", f"the text is longer than {most} MiB: set its documents apart with blank lines")
        else:
            yield _row(held, name, line)
        progress()


def _row(raw: bytes, name: str, line: int) -> Read:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw.count(b"\n", 0, error.start)
        return Bad(name, line + before, "", not_utf8(raw[error.start], "in this line"))
    if "\0" in text:
        return Bad(name, line + text.count("\n", 0, text.index("\0")), "", "holds a NUL character")
    return Row(name, line, {"text": text.replace("\r\n", "\n").rstrip("\r\n")})


class _Text:
    """Bytes of a stream ahead of the place that was read to, a little more than one text of them."""

    def __init__(self, stream: BinaryIO, cursor: Cursor) -> None:
        self._stream = stream
        self._ahead = b""
        self.line = cursor.line  # lines before
        self.offset = max(cursor.offset, 0)

    def skip_blank_lines(self) -> None:
        while True:
            if found := _BLANK_LINES.match(self._ahead):
                self._take(found.end())
            if self._ahead and not self._ahead.isspace():
                return
            # White space that no line end closes yet may be how a text begins; of a giant one nothing is kept.
            if len(self._ahead) > limits.MAX_ROW_BYTES:
                self._take(len(self._ahead))
            if not self._more():
                self._take(len(self._ahead))
                return

    def until_blank_line(self, progress: Progress) -> bytes | None:
        """The text that begins here; None at the end. Of one over the limit no more than its beginning is kept."""
        if not self._ahead:
            return None
        looked = 0
        kept = b""
        while not (end := _END.search(self._ahead, looked)):
            looked = max(self._ahead.rfind(b"\n"), 0)
            if len(self._ahead) > limits.MAX_ROW_BYTES:
                kept = kept or self._ahead
                self._take(len(self._ahead) if self._ahead[looked:].strip() else looked)
                looked = 0
            progress()
            if not self._more():
                rest = self._take(len(self._ahead))
                return kept or rest
        text = self._take(end.start() + 1)
        return kept or text

    def _more(self) -> bool:
        piece = self._stream.read(limits.CHUNK)
        self._ahead += piece
        return bool(piece)

    def _take(self, count: int) -> bytes:
        taken, self._ahead = self._ahead[:count], self._ahead[count:]
        self.line += taken.count(b"\n")
        self.offset += count
        return taken
