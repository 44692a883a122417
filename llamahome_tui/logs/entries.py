"""Which lines of a log are asked for, by level, time and pattern; a traceback stays with the line it belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from llamahome_tui.logs.files import LEVELS
from llamahome_tui.logs.reader import Line, LogReader

_STAMP = re.compile(r"\W{0,2}(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,6})?)(Z|[+-]\d\d:?\d\d)?")
_LEVEL = re.compile(r"\b(DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL)\b|^\w*(?:Error|Exception): ")
_SAME = {"WARN": "warning", "CRITICAL": "error", "FATAL": "error"}
_LOOK = 200  # characters of a line in which its time and level stand
_SEARCHED = 10_000  # characters of a line that a pattern is tried on


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a reader asks for; the default is everything. `since` is a Unix time."""

    since: float | None = None
    level: str = "debug"
    pattern: re.Pattern[str] | None = None


def time_of(text: str) -> float | None:
    """The Unix time a log line starts with; without a zone it counts as UTC. None where there is none."""
    found = _STAMP.match(text)
    if found is None:
        return None
    stamp, zone = found.groups()
    try:
        when = datetime.fromisoformat(stamp.replace(",", ".") + ("+00:00" if zone in (None, "Z") else zone))
    except ValueError:
        return None
    return when.astimezone(UTC).timestamp()


def level_of(text: str) -> str | None:
    """One of LEVELS, or None where the line names none."""
    found = _LEVEL.search(text[:_LOOK])
    if found is None:
        return None
    word = found.group(1)
    return _SAME.get(word, word.lower()) if word else "error"


def choose(lines: Iterable[Line], wanted: Wanted) -> Iterator[Line]:
    """The lines, oldest first, that are wanted.

    A line without a time of its own (a traceback) has that of the line before it, and its level unless it names a
    graver one. In a log without any times an unindented line stands for itself.
    """
    least = LEVELS.index(wanted.level)
    when: float | None = None
    level = "info"
    for line in lines:
        own_time, own_level = time_of(line.text), level_of(line.text)
        if own_time is not None:
            when, level = own_time, own_level or "info"
        elif when is None and (own_level is not None or not line.text[:1].isspace()):
            level = own_level or "info"
        elif own_level is not None and LEVELS.index(own_level) > LEVELS.index(level):
            level = own_level
        if LEVELS.index(level) < least:
            continue
        if wanted.since is not None and when is not None and when < wanted.since:
            continue
        if wanted.pattern is not None and not wanted.pattern.search(line.text[:_SEARCHED]):
            continue
        yield line


def offset_since(reader: LogReader, since: float) -> int:
    """The byte where the first line at or after the Unix time `since` starts; 0 in a log without times.

    Found by halving: lines of a log are taken to be in order of time.
    """
    low, high = 0, reader.size
    while low < high:
        middle = (low + high) // 2
        stamped = _stamped_from(reader, reader.start_of_line_at(middle), high)
        if stamped is None:
            high = reader.start_of_line_at(middle)
            if high <= low:
                break
        elif stamped[1] < since:
            low = stamped[0].end
        else:
            high = reader.start_of_line_at(middle)
            if high <= low:
                break
    first = _stamped_from(reader, low, reader.size)  # past the rest of an older entry
    return first[0].offset if first is not None else (reader.size if low else 0)


def _stamped_from(reader: LogReader, offset: int, limit: int) -> tuple[Line, float] | None:
    """The first line with a time in the bytes from `offset` up to `limit`."""
    for line in reader.forward(offset):
        if line.offset >= limit:
            return None
        when = time_of(line.text)
        if when is not None:
            return line, when
    return None
