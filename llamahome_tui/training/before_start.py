"""The forecast that a start is held against: what certainly does not fit is refused before a run exists.

It is by formula, so that a start takes no longer for it. What only may not fit is said and begins: the trainer looks at
memory that is free then, and splits a micro-batch that proves too large.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from llamahome_tui.errors import ModelError, ResourceError
from llamahome_tui.outcome import Level, Note, Outcome
from llamahome_tui.training import planned_for
from llamahome_tui.training.fit import words_of
from llamahome_tui.training.foresee import Foresight, foresee
from llamahome_tui.units import human_bytes

if TYPE_CHECKING:
    from llamahome_tui.context import Context
    from llamahome_tui.training.checks import Checked

_DOUBT: Final = 0.1  # of the forecast: how far a formula may be too high
_SPLIT: Final = frozenset({"training.batch_size"})  # what the trainer changes by itself


def look_ahead(context: Context, checked: Checked) -> Foresight | None:
    """What the run will take, or None for a model whose config tells too little.

    Raises ResourceError `resource.memory` with `needed_bytes`, `free_bytes` and `alternatives` where it cannot fit.
    """
    room = planned_for.here(checked.candidates)
    try:
        found = foresee(context, checked.spec, checked.located, room, checked.rows, quick=True)
    except ModelError as error:
        if error.error_code != "model.config":
            raise
        return None
    if found.fits or found.predicted_bytes * (1 - _DOUBT) <= _most(context, found):
        return found
    if checked.spec.recovery.oom == "split" and any(plan.set.keys() == _SPLIT for plan in found.alternatives):
        return found
    best = found.alternatives[0] if found.alternatives else None
    raise ResourceError(
        f"this run needs about {human_bytes(found.predicted_bytes)}, and {found.target.name} has "
        f"{human_bytes(found.free_bytes)} free" + (f"; what fits: {best.note}" if best else ""),
        code="resource.memory",
        hint=f"as in: llamahome --batch train start SPEC{words_of(best.set)}"
        if best
        else "see where the memory goes: llamahome --batch train plan SPEC",
        data={
            "needed_bytes": found.predicted_bytes,
            "free_bytes": found.free_bytes,
            "alternatives": [plan.to_dict() for plan in found.alternatives],
        },
    )


def as_job(found: Foresight) -> dict[str, Any]:
    """What a run keeps of it; its `start` event tells it again."""
    return {
        "predicted_bytes": found.predicted_bytes,
        "forecast_bytes": found.forecast_bytes,
        "free_bytes": found.free_bytes,
        "device": found.target.name,
        "line": found.line,
        "warnings": list(found.warnings),
    }


def said(kept: Any) -> Iterator[Outcome]:
    """What was kept, for whoever has started the run."""
    if not isinstance(kept, dict):
        return
    fits = kept["predicted_bytes"] <= kept["free_bytes"]
    yield Note(str(kept["line"]), Level.INFO if fits else Level.WARNING)
    for warning in kept["warnings"]:
        yield Note(str(warning), Level.WARNING)


def _most(context: Context, found: Foresight) -> int:
    """Bytes that the run may hope for: all of the device where runs hold it that will have ended when it begins."""
    from llamahome_tui.jobs.store import RunStore

    busy = any(run.live and run.job.get("kind") != "export" for run in RunStore(context.places).list())
    return found.target.memory_bytes if busy else found.free_bytes
