"""`demo`: an ordinary run on the embedded model, followed to its end; every figure comes from the run's own journal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from llamahome_tui.demo.recipe import ROWS, demo_spec
from llamahome_tui.errors import TrainingError
from llamahome_tui.outcome import Accepted, Note, Outcome, Result

if TYPE_CHECKING:
    from llamahome_tui.context import Context
    from llamahome_tui.jobs.store import Run


def demo(context: Context) -> Iterator[Outcome]:
    """Teach the embedded model the language of the llamas; the result holds its exact-match score before and after.

    The same path as `train start`: a supervised run that goes on when this is left. Raises what that raises, and
    TrainingError when the run was stopped before both scores were there.
    """
    from llamahome_tui.jobs import spawn
    from llamahome_tui.jobs.commands.following import environ_of_jobs, stay_with
    from llamahome_tui.training.commands import begin

    began = time.monotonic()
    run = begin(context, demo_spec(context.environ))
    yield Accepted(run.id)
    yield Note(f"teaching the embedded model the language of the llamas, then asking it {ROWS} words it never saw")
    spawn.launch(run, environ_of_jobs(context))
    for outcome in stay_with(context, run, "start", changed=True):
        if not isinstance(outcome, Result):
            yield outcome
    learned = what_it_learned(run)
    after = (
        f'llamahome --batch generate {run.id} --prompt "Say garden in llama."',
        f"llamahome training --run {run.id}",
    )
    yield Result(learned | {"seconds": time.monotonic() - began}, changed=True, next=after)


def what_it_learned(run: Run) -> dict[str, Any]:
    """Scores (0 to 1), losses and samples of a demo run, as its trainer journalled them. Raises TrainingError."""
    from llamahome_tui.jobs.journal import read

    scores: list[float] = []
    losses: list[float] = []
    samples: list[dict[str, Any]] = []
    for record in read(run.events_path):
        if record["type"] == "metrics":
            if isinstance(record.get("eval_exact"), int | float):
                scores.append(float(record["eval_exact"]))
            if isinstance(record.get("loss"), int | float):
                losses.append(float(record["loss"]))
        elif record["type"] == "sample":
            samples.append({key: record.get(key) for key in ("step", "prompt", "text")})
    if len(scores) < 2 or not losses:
        raise TrainingError(
            f"the run {run.id} ended before it was scored",
            code="demo.incomplete",
            hint=f"let it go on: llamahome --batch runs resume {run.id}",
            data={"run": run.id},
        )
    return {
        "score_before": scores[0],
        "score_after": scores[-1],
        "run": run.id,
        "loss_first": losses[0],
        "loss_last": losses[-1],
        "samples": samples,
    }
