"""Reads log files of any size: from the end, by line number, or as they grow; memory never follows the file's size.

Bytes are read, not mapped: a file that another program cuts short under a mapping would kill this process.
"""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from pathlib import Path
from types import TracebackType

LONGEST_LINE = 64 * 1024  # bytes of a line that are ever shown
_FORWARD = 1 << 20
_BACKWARD = 1 << 16


class Change(Enum):
    """What has happened to the file since it was looked at last."""

    NONE = "none"
    GREW = "grew"
    REPLACED = "replaced"  # rotated, cut or written anew: every offset and number is void
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its newline; `offset` is the byte where it starts, `end` the byte after its newline."""

    offset: int
    end: int
    text: str


class LogReader:
    """A view of a growing file. What it shows changes only when `refresh` is called.

    A last line without a newline does not count yet: its writer is not done. For one thread at a time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0  # bytes up to the end of the last complete line
        self._handle = -1
        self._seen = 0  # bytes of the file looked at, complete lines or not
        self._starts = array("Q", [0])  # start of every line indexed so far, and of the one after them
        self._indexed = 0
        self.refresh()

    def refresh(self) -> Change:
        """Take in what was appended; says so when the file was replaced, cut or is gone."""
        try:
            facts = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            self.close()
            return Change.MISSING
        replaced = False
        if self._handle >= 0:
            ours = os.fstat(self._handle)
            replaced = (facts.st_dev, facts.st_ino) != (ours.st_dev, ours.st_ino) or ours.st_size < self._seen
        if replaced:
            self.close()
        if self._handle < 0:
            try:
                self._handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return Change.MISSING
        length = os.fstat(self._handle).st_size
        before, self._seen = self._seen, length
        if length > before:
            newest = self._newline_before(length, before)
            if newest >= before:
                self.size = newest + 1
                return Change.REPLACED if replaced else Change.GREW
        return Change.REPLACED if replaced else Change.NONE

    def forward(self, offset: int = 0) -> Iterator[Line]:
        """Lines from the byte `offset`, which must be the start of a line, to the end."""
        start = position = offset
        pending = b""
        while position < self.size:
            block = self._read(position, min(self.size, position + _FORWARD))
            if not block:
                return  # cut under us; the next refresh says so
            begin = 0
            while (cut := block.find(b"\n", begin)) >= 0:
                end = position + cut + 1
                yield _line(start, end, pending + block[begin : min(cut, begin + LONGEST_LINE)])
                start, begin, pending = end, cut + 1, b""
            pending += block[begin : begin + max(0, LONGEST_LINE - len(pending))]
            position += len(block)

    def backward(self, end: int | None = None) -> Iterator[Line]:
        """Lines from the one that ends at the byte `end` (default: the last) to the first."""
        high = self.size if end is None else end
        while high > 0:
            low = max(0, high - _BACKWARD)
            block = self._read(low, high)
            if len(block) < high - low:
                return  # cut under us
            cursor = len(block)
            while cursor > 0:
                start = block.rfind(b"\n", 0, cursor - 1) + 1
                if start == 0 and low > 0:
                    break
                yield _line(low + start, low + cursor, block[start : min(cursor - 1, start + LONGEST_LINE)])
                cursor = start
            if cursor == len(block):  # a line longer than the block
                first = self._newline_before(low, 0) + 1
                yield _line(first, high, self._read(first, min(high - 1, first + LONGEST_LINE)))
                high = first
            else:
                high = low + cursor

    def tail(self, count: int) -> list[Line]:
        """The last lines, oldest first; reads no more of the file than they take."""
        return list(islice(self.backward(), count))[::-1]

    def count(self) -> int:
        """How many complete lines there are; indexes what is new (about 0.2 s for a million lines)."""
        self._index(None)
        return len(self._starts) - 1

    def line(self, number: int) -> Line:
        """The line of that number, from 0; raises IndexError."""
        self._index(number)
        if not 0 <= number < len(self._starts) - 1:
            raise IndexError(number)
        start, end = self._starts[number], self._starts[number + 1]
        return _line(start, end, self._read(start, min(end - 1, start + LONGEST_LINE)))

    def start_of_line_at(self, position: int) -> int:
        """The start of the line that the byte `position` belongs to."""
        return self._newline_before(position, 0) + 1

    def close(self) -> None:
        """Give the file back; the reader is empty until the next refresh."""
        if self._handle >= 0:
            os.close(self._handle)
        self._handle, self.size, self._seen, self._indexed = -1, 0, 0, 0
        self._starts = array("Q", [0])

    def __enter__(self) -> LogReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, start: int, stop: int) -> bytes:
        return os.pread(self._handle, stop - start, start) if self._handle >= 0 and stop > start else b""

    def _newline_before(self, position: int, floor: int) -> int:
        """The last newline in the bytes from `floor` up to (without) `position`, or `floor` - 1 where there is none."""
        while position > floor:
            low = max(floor, position - _BACKWARD)
            found = self._read(low, position).rfind(b"\n")
            if found >= 0:
                return low + found
            position = low
        return floor - 1

    def _index(self, upto: int | None) -> None:
        """Find line starts, block by block, until the line `upto` is known (None: all)."""
        while self._indexed < self.size and (upto is None or len(self._starts) - 1 <= upto):
            block = self._read(self._indexed, min(self.size, self._indexed + _FORWARD))
            if not block:
                return
            self._starts.extend(self._indexed + found.end() for found in re.finditer(b"\n", block))
            self._indexed += len(block)


def _line(start: int, end: int, head: bytes) -> Line:
    text = head[:LONGEST_LINE].decode("utf-8", "replace").removesuffix("\r")
    return Line(start, end, text if end - start - 1 <= LONGEST_LINE else text + "…")
