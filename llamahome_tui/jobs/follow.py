"""Follows a run: the records of both journals, merged by time, from where it stands until it has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from llamahome_tui.jobs.reader import JournalReader, tail_offset
from llamahome_tui.jobs.records import Record
from llamahome_tui.jobs.status import Derived, derive
from llamahome_tui.jobs.store import Run

POLL_S: Final = 0.1
_LOOK_S: Final = 0.5  # between two looks at locks and status; a journal that says "over" is looked at sooner
_LAST_WORDS: Final = frozenset({"end", "exit"})

Source = Literal["trainer", "supervisor"]


@dataclass(frozen=True, slots=True)
class News:
    """One record and the journal it stands in."""

    source: Source
    record: Record


class Follower:
    """Reads both journals of one run as they grow.

    `since` says where to begin: "start", "now", or the newest so many records of each. `replaced` counts how often a
    journal was deleted or put there anew, `bad` the lines that are no records.
    """

    def __init__(self, run: Run, since: Literal["start", "now"] | int = "start") -> None:
        self.run = run
        self._readers: tuple[tuple[Source, JournalReader], ...] = (
            ("trainer", JournalReader(run.events_path, _offset(run.events_path, since))),
            ("supervisor", JournalReader(run.supervisor_path, _offset(run.supervisor_path, since))),
        )

    @property
    def bad(self) -> int:
        return sum(reader.bad for _, reader in self._readers)

    @property
    def replaced(self) -> int:
        return sum(reader.replaced for _, reader in self._readers)

    def poll(self) -> list[News]:
        """What has been written since the last call, in the order it happened."""
        news: list[News] = []
        for source, reader in self._readers:
            while records := reader.poll():
                news.extend(News(source, record) for record in records)
                if len(news) > 50_000:  # a first look at a giant journal: give some away before reading on
                    break
        news.sort(key=lambda one: one.record["t"])
        return news


def follow(
    run: Run, since: Literal["start", "now"] | int = "start", *, sleep: Callable[[float], None] = time.sleep
) -> Iterator[News | Derived]:
    """Every record from `since` on, until the run has ended and all of it was given.

    In between, about twice a second and at the end, comes the state of the run: who follows can adopt it, say that it
    waits, or stop following.
    """
    follower = Follower(run, since)
    looked_at = 0.0
    while True:
        # Status first, records second: what was written before the end was seen is then still read.
        now = time.monotonic()
        ended = False
        if now - looked_at >= _LOOK_S:
            looked_at = now
            derived = derive(run)
            ended = derived.status.ended
            yield derived
        news = follower.poll()
        yield from news
        if ended and not news:
            return
        if ended or any(one.record["type"] in _LAST_WORDS for one in news):
            looked_at = 0.0
            continue
        sleep(POLL_S)


def _offset(path: Path, since: Literal["start", "now"] | int) -> int:
    if since == "start":
        return 0
    return tail_offset(path, 0 if since == "now" else since)
