"""Where rows stand in a file of JSON Lines, found without reading them: a row is a line that is not blank.

Lines are only counted, a block at a time; the first line of each block is noted, so that any row is found by reading
one block from there.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from typing import BinaryIO

from llamahome_tui.data import limits

_BLANK = re.compile(rb"\n[ \t\r\n\x0b\x0c]")


class LineIndex:
    """Grows block by block. `count` rows are known; places are (row, byte offset, lines before)."""

    def __init__(self, file: int, start: int) -> None:
        self._file = file  # a descriptor; where it stands is not touched
        self._offset = start
        self._rows: list[int] = [0]
        self._places: list[tuple[int, int]] = [(start, 0)]
        self._lines = 0
        self._open = 0  # bytes of the line that the last block left open
        self._spoken = False  # and whether it says anything
        self.count = 0
        self.done = False

    def step(self) -> None:
        """Look at one more block."""
        block = os.pread(self._file, limits.CHUNK, self._offset)
        if not block:
            self._close(b"")
            self.done = True
            return
        first = block.find(b"\n") + 1
        if not first:
            self._carry(block)
        else:
            self._close(block[:first])
            last = block.rfind(b"\n") + 1
            if last > first:
                self._note(self._offset + first)
                self._whole(block, first, last)
            if last < len(block):
                self._carry(block[last:])
        self._offset += len(block)

    def place(self, row: int) -> tuple[int, int, int]:
        """(row, offset, lines before) of the last place that is known at or before a row."""
        at = bisect_right(self._rows, row) - 1
        return (self._rows[at], *self._places[at])

    def _note(self, offset: int) -> None:
        if self.count > self._rows[-1]:
            self._rows.append(self.count)
            self._places.append((offset, self._lines))

    def _carry(self, piece: bytes) -> None:
        self._open += len(piece)
        self._spoken = self._spoken or not (piece.isspace() or not piece)

    def _close(self, piece: bytes) -> None:
        self._carry(piece)
        if self._open:
            self.count += self._spoken or self._open > limits.MAX_ROW_BYTES
            self._lines += piece.endswith(b"\n")
        self._open, self._spoken = 0, False

    def _whole(self, block: bytes, first: int, last: int) -> None:
        count = block.count(b"\n", first, last)
        self._lines += count
        if _BLANK.search(block, first - 1, last):
            count = sum(bool(line) and not line.isspace() for line in block[first:last].split(b"\n"))
        self.count += count


def skip(stream: BinaryIO, rows: int) -> int:
    """Pass over so many rows, without decoding them; the number of lines that were passed."""
    lines = size = 0
    spoken = False
    while rows:
        piece = stream.readline(limits.CHUNK)
        size += len(piece)
        spoken = spoken or not (piece.isspace() or not piece)
        if piece.endswith(b"\n") or not piece:
            lines += 1
            rows -= spoken or size > limits.MAX_ROW_BYTES or not piece
            spoken, size = False, 0
            if not piece:
                return lines
    return lines
