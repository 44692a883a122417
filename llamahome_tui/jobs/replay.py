"""What was asked of a run and obeyed, and after which step: whoever trains that step again obeys it again.

So a resumed run is the run it goes on from, and a replayed one is the run it replays, requests included.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from llamahome_tui.jobs.control import Request
from llamahome_tui.jobs.reader import tail
from llamahome_tui.jobs.store import Run

OPS: Final = ("save", "eval", "sample", "lr")  # what is obeyed between two steps; leaving changes nothing in a course
KEY: Final = "replay"  # of a job: what is to be obeyed in it, as `as_job` gives it


@dataclass(frozen=True, slots=True)
class Obeyed:
    """A request that was applied after `step` steps."""

    step: int
    request: Request

    @classmethod
    def from_values(cls, values: Mapping[str, Any], id: str) -> Obeyed | None:
        """From a `control` record or a job; None for what says nothing of a step."""
        step, op = values.get("step"), values.get("op")
        if not isinstance(step, int) or isinstance(step, bool) or op not in OPS:
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
    """The same for the job of a run that replays this one."""
    return [{"step": one.step, "op": one.request.op, "value": one.request.value} for one in obeyed(run)]


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

    Obeying twice after the same step changes nothing, so what a checkpoint may hold already is in it too.
    `new_rate`: the resume names another learning rate, and the one that was asked for before it is void.
    """
    asked = job.get(KEY)
    planned = [
        one
        for number, values in enumerate(asked if isinstance(asked, list) else (), 1)
        if isinstance(values, dict) and (one := Obeyed.from_values(values, f"replay-{number:06}")) is not None
    ]
    found = {one.request.id: one for one in (*planned, *obeyed(run))}
    owed = [one for one in found.values() if one.step >= from_step and not (new_rate and one.request.op == "lr")]
    return Script(sorted(owed, key=lambda one: (one.step, one.request.id)))
