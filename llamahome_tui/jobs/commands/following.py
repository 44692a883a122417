"""Staying with a run until it ends: `runs watch`, `runs wait`, and what `train start`, `runs resume` and `runs exec` do
after they have begun. Leaving never touches the run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from llamahome_tui.errors import TimeoutReached, TrainingError
from llamahome_tui.jobs.follow import follow
from llamahome_tui.jobs.queue import Queue
from llamahome_tui.jobs.status import Derived, Status, derive
from llamahome_tui.jobs.store import Run, RunStore
from llamahome_tui.outcome import Accepted, Level, Note, Outcome, Record, Result

if TYPE_CHECKING:
    from llamahome_tui.context import Context

_RECENT: Final = 20  # records of each journal that somebody who comes later is shown first
_ADOPT_EVERY_S: Final = 5.0
_LOOK_S: Final = 0.25


def watch(context: Context, id: str) -> Iterator[Outcome]:
    """Follow a run until it ends. Raises TrainingError when it failed, was lost or interrupted."""
    run = RunStore(context.places).resolve(id)
    yield Accepted(run.id)
    yield from stay_with(context, run, _RECENT)


def wait(context: Context, id: Sequence[str], timeout: float | None = None) -> Iterator[Outcome]:
    """Wait until all these runs have ended; the result is an object for one run and an array for several.

    Raises TimeoutReached after `timeout` seconds, TrainingError as `watch` does.
    """
    store = RunStore(context.places)
    runs = list({run.id: run for run in (store.resolve(one) for one in id)}.values())
    deadline = None if timeout is None else time.monotonic() + timeout
    adoption = Adoption(context)
    states: dict[str, Derived] = {}
    while True:
        for run in runs:
            if run.id in states and states[run.id].status.ended:
                continue
            states[run.id] = derived = derive(run)
            adoption.look(run, derived)
            if derived.status.ended and len(runs) > 1:
                yield Note(f"{run.id}: {derived.status.value}")
        if all(derived.status.ended for derived in states.values()):
            break
        if deadline is not None and time.monotonic() >= deadline:
            waiting = [run.id for run in runs if not states[run.id].status.ended]
            raise TimeoutReached(
                f"{', '.join(waiting)} had not ended after {timeout:g} s",
                hint=f"wait on: llamahome --batch runs wait {' '.join(waiting)}",
                data={"runs": [ending(run, states[run.id]) for run in runs]},
            )
        pause = _LOOK_S if deadline is None else min(_LOOK_S, max(0.0, deadline - time.monotonic()))
        time.sleep(pause)
    endings = [ending(run, states[run.id]) for run in runs]
    bad = [run for run in runs if not states[run.id].status.good]
    if bad:
        raise failure(bad[0], states[bad[0].id], data={"runs": endings} if len(endings) > 1 else None)
    yield Result(endings if len(endings) > 1 else endings[0])


def stay_with(
    context: Context, run: Run, since: Literal["start", "now"] | int, *, changed: bool = False
) -> Iterator[Outcome]:
    """The run's records as they come, what is worth a word between them, and its Result. Raises TrainingError."""
    adoption = Adoption(context)
    said = ""
    before: Status | None = None
    for news in follow(run, since):
        if isinstance(news, Derived):
            adoption.look(run, news)
            # Seen twice: every run is queued for a moment.
            word = _word(run, news) if news.status is before else None
            before = news.status
            if word is not None and word.text != said:
                said = word.text
                yield word
        else:
            yield Record(run.id, news.source, news.record)
    yield conclude(run, changed=changed)


def conclude(run: Run, *, changed: bool = False) -> Result:
    """The Result of a run that has ended well. Raises TrainingError for one that has not."""
    derived = derive(run)
    if derived.status.ended and not derived.status.good:
        raise failure(run, derived)
    after = (
        (f"llamahome --batch runs resume {run.id}",)
        if derived.status in (Status.STOPPED, Status.PAUSED)
        else (f"llamahome --batch runs show {run.id}",)
    )
    return Result(ending(run, derived), changed=changed, next=after)


def ending(run: Run, derived: Derived) -> dict[str, Any]:
    """How a run stands, as `train start`, `runs resume` and `runs wait` give it."""
    return {
        "id": run.id,
        "status": derived.status.value,
        "dir": str(run.dir),
        "reason": derived.reason,
        "attempt": derived.attempt,
        "exit_code": derived.exit_code,
        "signal": derived.signal,
    }


def failure(run: Run, derived: Derived, data: Mapping[str, Any] | None = None) -> TrainingError:
    """The error that a run's bad end is for whoever followed it."""
    known: dict[str, Any] = {**ending(run, derived), "checkpoint": derived.checkpoint, "failure": derived.failure}
    how = {Status.LOST: "was lost", Status.INTERRUPTED: "was interrupted"}.get(derived.status, "failed")
    return TrainingError(
        f"run {run.id} {how}" + (f": {derived.reason}" if derived.reason else ""),
        code=f"run.{derived.status.value}",
        hint=derived.hint or f"see why: llamahome --batch runs show {run.id}",
        data=data if data is not None else known,
    )


class Adoption:
    """Gives every run that is seen without a supervisor a new one; asked often, it tries every few seconds."""

    def __init__(self, context: Context) -> None:
        self._environ = environ_of_jobs(context)
        self._tried: dict[str, float] = {}

    def look(self, run: Run, derived: Derived) -> None:
        if not derived.adoptable or derived.remote:
            return
        now = time.monotonic()
        if now - self._tried.get(run.id, -_ADOPT_EVERY_S) >= _ADOPT_EVERY_S:
            self._tried[run.id] = now
            from llamahome_tui.jobs import spawn  # a list of runs that need nobody does not pay for it

            spawn.launch(run, self._environ, wait=False)


def environ_of_jobs(context: Context) -> dict[str, str]:
    """The environment that supervisors, and through them the trainers, are given."""
    return {**context.environ, "LLAMAHOME_CACHE_SIZE": str(context.settings.cache.size_mib)}


def _word(run: Run, derived: Derived) -> Note | None:
    match derived.status:
        case Status.QUEUED:
            place = Queue(run.state).position(run.id)
            return Note(f"waiting for its devices, place {place} in the queue") if place is not None else None
        case Status.UNSUPERVISED:
            return Note("its supervisor is gone; a new one is started, training goes on")
        case Status.STALLED:
            return Note(f"{derived.reason}", Level.WARNING)
        case Status.STOPPING if derived.reason.startswith("a stop"):
            return Note(derived.reason)
        case _:
            return None
