"""`runs replay`: a new run from an old one's spec that obeys what the old one was asked, after the same steps."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from llamahome_tui.errors import UsageError
from llamahome_tui.jobs import replay, spawn
from llamahome_tui.jobs.commands.changing import WITHOUT_SPEC
from llamahome_tui.jobs.commands.following import ending, environ_of_jobs, stay_with
from llamahome_tui.jobs.status import derive
from llamahome_tui.jobs.store import Run, RunStore
from llamahome_tui.outcome import Accepted, Level, Note, Outcome, Result
from llamahome_tui.training import checks, sameness
from llamahome_tui.training.commands import begin
from llamahome_tui.training.replaying import KEY, origin_of
from llamahome_tui.training.rules import NAME
from llamahome_tui.training.shape import Spec

if TYPE_CHECKING:
    from llamahome_tui.context import Context

_SUFFIX: Final = "-replay"
_SHOWN: Final = 8  # requests that are named before it begins
_LONGEST: Final = 64  # characters of a name
_ASKED: Final = {"save": "save", "eval": "evaluate", "sample": "sample", "stop": "stop", "pause": "pause"}


def replay_run(context: Context, id: str, name: str | None = None, detach: bool = False) -> Iterator[Outcome]:
    """Do a run again: its spec, and what it was asked after the same steps; follow it unless `detach`.

    What may come out otherwise (data changed, versions, another host) is said before it begins, and its `start` event
    says so. Raises UsageError for what has no course to follow, what `checks.check` and `submit` raise, and
    TrainingError when the run it follows fails.
    """
    run = RunStore(context.places).resolve(id)
    job = run.effective_job()
    if job.get("kind") != "train":
        raise UsageError(
            f"{run.id} is {WITHOUT_SPEC.get(str(job.get('kind')), 'no training')}: there are no steps to do again",
            code="replay.no_training",
            hint="give its line again: llamahome --batch "
            + ("runs export RUN" if job.get("kind") == "export" else "runs exec --name NAME -- COMMAND"),
        )
    spec = Spec.from_dict(_with_first_rate(run, job))
    spec = replace(spec, name=_name(name, spec.name or run.name))
    origin, course = origin_of(run), replay.as_job(run)
    differs = origin.differences(_here(context, spec), spec)
    also: dict[str, Any] = {KEY: origin.to_dict(), replay.KEY: course}
    if "asked_model" in job:
        also["asked_model"] = job["asked_model"]
    made = begin(context, spec, also=also)
    yield Accepted(made.id)
    yield Note(f"replays {run.id}: {_told(course)}")
    if differs:
        yield Note(f"it may not come out the same: {'; '.join(differs)}", Level.WARNING)
    about = {"replay_of": run.id, "replays": course, "differs": differs}
    spawn.launch(made, environ_of_jobs(context))
    if detach:
        after = (f"llamahome --batch runs watch {made.id}",)
        yield Result({**ending(made, derive(made)), **about}, changed=True, next=after)
        return
    for outcome in stay_with(context, made, "start", changed=True):
        yield replace(outcome, data={**outcome.data, **about}) if isinstance(outcome, Result) else outcome


def _with_first_rate(run: Run, job: dict[str, Any]) -> dict[str, Any]:
    """The spec with all that resumes have changed, but the learning rate: that one changes again at its step."""
    spec = job["spec"]
    first = run.job["spec"].get("training", {})
    training = {key: value for key, value in spec.get("training", {}).items() if key != "learning_rate"}
    if "learning_rate" in first:
        training["learning_rate"] = first["learning_rate"]
    return {**spec, "training": training}


def _name(given: str | None, before: str) -> str:
    if given is None:
        return before.removesuffix(_SUFFIX)[: _LONGEST - len(_SUFFIX)] + _SUFFIX
    if not NAME.fullmatch(given):
        raise UsageError(
            f"{given[:64]!r} is no name: letters, digits, dots, dashes and underscores, at most 64",
            hint="as in: llamahome --batch runs replay latest --name again",
        )
    return given


def _here(context: Context, spec: Spec) -> dict[str, Any]:
    """What can be known of the surroundings before the trainer is there."""
    known: dict[str, Any] = {"host": os.uname().nodename}
    if not checks.python_of(context, spec):  # of another interpreter only the trainer knows
        known["versions"] = sameness.versions()
    return known


def _told(course: Sequence[dict[str, Any]]) -> str:
    """What it will be asked, in words."""
    if not course:
        return "nothing was asked of it"
    first = [f"{_ASKED.get(one['op'], 'lr=' + str(one['value']))} after step {one['step']}" for one in course[:_SHOWN]]
    return ", ".join(first) + (f", and {len(course) - _SHOWN} more" if len(course) > _SHOWN else "")
