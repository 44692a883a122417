"""Asking about one run: `runs show`, `assert`, `logs`, `events`; they change nothing but who looks after it."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from llamahome_tui.errors import NotFoundError, TrainingError, UsageError
from llamahome_tui.jobs import reader
from llamahome_tui.jobs.assertion import read_condition
from llamahome_tui.jobs.commands.following import Adoption
from llamahome_tui.jobs.follow import POLL_S, follow
from llamahome_tui.jobs.records import Record as JournalRecord
from llamahome_tui.jobs.status import Derived, Status, derive
from llamahome_tui.jobs.store import Run, RunStore
from llamahome_tui.jobs.view import RunView, summarise
from llamahome_tui.outcome import Note, Outcome, Record, Result, Text
from llamahome_tui.text import clean

if TYPE_CHECKING:
    from llamahome_tui.context import Context

_CHUNK: Final = 1 << 18
_LONGEST: Final = 1 << 20  # bytes of a line of out.log that are kept before it is cut


def show(context: Context, id: str) -> Iterator[Outcome]:
    """Everything about one run."""
    run = _seen(context, id)
    view = summarise(run, full=True)
    after = (f"llamahome --batch runs resume {run.id}",) if view.attempt and view.status in _RESUMABLE else ()
    yield Result(view.to_dict(), hint=view.hint, next=after)


def assert_metric(context: Context, id: str, condition: str) -> Iterator[Outcome]:
    """Raises TrainingError `assert.failed` (exit 9) when the condition does not hold for the run's newest values."""
    wanted = read_condition(condition)
    run = _seen(context, id)
    values = _measured(summarise(run, full=True))
    if wanted.metric not in values:
        raise NotFoundError(
            f"{run.id} has no metric {wanted.metric}" + (f"; it has {', '.join(values)}" if values else " yet"),
            code="metric.not_found",
            hint=f"see: llamahome --batch runs show {run.id}",
            data={"metrics": values},
        )
    value = values[wanted.metric]
    data = {"id": run.id, "condition": str(wanted), "metric": wanted.metric, "value": value}
    if not wanted.holds(value):
        shown = "not a number" if value is None else f"{value:g}"
        raise TrainingError(
            f"{wanted} does not hold for {run.id}: {wanted.metric} is {shown}",
            code="assert.failed",
            hint=f"see: llamahome --batch runs show {run.id}",
            data={**data, "holds": False},
        )
    yield Result({**data, "holds": True})


def logs(context: Context, id: str, follow: bool = False) -> Iterator[Outcome]:
    """What the run printed, line by line; of a line that was repainted with carriage returns, the last state."""
    run = _seen(context, id)
    lines = 0
    for line in _printed(context, run, follow):
        lines += 1
        yield Text(clean(line) + "\n")
    if not lines:
        yield Note("it has printed nothing")
    yield Result({"id": run.id, "path": str(run.out_path), "lines": lines})


def events(context: Context, id: str, after: int | None = None, follow: bool = False) -> Iterator[Outcome]:
    """The records of both journals, merged by time; `after` is a number of the trainer's journal."""
    run = _seen(context, id)
    if after is not None and after < 0:
        raise UsageError("--after must be 0 or more", hint=f"as in: llamahome --batch runs events {run.id} --after 100")
    since = _time_of(run, after)
    count, seen = 0, {"trainer": after or 0, "supervisor": 0}
    both = (
        (("trainer", record) for record in reader.read(run.events_path, after or 0)),
        (("supervisor", record) for record in reader.read(run.supervisor_path) if record["t"] > since),
    )
    for source, record in heapq.merge(*both, key=lambda pair: pair[1]["t"]):
        count, seen[source] = count + 1, record["seq"]
        yield Record(run.id, source, record)
    if follow:
        for source, record in _further(context, run, seen):
            count += 1
            yield Record(run.id, source, record)
    yield Result({"id": run.id, "count": count, "last_seq": seen["trainer"]})


_RESUMABLE: Final = frozenset(
    {Status.STOPPED.value, Status.PAUSED.value, Status.FAILED.value, Status.INTERRUPTED.value, Status.LOST.value}
)


def _seen(context: Context, id: str) -> Run:
    """The run, which has a supervisor again if it had lost it."""
    run = RunStore(context.places).resolve(id)
    Adoption(context).look(run, derive(run))
    return run


def _measured(view: RunView) -> dict[str, float | None]:
    """Every number a condition may speak of: the metrics, how far it is, and the best of all evaluations."""
    values: dict[str, float | None] = {"step": view.step, "epoch": view.epoch, "elapsed_s": view.elapsed_s}
    values = {name: value for name, value in values.items() if value is not None}
    if view.best is not None:
        values[f"best.{view.best['metric']}"] = view.best["value"]
    return {**values, **view.metrics}


def _time_of(run: Run, after: int | None) -> float:
    """When the trainer's record of that number was written; the supervisor counts for itself."""
    if not after:
        return 0.0
    found = next(reader.read(run.events_path, after - 1), None)
    return float(found["t"]) if found is not None else time.time()


def _further(context: Context, run: Run, seen: dict[str, int]) -> Iterator[tuple[str, JournalRecord]]:
    adoption = Adoption(context)
    # The newest few are read once more: between the two readings nothing is missed.
    for news in follow(run, 1000):
        if isinstance(news, Derived):
            adoption.look(run, news)
        elif news.record["seq"] > seen[news.source]:
            seen[news.source] = news.record["seq"]
            yield news.source, news.record


def _printed(context: Context, run: Run, on: bool) -> Iterator[str]:
    """The lines of out.log; with `on` also those that are still to come, until the run has ended."""
    adoption = Adoption(context)
    offset, rest, looked_at = 0, b"", 0.0
    while True:
        ended = not on
        if on and time.monotonic() - looked_at >= 0.5:
            looked_at = time.monotonic()
            derived = derive(run)
            adoption.look(run, derived)
            ended = derived.status.ended
        data = _piece(run.out_path, offset)
        while data:
            offset += len(data)
            *lines, rest = (rest + data).split(b"\n")
            yield from (_last_state(line) for line in lines)
            rest = rest[-_LONGEST:]
            data = _piece(run.out_path, offset)
        if ended:
            break
        time.sleep(POLL_S)
    if rest:
        yield _last_state(rest)


def _piece(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(_CHUNK)
    except FileNotFoundError:
        return b""


def _last_state(line: bytes) -> str:
    line = line.removesuffix(b"\r")
    return line[line.rfind(b"\r") + 1 :].decode("utf-8", "replace")
