"""A window on a log of any size: it opens at the end and grows where somebody looks; all reading is done in one thread.

The window is a stretch of chosen lines between two byte offsets. Memory is bounded by the lines kept, time by a budget
for each turn, so that neither a huge file nor a rare pattern blocks anything.
"""

from __future__ import annotations

import queue
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from llamahome_tui.logs.entries import Wanted, choose, time_of
from llamahome_tui.logs.reader import Change, Line, LogReader

PAGE = 1000  # lines fetched when somebody comes near an end of the window
KEPT = 20_000  # lines of the window; what is farthest from where it grows is let go
_CHUNK = 2000
_CHUNK_MORE = 500
_BUDGET_S = 0.2
_JUMP_BYTES = 32 << 20  # growth since the last look above which the window moves to the new end


@dataclass(frozen=True, slots=True)
class Look:
    """What the window shows now.

    `version` changes with every change, `generation` when the lines have nothing to do with those before.
    `base` is the number of the first line, counted from where the generation began: it falls when lines come before it.
    """

    path: Path | None
    version: int
    generation: int
    base: int
    lines: tuple[Line, ...]
    size: int
    low: int
    high: int
    at_end: bool  # the generation shows the end of the file, not its start
    busy: bool
    note: str

    @property
    def whole_above(self) -> bool:
        """Whether nothing is left before the first line."""
        return self.low <= 0

    @property
    def whole_below(self) -> bool:
        """Whether nothing is left after the last line."""
        return self.high >= self.size


class LogWindow:
    """Commands (`open`, `choose`, `top` ...) come from the application's thread, `read` is called by one other."""

    def __init__(self, kick: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._kick, self._clock = kick, clock
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._reader: LogReader | None = None
        self._path: Path | None = None
        self._wanted = Wanted()
        self._lines: list[Line] = []
        self._low = self._high = 0
        self._up = self._down = 0
        self._base = self._version = self._generation = 0
        self._at_end = True
        self._note = ""
        self._gone = False

    # Commands.

    def open(self, path: Path) -> None:
        """Show this file from its end."""
        self._tell(lambda: self._open(path))

    def choose(self, level: str, pattern: re.Pattern[str] | None) -> None:
        """Show only lines of this level and above that match."""
        self._tell(lambda: self._choose(level, pattern))

    def top(self) -> None:
        """Go to the start of the file."""
        self._tell(lambda: self._restart(at_end=False))

    def bottom(self) -> None:
        """Go to the end of the file."""
        self._tell(lambda: self._restart(at_end=True))

    def more_above(self) -> None:
        """Fetch lines before the first one."""
        self._tell(self._want_above)

    def more_below(self) -> None:
        """Fetch lines after the last one."""
        self._tell(self._want_below)

    def _tell(self, command: Callable[[], None]) -> None:
        self._commands.put(command)
        self._kick()

    # The reading thread.

    def read(self) -> Look:
        """Do what was asked, take in what the file has become, and give the window as it is now."""
        while True:
            try:
                self._commands.get_nowait()()
            except queue.Empty:
                break
        busy = False
        if self._reader is not None:
            self._refresh(self._reader)
            busy = self._grow(self._reader)
            if busy:
                self._kick()
        size = self._reader.size if self._reader is not None else 0
        return Look(
            self._path, self._version, self._generation, self._base, tuple(self._lines), size, self._low, self._high,
            self._at_end, busy, self._note,
        )  # fmt: skip

    def _open(self, path: Path) -> None:
        if self._reader is not None:
            self._reader.close()
        self._path = path
        self._note = ""
        self._gone = False
        try:
            self._reader = LogReader(path)
        except OSError as error:
            self._reader = None
            self._note = f"cannot be read: {error.strerror}"
        self._restart(at_end=True)

    def _choose(self, level: str, pattern: re.Pattern[str] | None) -> None:
        self._wanted = Wanted(level=level, pattern=pattern)
        self._restart(at_end=True)

    def _restart(self, *, at_end: bool) -> None:
        self._lines = []
        self._low = self._high = self._reader.size if self._reader is not None and at_end else 0
        self._up, self._down = (PAGE, 0) if at_end else (0, PAGE)
        self._base = 0
        self._at_end = at_end
        self._generation += 1
        self._version += 1

    def _want_above(self) -> None:
        self._up = max(self._up, PAGE)

    def _want_below(self) -> None:
        self._down = max(self._down, PAGE)

    def _refresh(self, reader: LogReader) -> None:
        attached = self._high >= reader.size
        change = reader.refresh()
        if change is Change.REPLACED or (self._gone and change is Change.GREW):
            self._gone = False
            self._note = "the file was replaced: this is the new one"
            self._restart(at_end=True)
        elif change is Change.MISSING:
            if not self._gone:
                self._gone = True
                self._note = "the file is gone; it is shown again when it is back"
                self._version += 1
        elif change is Change.GREW:
            if self._note:
                self._note = ""
            if attached and self._wanted == Wanted() and reader.size - self._high > _JUMP_BYTES:
                self._note = "much was written at once: this is the end"
                self._restart(at_end=True)
            elif attached:
                self._down = max(self._down, KEPT)

    def _grow(self, reader: LogReader) -> bool:
        """Fetch what is wanted above and below; True when the time was up before all was there."""
        until = self._clock() + _BUDGET_S
        while self._down > 0 and self._high < reader.size:
            chunk = list(islice(reader.forward(self._high), _CHUNK))
            if not chunk:
                break
            self._high = chunk[-1].end
            self._append(list(choose(chunk, self._wanted)))
            if self._clock() > until:
                return True
        self._down = 0
        while self._up > 0 and self._low > 0:
            chunk = self._chunk_above(reader)
            if not chunk:
                break
            self._low = chunk[0].offset
            self._prepend(list(choose(chunk, self._wanted)))
            if self._clock() > until:
                return True
        self._up = 0
        return False

    def _chunk_above(self, reader: LogReader) -> list[Line]:
        """Lines before the window; with a level asked for, from one on that has its own: a traceback stays whole."""
        backward = reader.backward(self._low)
        chunk = list(islice(backward, _CHUNK))
        if self._wanted.level != "debug":
            for line in islice(backward, _CHUNK_MORE):
                if time_of(chunk[-1].text) is not None:
                    break
                chunk.append(line)
        return chunk[::-1]

    def _append(self, found: list[Line]) -> None:
        self._down -= len(found)
        self._version += 1
        self._lines += found
        over = len(self._lines) - KEPT
        if over > 0:
            del self._lines[:over]
            self._base += over
            self._low = self._lines[0].offset

    def _prepend(self, found: list[Line]) -> None:
        self._up -= len(found)
        self._version += 1
        self._lines[:0] = found
        self._base -= len(found)
        if len(self._lines) > KEPT:
            del self._lines[KEPT:]
            self._high = self._lines[-1].end
