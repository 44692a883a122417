"""The rows of some files, however many: found, filtered and read in one thread, a little at each turn.

What is asked for comes first, then the search for more rows, then the filter; no turn is longer than its budget, so
that a file of any size answers keys at once and shows how far it has come.
"""

from __future__ import annotations

import json
import queue
import time
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from llamahome_tui.data.check import told_format
from llamahome_tui.data.rows import Bad, Row
from llamahome_tui.training.shape import Data
from llamahome_tui.tui.screens.training.data_words import RowLine, Wanted, line_of

_SCAN_S = 0.05
_FILTER_S = 0.1
_CHUNK = 200  # rows that are filtered between two looks at the clock
_RAW = 200_000  # characters of a row's own text that are shown
_CHANGED = "is not in the file any more: it was changed while it is open here, o opens it again"


class Index(Protocol):
    """Random access to the rows of one file (`data/browse.py`)."""

    @property
    def count(self) -> int: ...
    @property
    def done(self) -> bool: ...
    def scan(self, budget_s: float) -> bool: ...
    def read(self, start: int, count: int) -> list[Row | Bad]: ...
    def raw(self, number: int, limit: int = ...) -> str: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Opened:
    """The row that was asked for: as a line, and its columns as JSON; of one that cannot be read the text itself."""

    line: RowLine
    raw: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What the browser knows now.

    `generation` changes with the filter: positions then mean other rows. `count` positions are there, `rows` rows are
    known and `searched` of them were looked at. `lines` has those around what is in view, by position.
    """

    generation: int = 0
    typed: str = ""
    count: int = 0
    rows: int = 0
    done: bool = False
    searched: int = 0
    lines: Mapping[int, RowLine] = field(default_factory=dict)
    opened: Opened | None = None
    sought: int | None = None  # the number of the row that `seek` asked for

    @property
    def busy(self) -> bool:
        """Whether more may come by itself."""
        return not self.done or (bool(self.typed) and self.searched < self.rows)


@dataclass(slots=True)
class _File:
    path: Path
    index: Index
    first: int  # the number of its first row
    format: str | None = None  # None: not told yet


class Browser:
    """Commands (`see`, `choose`, `open` ...) come from the application's thread, `read` is called by one other."""

    def __init__(
        self,
        files: Sequence[Path],
        data: Data,
        kick: Callable[[], None],
        open_index: Callable[[Path], Index],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths, self._data, self._kick, self._clock = tuple(files), data, kick, clock
        self._open_index = open_index
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._files: list[_File] = []
        self._generation, self._typed, self._wanted = 0, "", Wanted()
        self._matches = array("q")
        self._searched = 0
        self._view = (0, 0)
        self._lines: dict[int, RowLine] = {}
        self._opened: Opened | None = None
        self._seeking: tuple[str, int] | None = None
        self._sought: int | None = None

    # Commands.

    def see(self, first: int, count: int) -> None:
        """These positions are in view."""
        self._tell(lambda: self._look(first, count))

    def choose(self, typed: str) -> None:
        """Only rows that match what was typed."""
        self._tell(lambda: self._choose(typed))

    def open(self, number: int) -> None:
        """The row of this number, whole."""
        self._tell(lambda: self._open(number))

    def seek(self, file: str, line: int) -> None:
        """Find the row that stands there."""
        self._tell(lambda: self._seek(file, line))

    def _tell(self, command: Callable[[], None]) -> None:
        self._commands.put(command)
        self._kick()

    # The reading thread.

    def read(self) -> Listing:
        """Do what was asked, go on a little, and give what is known now."""
        while True:
            try:
                self._commands.get_nowait()()
            except queue.Empty:
                break
        self._scan()
        self._filter()
        self._fill()
        if self._seeking:
            self._sought = self._find(*self._seeking)
            self._seeking = None if self._sought is not None or self._done else self._seeking
        listing = Listing(
            self._generation, self._typed, self._count, self._rows, self._done, self._searched, dict(self._lines),
            self._opened, self._sought,
        )  # fmt: skip
        if listing.busy:
            self._kick()
        return listing

    def close(self) -> None:
        """Close the files."""
        while self._files:
            self._files.pop().index.close()

    @property
    def _rows(self) -> int:
        return self._files[-1].first + self._files[-1].index.count if self._files else 0

    @property
    def _done(self) -> bool:
        return len(self._files) == len(self._paths) and all(file.index.done for file in self._files)

    @property
    def _count(self) -> int:
        return self._rows if self._wanted.everything else len(self._matches)

    def _scan(self) -> None:
        until = self._clock() + _SCAN_S
        while not self._done and (left := until - self._clock()) > 0:
            if not self._files or self._files[-1].index.done:
                path = self._paths[len(self._files)]
                self._files.append(_File(path, self._open_index(path), self._rows))
            self._files[-1].index.scan(left)

    def _filter(self) -> None:
        until = self._clock() + _FILTER_S
        while not self._wanted.everything and self._searched < self._rows and self._clock() < until:
            rows, known = self._rows_from(self._searched, _CHUNK)
            for number, row in enumerate(rows, self._searched):
                # Most rows are told by their texts alone; only the others are read as samples.
                if self._wanted.may_match(row) and self._wanted.matches(line_of(row, number, known, self._data)):
                    self._matches.append(number)
            self._searched += len(rows)

    def _fill(self) -> None:
        """Read the lines around what is in view that are not there yet."""
        first, end = self._view
        end = min(end, self._count)
        kept = {at: self._lines[at] for at in range(first, end) if at in self._lines}
        at = first
        while at < end:
            if at in kept:
                at += 1
                continue
            stop = next((other for other in range(at, end) if other in kept), end)
            numbers = range(at, stop) if self._wanted.everything else self._matches[at:stop]
            found = self._read_all(numbers)
            kept |= dict(zip(range(at, stop), found, strict=False))
            at = stop
        self._lines = kept

    def _read_all(self, numbers: Sequence[int]) -> list[RowLine]:
        if isinstance(numbers, range):
            found: list[RowLine] = []
            while len(found) < len(numbers) and (more := self._read(numbers[len(found)], len(numbers) - len(found))):
                found += more
            return found
        return [line for number in numbers for line in self._read(number, 1)]

    def _read(self, number: int, count: int) -> list[RowLine]:
        rows, known = self._rows_from(number, count)
        return [line_of(row, number + at, known, self._data) for at, row in enumerate(rows)]

    def _rows_from(self, number: int, count: int) -> tuple[list[Row | Bad], str]:
        """Up to `count` rows from this number on, not past the end of its file, and their format."""
        file = self._file_of(number)
        if file is None:
            return [], ""
        here = number - file.first
        rows = file.index.read(here, min(count, file.index.count - here))
        return rows or [Bad(str(file.path), 0, "", _CHANGED)], self._format(file)

    def _file_of(self, number: int) -> _File | None:
        at = bisect_right([file.first for file in self._files], number) - 1
        while at >= 0 and not self._files[at].index.count:
            at -= 1
        if at < 0 or number - self._files[at].first >= self._files[at].index.count:
            return None
        return self._files[at]

    def _format(self, file: _File) -> str:
        """The format of a file's rows, "" where it is not known."""
        if file.format is None:
            auto = self._data.format == "auto"
            file.format = told_format(file.path, self._data.columns) if auto else self._data.format
        return file.format

    # What the commands do.

    def _look(self, first: int, count: int) -> None:
        self._view = max(0, first - count), first + 2 * count

    def _choose(self, typed: str) -> None:
        wanted = Wanted.of(typed)
        self._typed = "" if wanted.everything else typed
        self._generation += 1
        if wanted != self._wanted:
            self._wanted = wanted
            self._matches = array("q")
            self._searched = 0
            self._lines = {}

    def _open(self, number: int) -> None:
        lines = self._read(number, 1)
        file = self._file_of(number)
        if lines and file is not None:
            value = lines[0].value
            if value is not None:
                raw = json.dumps(value, ensure_ascii=False, indent=2)[:_RAW]
            else:
                raw = file.index.raw(number - file.first, _RAW)
            self._opened = Opened(lines[0], raw)

    def _seek(self, file: str, line: int) -> None:
        self._seeking, self._sought = (file, line), None

    def _find(self, name: str, line: int) -> int | None:
        """The number of the row that begins at this line, or the nearest after it; None while it is not there yet."""
        at = next((at for at, path in enumerate(self._paths) if str(path) == name), None)
        if at is None or at >= len(self._files):
            return None
        file = self._files[at]

        def place(number: int) -> int:
            return next((row.line for row in file.index.read(number, 1)), line)

        count = file.index.count
        found = bisect_left(range(count), line, key=place)
        return None if found >= count else file.first + found
