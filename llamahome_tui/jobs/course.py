"""The measurements of a run that count, by step, tokens and seconds; memory stays bounded for any journal.

A first look finds where later attempts began, so that what they trained again is dropped as it is met.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from llamahome_tui.jobs import history
from llamahome_tui.jobs.reader import JournalReader
from llamahome_tui.jobs.records import Record
from llamahome_tui.jobs.throughput import number

Axis: TypeAlias = Literal["step", "tokens", "time"]

POINTS: Final = 2048  # of a curve
METRICS: Final = 200  # names that are kept of a run
_PORTION: Final = 1 << 18  # bytes of a journal that are held at once
_MARKS: Final = 4096  # places where tokens are known
_SETTLED: Final = ("batching", "batching_reason", "parameters")
_FRAME: Final = frozenset({"v", "seq", "t", "mono", "type", "step"})


@dataclass(frozen=True, slots=True)
class Measured:
    """One `metrics` record that counts: its step, the seconds of work before it, and its finite numbers."""

    step: int
    time_s: float
    values: Mapping[str, float]


Point: TypeAlias = tuple[int, float, float]  # step, seconds, value


class Series:
    """A growing series that keeps the lowest and highest of each stretch, its first and its newest point."""

    def __init__(self, limit: int = POINTS) -> None:
        self.count = 0
        self.lowest: Point | None = None
        self.highest: Point | None = None
        self.newest: Point | None = None
        self._limit = max(8, limit)
        self._first: Point | None = None
        self._kept: list[Point] = []
        self._open: list[Point] = []
        self._stretch = 1

    def add(self, point: Point) -> None:
        """The next point."""
        self.count += 1
        self._first = self._first or point
        self.newest = point
        if self.lowest is None or point[2] < self.lowest[2]:
            self.lowest = point
        if self.highest is None or point[2] > self.highest[2]:
            self.highest = point
        self._open.append(point)
        if len(self._open) >= self._stretch:
            self._kept += _extremes(self._open)
            self._open.clear()
            if len(self._kept) > self._limit:
                self._kept = [p for at in range(0, len(self._kept), 4) for p in _extremes(self._kept[at : at + 4])]
                self._stretch *= 2

    def points(self) -> list[Point]:
        """In their order; all of them while there are no more than the limit."""
        found = [*self._kept, *self._open]
        if self._first is not None and found[:1] != [self._first]:
            found.insert(0, self._first)
        if self.newest is not None and found[-1:] != [self.newest]:
            found.append(self.newest)
        return found


@dataclass(slots=True)
class Course:
    """What a journal tells: series by metric, tokens by step, and what the run began with."""

    series: dict[str, Series] = field(default_factory=dict)
    start: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    settled: dict[str, Any] = field(default_factory=dict)
    peak_bytes: float | None = None
    tokens: int | None = None
    bad: int = 0  # lines that are no records
    seconds: float = 0.0  # of work, over all attempts, without what lay between them
    _marks: list[tuple[int, int]] = field(default_factory=list)

    def tokens_at(self, step: int) -> float | None:
        """Tokens up to a step, on a straight line between two places where they are known; None outside of them."""
        at = bisect_left(self._marks, (step, 0))
        if at == len(self._marks):
            return None
        (after, tokens) = self._marks[at]
        if after == step:
            return float(tokens)
        if at == 0:
            return None
        before, fewer = self._marks[at - 1]
        return fewer + (tokens - fewer) * (step - before) / (after - before)

    def curve(self, metric: str, axis: Axis) -> list[tuple[float, float]]:
        """(x, value) of a metric; points whose tokens are not known are left out on that axis."""
        series = self.series.get(metric)
        found: list[tuple[float, float]] = []
        for step, seconds, value in series.points() if series is not None else ():
            x = float(step) if axis == "step" else seconds if axis == "time" else self.tokens_at(step)
            if x is not None:
                found.append((x, value))
        return found

    def mark(self, step: int, tokens: int) -> None:
        """So many tokens had been trained by this step; every second place is given up where there are too many."""
        while self._marks and self._marks[-1][0] >= step:
            self._marks.pop()
        self._marks.append((step, tokens))
        if len(self._marks) > _MARKS:
            self._marks[1:-1] = self._marks[2:-1:2]


def course_of(path: Path, points: int = POINTS) -> Course:
    """The course of the run whose trainer wrote this journal, its curves of about so many points; empty without one."""
    course = Course()
    course.mark(0, 0)
    for one in measurements(path, course):
        for name, value in one.values.items():
            series = course.series.get(name)
            if series is None:
                if len(course.series) >= METRICS:
                    continue
                series = course.series[name] = Series(points)
            series.add((one.step, one.time_s, value))
    return course


def measurements(path: Path, course: Course) -> Iterator[Measured]:
    """Every measurement that counts, in order; what else the journal tells goes into the course."""
    begun = [(a.start["seq"], a.start.get("from_step")) for a in history.whole(path).attempts]
    limits: dict[int, float] = {}  # by the number of a start: the last step of its attempt that counts
    limit = float("inf")
    for seq, from_step in reversed(begun):
        limits[seq] = limit
        limit = min(limit, from_step) if isinstance(from_step, int) and not isinstance(from_step, bool) else limit
    last_step, before, since = float("inf"), 0.0, None
    for record in _records(path, course):
        step = record.get("step")
        mono = float(record["mono"])
        if record["type"] == "start":
            before, since = course.seconds, mono
            last_step = limits.get(record["seq"], float("inf"))
            course.start = record
            continue
        since = mono if since is None else since
        course.seconds = max(course.seconds, before + mono - since)
        whole = isinstance(step, int) and not isinstance(step, bool) and 0 <= step <= last_step
        if record["type"] == "progress" and whole:
            tokens = number(record.get("tokens"))
            if tokens is not None and step is not None:
                course.mark(step, int(tokens))
                course.tokens = int(tokens)
        elif record["type"] == "phase":
            data = record.get("data")
            course.data = data if isinstance(data, dict) and data else course.data
            course.settled |= {name: record[name] for name in _SETTLED if record.get(name) not in (None, "", {})}
        elif record["type"] == "metrics" and whole and step is not None:
            values = {n: f for n, v in record.items() if n not in _FRAME and (f := number(v)) is not None}
            peak = values.get("memory_peak_bytes")
            if peak is not None:
                course.peak_bytes = max(peak, course.peak_bytes or 0.0)
            yield Measured(step, round(course.seconds, 3), values)


def _records(path: Path, course: Course) -> Iterator[Record]:
    reader = JournalReader(path)
    while batch := reader.poll(_PORTION):
        if reader.replaced:
            return  # another journal has begun: what was read is what there was
        yield from batch
    course.bad = reader.bad


def _extremes(points: list[Point]) -> list[Point]:
    low, high = min(points, key=lambda p: p[2]), max(points, key=lambda p: p[2])
    if low is high:
        return [low]
    return sorted((low, high), key=lambda p: p[:2])
