"""One JSON array of objects, decoded element by element from a buffer that holds little more than the current one."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from llamahome_tui.data import limits
from llamahome_tui.data.json_values import DECODER, suspicious
from llamahome_tui.data.readers.cursor import Cursor, Progress
from llamahome_tui.data.readers.jsonl import not_utf8
from llamahome_tui.data.row import Bad, Read, row_of

_SPACE = re.compile(r"[ \t\r\n]*")


def rows(stream: BinaryIO, name: str, cursor: Cursor, progress: Progress, *, number: int = 0) -> Iterator[Read]:
    """The elements; the array ends where it is broken.

    With a `number` the stream begins at `cursor`, with the element that has so many before it. An array is often
    written on one line: an element that begins on the line of the one before it has its number in place of that line.
    """
    text = _Text(stream, cursor, progress)
    before, beside = 0, False
    try:
        if not number:
            text.skip_space()
            text.take(1)  # the opening bracket
            text.skip_space()
        while text.peek() != "]":
            number += 1
            before, beside = text.line, text.line == before
            line = number if beside else before
            value, look = text.value()
            cursor.at(line, text.row_offset)
            yield row_of(value, name, line, look=look)
            text.skip_space()
            if text.peek() == ",":
                text.take(1)
                text.skip_space()
                if text.peek() == "]":
                    raise _Broken("is not JSON: a comma before the closing ]")
            elif text.peek() != "]":
                said = "the array does not end" if text.peek() == "" else "expected a comma or ]"
                raise _Broken(f"is not JSON: {said}")
        text.take(1)
        text.skip_space()
        if text.peek():
            raise _Broken("is not JSON: something follows the array")
    except (_Broken, RecursionError) as broken:
        line = number if beside and text.line == before else text.line
        yield Bad(name, line, "", str(broken) if isinstance(broken, _Broken) else "is nested too deep")


class _Broken(Exception):
    """The array cannot be read further."""


class _Text:
    """UTF-8 text of a stream with a cursor and the line it is on; only what lies ahead is kept."""

    def __init__(self, stream: BinaryIO, cursor: Cursor, progress: Progress) -> None:
        self._stream = stream
        self._progress = progress
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self._buffer = ""
        self._at = 0
        self._ended = False
        self._offset = max(cursor.offset, 0)  # of the buffer's first character
        self.line = max(cursor.line, 1)
        self.row_offset = -1

    def peek(self) -> str:
        """The next character, or "" at the end."""
        if self._at >= len(self._buffer) and not self._ended:
            self._more()
        return self._buffer[self._at : self._at + 1]

    def take(self, count: int) -> None:
        end = self._at + count
        self.line += self._buffer.count("\n", self._at, end)
        self._at = end

    def skip_space(self) -> None:
        while self.peek() and self.peek() in " \t\r\n":
            found = _SPACE.match(self._buffer, self._at)
            self.take(found.end() - self._at if found else 1)

    def value(self) -> tuple[Any, bool]:
        """The next JSON value, and whether it may hold what a tokenizer does not take.

        More is read until one decodes; the size doubles, so that the work stays linear.
        """
        if self.peek() == "":
            raise _Broken("is not JSON: the array does not end")
        wanted = limits.CHUNK
        while True:
            self.row_offset = self._offset if self._at == 0 else -1
            try:
                value, end = DECODER.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                held = len(self._buffer) - self._at
                # An error well before the end of what is here will not be healed by reading on.
                if self._ended or (error.pos < len(self._buffer) - 16 and not error.msg.startswith("Unterminated")):
                    self.line += self._buffer.count("\n", self._at, error.pos)
                    raise _Broken(f"is not JSON: {error.msg}") from None
                if held > limits.MAX_ROW_BYTES:
                    raise _Broken(f"the row is longer than {limits.MAX_ROW_BYTES >> 20} MiB") from None
                self._more(wanted)
                wanted *= 2
                continue
            except ValueError as error:
                raise _Broken(f"is not JSON: {str(error)[:100]}") from None
            # A number at the end of the buffer may go on in the next piece; objects and texts end by themselves.
            if end == len(self._buffer) and not self._ended and isinstance(value, int | float):
                self._more()
                continue
            look = suspicious(self._buffer, self._at, end)
            self.take(end - self._at)
            return value, look

    def _more(self, size: int = 0) -> None:
        raw = self._stream.read(size or limits.CHUNK)
        self._ended = not raw
        try:
            text = self._decoder.decode(raw, not raw)
        except UnicodeDecodeError as error:
            good = error.object[: error.start].count(b"\n")
            self.line += self._buffer.count("\n", self._at) + good
            raise _Broken(not_utf8(error.object[error.start], "in this line")) from None
        self._offset += len(self._buffer[: self._at].encode())
        self._buffer = self._buffer[self._at :] + text
        self._at = 0
        self._progress()
