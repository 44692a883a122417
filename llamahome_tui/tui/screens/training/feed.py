"""One run's files, read as they grow: the end first, so that a long run shows at once, then all of it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from llamahome_tui.jobs.journal import JournalReader, tail
from llamahome_tui.jobs.store import Run
from llamahome_tui.jobs.view import RunView, summarise
from llamahome_tui.tui.screens.training.story import Story, Told
from llamahome_tui.tui.widgets.lines import Line

_SMALL: Final = 1 << 20  # bytes: a journal up to this size is read whole at once
_PORTION: Final = 4 << 20  # bytes read in one turn while catching up
_LOG_BEGIN: Final = 256 << 10  # bytes of the log's end that are read first
KEPT_LINES: Final = 5000


@dataclass(frozen=True, slots=True)
class Page:
    """All that a run's page shows. `behind` is the share of the journal still to be read, 0 when none."""

    view: RunView
    told: Told
    log: tuple[Line, ...]
    log_dropped: int
    behind: float = 0.0
    notes: tuple[str, ...] = ()


class LogTail:
    """The end of a growing text file as cleaned-up lines; a carriage return begins its line anew, as on a terminal."""

    def __init__(self, path: Path, kept: int = KEPT_LINES) -> None:
        self._path = path
        self._lines: deque[str] = deque(maxlen=kept)
        self._offset = -1
        self._inode = 0
        self._rest = b""
        self.total = 0

    def poll(self) -> bool:
        """Read what came; True when something did. A file that was replaced or cut is begun again."""
        try:
            with self._path.open("rb") as file:
                facts = os.fstat(file.fileno())
                if self._offset < 0 or facts.st_ino != self._inode or facts.st_size < self._offset:
                    self._begin(facts)
                    file.seek(self._offset)
                    if self._offset:
                        self._offset += len(file.readline())
                file.seek(self._offset)
                data = file.read(_PORTION)
        except OSError:
            return False
        self._offset += len(data)
        if not data:
            return False
        *whole, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-65536:]
        for line in whole:
            self._lines.append(_visible(line))
            self.total += 1
        return True

    def _begin(self, facts: os.stat_result) -> None:
        self._offset, self._inode = max(0, facts.st_size - _LOG_BEGIN), facts.st_ino
        self._rest = b""
        self._lines.clear()

    def lines(self) -> tuple[Line, ...]:
        """The lines kept, and the unfinished one."""
        found = [(line, "") for line in self._lines]
        if self._rest.strip():
            found.append((_visible(self._rest), ""))
        return tuple(found)

    @property
    def dropped(self) -> int:
        """How many lines fell off the front so far."""
        return max(0, self.total - len(self._lines))


def _visible(line: bytes) -> str:
    """What a terminal would show of a line with carriage returns: its last part that has text."""
    parts = [part for part in line.rstrip(b"\r").split(b"\r") if part.strip()]
    return (parts[-1] if parts else b"")[:16384].decode("utf-8", "replace")


class Feed:
    """Reads one run in the thread of its Poll; `read` gives the page to be painted."""

    def __init__(self, run: Run, view: Callable[[Run], RunView] = summarise) -> None:
        self.run = run
        self._view = view
        self._story = Story()
        self._first: Told | None = None
        self._readers = self._open()
        self.replaced = 0
        self._log = LogTail(run.out_path)
        self._log_lines: tuple[Line, ...] = ()
        self._begun = False

    def read(self) -> Page:
        """Take what came since the last call; quick also for a journal of a million records."""
        if not self._begun:
            self._begun = True
            if self._size() > _SMALL:
                self._first = self._ending()
                return self._page()
        taken = 0
        for source, reader in self._readers.items():
            before = reader.replaced
            records = reader.poll(_PORTION)
            if reader.replaced != before:
                return self._begin_again()
            self._story.take(source, records)
            taken += len(records)
        if not taken or self._readers["trainer"].offset >= self._size():
            self._first = None
        return self._page()

    def _begin_again(self) -> Page:
        """A journal was deleted or replaced under us: forget what it said and read both from their beginnings."""
        self.replaced += 1
        self._story, self._first = Story(), None
        self._readers = self._open()
        return self._page()

    def _open(self) -> dict[str, JournalReader]:
        return {
            "supervisor": JournalReader(self.run.supervisor_path),
            "trainer": JournalReader(self.run.events_path),
        }

    @property
    def catching_up(self) -> bool:
        """Whether there is more to read at once."""
        return self._first is not None

    def _ending(self) -> Told:
        story = Story()
        story.take("supervisor", tail(self.run.supervisor_path, 200))
        story.take("trainer", tail(self.run.events_path, 400))
        return story.told()

    def _size(self) -> int:
        try:
            return self.run.events_path.stat().st_size
        except OSError:
            return 0

    def _page(self) -> Page:
        if self._log.poll():
            self._log_lines = self._log.lines()
        behind, notes = 0.0, []
        if self._first is not None and (size := self._size()):
            behind = max(0.001, 1 - self._readers["trainer"].offset / size)
        for source, reader in self._readers.items():
            if reader.bad:
                notes.append(f"{reader.bad} unreadable lines in the {source}'s journal")
        if self.replaced:
            notes.append("a journal was replaced while it was read; it is shown from its new beginning")
        told = self._first or self._story.told()
        if told.missing and not self._first:
            notes.append(f"{told.missing} records are missing")
        return Page(self._view(self.run), told, self._log_lines, self._log.dropped, behind, tuple(notes))
