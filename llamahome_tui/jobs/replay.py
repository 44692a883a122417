"""What was asked of a run and obeyed, and after which step: whoever trains that step again obeys it again.

So a resumed run is the run it goes on from, and a replayed one is the run it replays, requests included.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from llamahome_tui.jobs.control import Request, rate_of
from llamahome_tui.jobs.reader import read, tail
from llamahome_tui.jobs.store import Run

OPS: Final = ("save", "eval", "sample", "lr")  # what is obeyed between two steps
LEAVING: Final = {"stopped": "stop", "paused": "pause"}  # by the reason of `end`: what asks for it
RATE: Final = "training.learning_rate"
KEY: Final = "replay"  # of a job: what is to be obeyed in it, as `as_job` gives it


@dataclass(frozen=True, slots=True)
class Obeyed:
    """A request that was applied after `step` steps."""

    step: int
    request: Request

    @classmethod
    def from_values(cls, values: Mapping[str, Any], id: str, ops: Collection[str] = OPS) -> Obeyed | None:
        """From a `control` record or a job; None for what says nothing of a step."""
        step, op = values.get("step"), values.get("op")
        if not isinstance(step, int) or isinstance(step, bool) or op not in ops:
            return None
        return cls(step, Request(id, str(op), values.get("value"), -1, float(values.get("t") or 0.0)))


def obeyed(run: Run) -> list[Obeyed]:
    """All that the trainer has obeyed, each request once, in the order it took effect."""
    found: dict[str, Obeyed] = {}
    for record in tail(run.events_path, 1 << 30, {"control"}):
        one = Obeyed.from_values(record, str(record.get("request", "")))
        if one is not None and record.get("outcome") == "applied":
            found[one.request.id] = one  # obeyed again after a resume: the later word counts
    return sorted(found.values(), key=lambda one: (one.step, one.request.id))


def as_job(run: Run) -> list[dict[str, Any]]:
    """The whole course of a run, for the job of one that replays it: requests, and learning rates of resumes.

    Leaving and going on changes nothing in a course: what stays of it is the checkpoint. Only the newest leaving,
    after which nothing came, is left again.
    """
    rates = {attempt: changes[RATE] for attempt, changes in changed_by_resumes(run).items() if RATE in changes}
    found = {one.request.id: one for one in _planned(run.job)}
    left: Obeyed | None = None
    for record in tail(run.events_path, 1 << 30, {"start", "control", "end"}):
        match record["type"]:
            case "start":
                if left is not None:
                    found[left.request.id] = replace(left, request=replace(left.request, op="save"))
                    left = None
                _begin(found, record, rates)
            case "control":
                name = str(record.get("request", ""))
                one = Obeyed.from_values(record, name)
                if one is not None and record.get("outcome") == "applied":
                    found[name] = one
                elif record.get("op") in LEAVING.values():
                    found.pop(name, None)  # a replay that has left as planned: its `end` says so
            case "end" if record.get("reason") in LEAVING and record.get("step"):
                op = LEAVING[record["reason"]]
                left = Obeyed.from_values({**record, "op": op}, f"~end-{record['seq']:012}", (op,))
    course = sorted(found.values(), key=lambda one: (one.step, one.request.id))
    if left is not None:
        course.append(left)
    return [{"step": one.step, "op": one.request.op, "value": one.request.value} for one in course]


def changed_by_resumes(run: Run) -> dict[int, Mapping[str, Any]]:
    """What `runs resume --set` has changed, as dotted keys, by the attempt that it began."""
    found: dict[int, Mapping[str, Any]] = {}
    for record in read(run.supervisor_path):
        changes, attempt = record.get("set"), record.get("attempt")
        if record["type"] == "begin" and isinstance(changes, dict) and isinstance(attempt, int):
            found[attempt] = changes
    return found


def _begin(found: dict[str, Obeyed], start: Mapping[str, Any], rates: Mapping[int, Any]) -> None:
    """Take in an attempt: a rate that it was given is obeyed where it began, and voids those asked for before."""
    begun, attempt = start.get("from_step"), start.get("attempt")
    if not isinstance(begun, int) or not isinstance(attempt, int):
        return
    for name, one in [*found.items()]:
        if name.startswith("~rate-") and one.step > begun:  # holds also where a later attempt fell back behind it
            found[name] = replace(one, step=begun)
    rate = rate_of(rates.get(attempt))
    if rate is None:
        return
    for name, one in [*found.items()]:
        if one.request.op == "lr" and one.step >= begun:
            del found[name]
    name = f"~rate-{attempt:06}"  # behind what was asked for after the same step
    found[name] = Obeyed(begun, Request(name, "lr", rate, -1, 0.0))


def _planned(job: Mapping[str, Any]) -> list[Obeyed]:
    """What the job of a replay says it has to obey."""
    asked = job.get(KEY)
    ops = (*OPS, *LEAVING.values())
    return [
        one
        for number, values in enumerate(asked if isinstance(asked, list) else (), 1)
        if isinstance(values, dict) and (one := Obeyed.from_values(values, f"replay-{number:06}", ops)) is not None
    ]


class Script:
    """What is to be obeyed once more, step by step."""

    def __init__(self, owed: Iterable[Obeyed]) -> None:
        self._owed = list(owed)

    def due(self, step: int) -> list[Request]:
        """What is to be obeyed after so many steps, each given once."""
        found = [one.request for one in self._owed if one.step <= step]
        self._owed = [one for one in self._owed if one.step > step]
        return found


def script(run: Run, job: Mapping[str, Any], from_step: int, *, new_rate: bool = False) -> Script:
    """What an attempt that begins at `from_step` has to obey by itself.

    Obeying twice after the same step changes nothing, so what a checkpoint may hold already is in it too. A replay
    leaves once: who lets it go on does not want it to leave there again.
    `new_rate`: the resume names another learning rate, and the one that was asked for before it is void.
    """
    answers = tail(run.events_path, 1 << 30, {"control"})
    left = {str(one.get("request", "")) for one in answers if one.get("op") in LEAVING.values()}
    planned = [one for one in _planned(job) if one.request.id not in left]
    found = {one.request.id: one for one in (*planned, *obeyed(run))}
    owed = [one for one in found.values() if one.step >= from_step and not (new_rate and one.request.op == "lr")]
    return Script(sorted(owed, key=lambda one: (one.step, one.request.id)))
