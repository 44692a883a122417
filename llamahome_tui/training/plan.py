"""`train plan`: all that `train start` checks, and what would learn, told from a model's files without its weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from llamahome_tui.outcome import Note, Outcome, Progress, Result
from llamahome_tui.text import clean
from llamahome_tui.training import checks, weights
from llamahome_tui.training.commands import read_words
from llamahome_tui.workers.child import ask
from llamahome_tui.workers.commands import python_of
from llamahome_tui.workers.plan import PlanRequest

if TYPE_CHECKING:
    from llamahome_tui.context import Context

_MODULE = "llamahome_tui.workers.plan"


def plan(
    context: Context,
    spec: str | None = None,
    set: Sequence[str] = (),
    model: str | None = None,
    data: Sequence[str] = (),
) -> Iterator[Outcome]:
    """What a run of this spec would train: parameters by kind of module, and what its "auto" values come to.

    `disk_bytes` is the most that its checkpoints take at once. Raises what `train start` raises before a run exists;
    nothing is made, and no weights are read.
    """
    from llamahome_tui.jobs.store import RunStore

    wanted = checks.check(context, read_words(context, spec, set, model, data, None))
    located = checks.locate_model(context, wanted, RunStore(context.places))
    folder = wanted.model.adapter or (str(located.adapter) if located.adapter else "")
    request = PlanRequest(wanted.to_dict(), str(located.path), weights.base_name(located), folder)
    yield Progress(f"looking at {clean(located.id, limit=200)}", 0)
    python = python_of(context, wanted.to_dict())
    found = next(one for one in ask(python, _MODULE, request.to_line(), context.environ) if one["type"] == "plan")
    if found["left"]:
        yield Note(clean(found["left"], limit=2000))
    one = weights.checkpoint_bytes(wanted, located)
    yield Result({
        "model": located.id,
        "revision": located.revision,
        "method": wanted.method.kind,
        "parameters": found["parameters"],
        "trainable_parameters": found["trainable_parameters"],
        "by_kind": found["by_kind"],
        "settled": found["settled"],
        "checkpoint_bytes": one,
        "disk_bytes": one * (wanted.checkpoint.keep + 2),
    })  # fmt: skip
