"""Any row of a file of any size, for looking: an index that grows while one waits, and never holds the rows.

JSON Lines are indexed by counting lines. Of other files the rows are read once, and places noted from where reading
can begin again; Parquet knows its own. An archive has no such places: going back in it reads it from the start.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

from llamahome_tui.data.line_index import LineIndex, skip
from llamahome_tui.data.readers import jsonl
from llamahome_tui.data.readers.cursor import Cursor, Progress, Unreadable
from llamahome_tui.data.readers.source import Source, opened
from llamahome_tui.data.rows import Bad, Read, Row, guarded, unopened

_APART = 1 << 18  # bytes between two places of a file that has to be read to be indexed
_STEP_ROWS = 64
_SPREAD = (b"{", b"[")
_RAW = 65536
_SILENT = Progress(None, int)


class RowIndex:
    """Random access to the rows of one file, numbered from 0; bad ones count.

    For one thread, but `count` and `done` may be read from any.
    """

    def __init__(self, path: Path) -> None:
        self._name = str(path)
        self._kind: _Kind = _kind_of(path, self._name)

    @property
    def count(self) -> int:
        """Rows known so far."""
        return self._kind.count

    @property
    def done(self) -> bool:
        """Whether all rows are known."""
        return self._kind.done

    def scan(self, budget_s: float) -> bool:
        """Index further for about so long, at least by one step; True once all rows are known."""
        end = time.monotonic() + budget_s
        while not self._kind.done:
            self._kind.step()
            if time.monotonic() >= end:
                break
        return self._kind.done

    def read(self, start: int, count: int) -> list[Read]:
        """Rows by number, of those that are indexed."""
        count = min(count, self._kind.count - start)
        return self._kind.read(start, count) if count > 0 and start >= 0 else []

    def raw(self, number: int, limit: int = _RAW) -> str:
        """The row as it stands in the file, cut at `limit` characters; "" where it does not stand there as text."""
        found = self._kind.raw(number, limit * 4) if 0 <= number < self._kind.count else b""
        return found.decode("utf-8", errors="replace").rstrip("\r\n")[:limit]

    def close(self) -> None:
        """Close the file."""
        self._kind.close()


class _Kind(Protocol):
    """How rows are found in one kind of file."""

    count: int
    done: bool

    def step(self) -> None: ...
    def read(self, start: int, count: int) -> list[Read]: ...
    def raw(self, number: int, size: int) -> bytes: ...
    def close(self) -> None: ...


def _kind_of(path: Path, name: str) -> _Kind:
    try:
        source = opened(path)
    except (Unreadable, OSError) as error:
        return _Unopened(unopened(name, error))
    if source.parquet is not None:
        return _Numbered(source, name)
    if source.kind == "lines" and not source.packing and not _is_spread(source):
        return _Counted(source, name)
    return _Walked(source, name)


def _is_spread(source: Source) -> bool:
    """Whether the first line is a bracket alone: such a file is one bad row, however many lines it has."""
    first = next((line for line in iter(lambda: source.stream.readline(4096), b"") if not line.isspace()), b"")
    return first.strip() in _SPREAD


class _Unopened:
    """A file that cannot be opened: one bad row."""

    def __init__(self, fault: Bad) -> None:
        self.count, self.done = 1, True
        self._fault = fault

    def step(self) -> None:
        """Nothing more is there."""

    def read(self, start: int, count: int) -> list[Read]:
        return [self._fault]

    def raw(self, number: int, size: int) -> bytes:
        return b""

    def close(self) -> None:
        """Nothing is open."""


class _Counted:
    """JSON Lines."""

    def __init__(self, source: Source, name: str) -> None:
        self._source = source
        self._name = name
        self._index = LineIndex(source.raw.fileno(), source.start)
        self.count, self.done = 0, False

    def step(self) -> None:
        try:
            self._index.step()
        except OSError:
            self._index.done = True
        self.count, self.done = self._index.count, self._index.done

    def read(self, start: int, count: int) -> list[Read]:
        cursor = self._go(start)
        reading = guarded(jsonl.rows(self._source.stream, self._name, cursor, _SILENT), self._name, cursor, _SILENT)
        return list(islice(reading, count))

    def raw(self, number: int, size: int) -> bytes:
        self._go(number)
        for line in iter(lambda: self._source.stream.readline(size), b""):
            if not line.isspace():
                return line
        return b""

    def close(self) -> None:
        self._source.close()

    def _go(self, number: int) -> Cursor:
        row, offset, lines = self._index.place(number)
        self._source.stream.seek(offset)
        return Cursor(lines + skip(self._source.stream, number - row))


class _Numbered:
    """Parquet, whose footer says how many rows stand in which group."""

    def __init__(self, source: Source, name: str) -> None:
        self._source = source
        self._name = name
        assert source.parquet is not None
        self.count, self.done = source.parquet.count, True

    def step(self) -> None:
        """All is known."""

    def read(self, start: int, count: int) -> list[Read]:
        cursor = Cursor(start)
        reading = self._source.rows_from(self._name, cursor, _SILENT, number=start, header=[])
        return list(islice(guarded(reading, self._name, cursor, _SILENT), count))

    def raw(self, number: int, size: int) -> bytes:
        return b""

    def close(self) -> None:
        self._source.close()


class _Walked:
    """What has to be read to be indexed: one reader goes on, another goes where it is asked."""

    def __init__(self, source: Source, name: str) -> None:
        self._name = name
        self._sources = [source, opened(source.path)]
        self._cursor = Cursor()
        if not source.packing:
            source.stream.seek(source.start)
        self._scanning = guarded(source.rows(name, self._cursor, _SILENT), name, self._cursor, _SILENT)
        self._header: list[str] = []
        self._can_return = False  # to a place: not in an archive, and not before the columns are known
        self._rows = [0]
        self._places = [Cursor(0, source.start)]
        self._ahead: Iterator[Read] = iter(())
        self._next = -1  # the number of the row that `_ahead` gives next
        self.count, self.done = 0, False

    def step(self) -> None:
        seen = 0
        for read in islice(self._scanning, _STEP_ROWS):
            seen += 1
            if not self._header and isinstance(read, Row):
                self._header = list(read.value)
                self._can_return = not self._sources[0].packing
            if self._can_return and self._cursor.offset >= self._places[-1].offset + _APART:
                self._rows.append(self.count)
                self._places.append(Cursor(self._cursor.line, self._cursor.offset))
            self.count += 1
        self.done = seen < _STEP_ROWS

    def read(self, start: int, count: int) -> list[Read]:
        at = bisect_right(self._rows, start) - 1
        if not self._rows[at] <= self._next <= start:
            self._ahead, _ = self._from(at)
            self._next = self._rows[at]
        found = list(islice(self._ahead, start - self._next, start - self._next + count))
        self._next = start + len(found) if len(found) == count else -1
        return found

    def raw(self, number: int, size: int) -> bytes:
        source = self._sources[1]
        if source.packing or source.kind == "array":
            return b""
        at = bisect_right(self._rows, number) - 1
        self._next = -1
        reading, cursor = self._from(at)
        places = [cursor.offset for _ in islice(reading, number + 2 - self._rows[at])]
        first = number - self._rows[at]
        if first >= len(places) or places[first] < 0:
            return b""
        end = places[first + 1] if first + 1 < len(places) else source.size
        source.stream.seek(places[first])
        return source.stream.read(min(size, end - places[first]))

    def close(self) -> None:
        for source in self._sources:
            source.close()

    def _from(self, at: int) -> tuple[Iterator[Read], Cursor]:
        """The rows from a place on."""
        if self._sources[1].packing:
            self._sources[1].close()
            self._sources[1] = opened(self._sources[1].path)
        place = self._places[at]
        cursor = Cursor(place.line, place.offset)
        reading = self._sources[1].rows_from(self._name, cursor, _SILENT, number=self._rows[at], header=self._header)
        return guarded(reading, self._name, cursor, _SILENT), cursor
