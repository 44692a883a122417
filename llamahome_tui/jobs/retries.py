"""Whether a failed attempt is tried again: as often as the spec says, never when it would only fail the same way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from llamahome_tui.jobs.journal import Record, tail
from llamahome_tui.jobs.recovery import newest_complete_checkpoint
from llamahome_tui.jobs.status import Story
from llamahome_tui.jobs.store import Run

_FIRST: Final = 5.0  # seconds before the first retry; each further one waits twice as long
_LONGEST: Final = 300.0


@dataclass(frozen=True, slots=True)
class Recovery:
    """The spec's [recovery] as far as a supervisor needs it. Times in seconds; `stall_s` 0 watches for no stall."""

    retries: int
    stall_s: float
    grace_s: float
    backoff_s: float

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> Recovery:
        """As the job says. A wrapped command that says nothing is not tried again."""
        said: dict[str, Any] = {}
        spec = job.get("spec")
        for place in (job.get("recovery"), spec.get("recovery") if isinstance(spec, dict) else None):
            said.update(place if isinstance(place, dict) else {})
        return cls(
            retries=int(_number(said, "retries", 0 if job.get("kind") == "exec" else 2)),
            stall_s=_number(said, "stall_s", 600.0),
            grace_s=_number(said, "grace_s", 120.0),
            backoff_s=_number(said, "backoff_s", _FIRST),
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """`again` with the seconds to wait, or why not."""

    again: bool
    reason: str
    delay_s: float = 0.0


def account(
    run: Run, story: Story, code: int | None, signal: str | None, stopped: bool, recovery: Recovery
) -> tuple[Verdict, dict[str, Any]]:
    """What the `exit` record of an attempt says of it, and whether there will be another."""
    newest = newest_complete_checkpoint(run)
    about: dict[str, Any] = {"stop": stopped, "retry": False}
    if newest is not None:
        about.update(checkpoint=str(newest.path.relative_to(run.dir)), checkpoint_step=newest.step)
    if story.end is not None and story.end.get("reason") in ("completed", "stopped", "paused"):
        return Verdict(False, ""), about
    failure = failure_of(run, story, code, signal)
    verdict = Verdict(False, "a stop was asked") if stopped else judge(run, story, failure, recovery)
    return verdict, {**about, "failure": failure, "retry": verdict.again, "reason": verdict.reason}


def failure_of(run: Run, story: Story, code: int | None, signal: str | None) -> dict[str, Any]:
    """How an attempt failed, so that two failures can be compared: the way (code, exception) and the step."""
    error = story.error or {}
    step = error.get("step")
    if not isinstance(step, int):
        begun = story.spawn.get("events_bytes") if story.spawn is not None else 0
        room = story.events_bytes - (begun if isinstance(begun, int) else 0)
        # Several: a checkpoint that was written beside training is told of a few steps later.
        newest = tail(run.events_path, 8, {"progress", "metrics", "checkpoint"}, limit_bytes=max(1, min(room, 1 << 20)))
        steps = [one["step"] for one in newest if isinstance(one.get("step"), int)]
        step = max(steps) if steps else (story.start or {}).get("from_step")
    way = error.get("code") or (f"signal {signal}" if signal else f"exit {code}" if code is not None else "unknown")
    return {"code": way, "exception": error.get("exception") or "", "step": step if isinstance(step, int) else None}


def judge(run: Run, story: Story, failure: Mapping[str, Any], recovery: Recovery) -> Verdict:
    """Whether an attempt that failed so is tried again. Counts from the newest start by hand."""
    if story.error is not None and story.error.get("retry") is False:
        return Verdict(False, "it would fail the same way again")
    used, before = _history(run)
    if before is not None and all(before.get(key) == failure.get(key) for key in ("code", "exception", "step")):
        return Verdict(False, f"the same step failed the same way twice ({failure.get('code')})")
    if used >= recovery.retries:
        return Verdict(False, f"{used} of {recovery.retries} retries are used" if used else "")
    return Verdict(True, f"{failure.get('code')}", min(_LONGEST, recovery.backoff_s * 2**used))


def _history(run: Run) -> tuple[int, Record | None]:
    """Retries since the newest start by hand, and the failure of the attempt before the one that has just ended."""
    used = 0
    before: Record | None = None
    counting = True
    for record in reversed(tail(run.supervisor_path, 256, {"spawn", "retry", "exit"})):
        if record["type"] == "exit":
            failure = record.get("failure")
            before = failure if isinstance(failure, dict) else None
            break
    for record in reversed(tail(run.supervisor_path, 256, {"spawn", "retry"})):
        if record["type"] == "retry" and counting:
            used += 1
        elif record["type"] == "spawn" and record.get("request"):
            counting = False
    return used, before


def _number(said: Mapping[str, Any], key: str, default: float) -> float:
    value = said.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else default
