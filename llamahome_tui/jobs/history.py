"""What a run's journal tells of its course; measurements past the step that a later attempt began at are void.

Two ways to ask: `newest` reads a few kilobytes from the end, `whole` looks through everything for what is rare
(attempts, checkpoints, evaluations, artifacts). Both give the same answer where both can know it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from llamahome_tui.jobs.records import MAX_LINE, Record, parse

_FRAME: Final = frozenset({"v", "seq", "t", "mono", "type", "step"})
_FIRST_LOOK: Final = 8 << 10  # bytes from the end: enough for almost every run
_LAST_LOOK: Final = 256 << 10
_BLOCK: Final = 1 << 20
_RARE: Final = (
    b'"type":"start"', b'"type":"checkpoint"', b'"type":"artifact"', b'"type":"degrade"', b'"type":"warning"',
    b'"eval_',
)  # fmt: skip


@dataclass(slots=True)
class Newest:
    """The end of the journal: the newest of everything, null where it is not near the end."""

    step: int | None = None
    steps: int | None = None
    epoch: float | None = None
    tokens: int | None = None
    eta_s: float | None = None
    eta_mono: float = 0.0
    phase: str | None = None
    metrics: dict[str, float | int | None] = field(default_factory=dict)
    best: Mapping[str, Any] | None = None
    best_known: bool = False  # whether a record that names the best one was seen
    last: Record | None = None
    size: int = 0  # bytes of the whole journal


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a run: its `start`, and the last record before the next one."""

    start: Record
    last: Record


@dataclass(slots=True)
class Whole:
    """Everything rare in the journal, oldest first, void measurements left out of `evaluations`."""

    attempts: list[Attempt] = field(default_factory=list)
    checkpoints: dict[int, Record] = field(default_factory=dict)  # by step
    artifacts: dict[str, Record] = field(default_factory=dict)  # by path
    evaluations: list[Record] = field(default_factory=list)
    warnings: int = 0
    degrades: list[Record] = field(default_factory=list)


def newest(path: Path, *, thorough: bool = False) -> Newest:
    """The newest of everything, read from the end. `thorough` looks further back for what is missing near it."""
    found = Newest(size=_size(path))
    cutoff: float = float("inf")  # measurements before a start count only up to its from_step
    reached_start = False
    saved = 0  # of the newest checkpoint: told of some steps after its own, or before a measurement has told of them
    for line in _backwards(path, _LAST_LOOK if thorough else _FIRST_LOOK):
        record = parse(line)
        if record is None:
            continue
        found.last = found.last or record
        kind = record["type"]
        step = record.get("step")
        if kind == "start":
            begun = record.get("from_step")
            if isinstance(begun, int):
                cutoff = min(cutoff, begun)
                if found.step is None:
                    found.step = max(begun, saved)
            found.steps = found.steps or _whole_number(record.get("steps"))
            reached_start = True
        elif isinstance(step, int) and step > cutoff:
            continue
        elif kind == "progress" and step is not None:
            if found.steps is None:
                found.steps = _whole_number(record.get("steps"))
                found.eta_s, found.eta_mono = _number(record.get("eta_s")), float(record["mono"])
                found.epoch, found.tokens = _number(record.get("epoch")), _whole_number(record.get("tokens"))
            found.step = max(step, saved) if found.step is None else found.step
        elif kind == "metrics":
            for name, value in record.items():
                if name not in _FRAME and name not in found.metrics and _is_number(value):
                    found.metrics[name] = value
            if found.step is None and isinstance(step, int):
                found.step = max(step, saved)
        elif kind == "phase":
            found.phase = found.phase or str(record.get("phase"))
        elif kind in ("checkpoint", "end"):
            if not found.best_known and "best" in record and not reached_start:
                best = record["best"]
                found.best, found.best_known = best if isinstance(best, dict) else None, True
            if kind == "checkpoint":
                saved = saved or _whole_number(step) or 0
        if not thorough and found.steps and "loss" in found.metrics and (found.best_known or len(found.metrics) > 3):
            break
    if found.step is None and saved:
        found.step = saved
    return found


def first_record(path: Path) -> Record | None:
    """The first record of a journal that has one at its very beginning."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        head = os.pread(fd, _FIRST_LOOK, 0)
    finally:
        os.close(fd)
    line, newline, _ = head.partition(b"\n")
    return parse(line) if newline else None


def whole(path: Path) -> Whole:
    """Everything rare in the journal; a million records take about a second."""
    found = Whole()
    starts: list[tuple[Record, Record | None]] = []
    end: Record | None = None
    for line, before in _rare_lines(path):
        if before is None and line is None:
            continue
        record = parse(line) if line is not None else None
        if line is None:
            end = parse(before) if before is not None else None
            continue
        if record is None:
            continue
        _sort_in(found, starts, record, before)
    for place, (start, _) in enumerate(starts):
        after = starts[place + 1][1] if place + 1 < len(starts) else end
        found.attempts.append(Attempt(start, after if after is not None and after["seq"] >= start["seq"] else start))
    return found


def _sort_in(found: Whole, starts: list[tuple[Record, Record | None]], record: Record, before: bytes | None) -> None:
    kind = record["type"]
    if kind == "start":
        starts.append((record, parse(before) if before is not None else None))
        begun = record.get("from_step")
        if isinstance(begun, int) and len(starts) > 1:
            found.evaluations = [e for e in found.evaluations if e["step"] <= begun]
            found.checkpoints = {step: c for step, c in found.checkpoints.items() if step <= begun}
    elif kind == "checkpoint" and isinstance(record.get("step"), int):
        found.checkpoints[record["step"]] = record
    elif kind == "artifact":
        found.artifacts[str(record.get("path"))] = record
    elif kind == "warning":
        found.warnings += 1
    elif kind == "degrade":
        found.degrades.append(record)
    elif kind == "metrics" and isinstance(record.get("step"), int):
        found.evaluations.append(record)


def _rare_lines(path: Path) -> Iterator[tuple[bytes | None, bytes | None]]:
    """(line, line before it) for each line that holds a rare word; at the end (None, the last line of all)."""
    try:
        file = path.open("rb")
    except OSError:
        return
    with file:
        rest, last = b"", None
        while block := file.read(_BLOCK):
            data = rest + block
            cut = data.rfind(b"\n") + 1
            rest = data[cut:] if len(data) - cut <= MAX_LINE else b""
            data = data[:cut]
            for start, stop in _places(data):
                before = data[data.rfind(b"\n", 0, start - 1) + 1 : start - 1] if start > 0 else last
                yield data[start:stop], before
            if data:
                last = data[data.rfind(b"\n", 0, len(data) - 1) + 1 : len(data) - 1]
        yield None, last


def _places(data: bytes) -> list[tuple[int, int]]:
    places: dict[int, int] = {}
    for word in _RARE:
        at = data.find(word)
        while at >= 0:
            stop = data.find(b"\n", at)
            places[data.rfind(b"\n", 0, at) + 1] = stop
            at = data.find(word, stop)
    return sorted(places.items())


def _backwards(path: Path, limit: int) -> Iterator[bytes]:
    """Whole lines from the end, within the last `limit` bytes."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        size = os.fstat(fd).st_size
        look = min(_FIRST_LOOK, limit)
        stop = size  # lines from here on have been given
        while stop > 0:
            begin = max(0, size - look)
            data = os.pread(fd, stop - begin, begin)
            if stop == size:
                data = data[: data.rfind(b"\n") + 1]  # a torn tail waits
            first = 0 if begin == 0 else data.find(b"\n") + 1
            if first or begin == 0:
                yield from reversed(data[first:].split(b"\n"))
                stop = begin + first
            if begin == 0 or look >= limit:
                return
            look = min(look * 4, limit)
    finally:
        os.close(fd)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole_number(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
