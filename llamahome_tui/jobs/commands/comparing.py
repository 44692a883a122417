"""`runs compare`: several runs side by side; nothing is changed, and no run is looked after for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from llamahome_tui.errors import NotFoundError, UsageError
from llamahome_tui.jobs.comparison import compare, look, metrics_of
from llamahome_tui.jobs.course import Axis
from llamahome_tui.jobs.store import Run, RunStore
from llamahome_tui.outcome import Level, Note, Outcome, Progress, Result

if TYPE_CHECKING:
    from llamahome_tui.context import Context

_USE = "llamahome --batch runs compare ID ID"
_MOST = 50


def compare_runs(
    context: Context,
    id: Sequence[str] = (),
    metric: str = "",
    axis: Axis = "step",
    tag: str | None = None,
    status: str | None = None,
) -> Iterator[Outcome]:
    """The comparison of two or more runs, or of all with a tag or in a state.

    Raises UsageError (fewer than two, more than 50), NotFoundError (an id, a metric that none of them has).
    """
    runs = _asked(context, id, tag, status)
    found = []
    for done, run in enumerate(runs):
        yield Progress("reading runs", done, len(runs), "runs")
        found.append(look(run))
    known = metrics_of(found)
    chosen = metric or next((name for name in ("eval_loss", "loss") if name in known), "eval_loss")
    if metric and metric not in known:
        raise NotFoundError(
            f"--metric {metric}: none of these runs has it" + (f"; they have {', '.join(known[:20])}" if known else ""),
            code="metric.not_found",
            hint=f"see: {_USE}",
            data={"candidates": known},
        )
    result = compare(found, chosen, axis)
    for reason in result["why_not"]:
        yield Note(f"{chosen} is not comparable: {reason}", Level.WARNING)
    yield Result(result)


def meant(context: Context, tag: str | None, status: str | None, ids: Sequence[str], use: str) -> list[str]:
    """The runs that are named, else all with this tag and in this state, newest first; raises UsageError for both."""
    if ids and (tag is not None or status is not None):
        raise UsageError("give runs, or --tag and --status, not both", hint=use)
    if ids:
        return list(ids)
    from llamahome_tui.jobs.commands.listing import list_runs

    listed = next(one.data for one in list_runs(context, status, tag) if isinstance(one, Result))
    return [str(one["id"]) for one in listed]


def _asked(context: Context, ids: Sequence[str], tag: str | None, status: str | None) -> list[Run]:
    store = RunStore(context.places)
    names = meant(context, tag, status, ids, _USE) if ids or tag is not None or status is not None else ()
    runs = list({run.id: run for run in map(store.resolve, names)}.values())
    if len(runs) < 2:
        raise UsageError(f"a comparison needs two runs, and {len(runs)} is meant", hint=f"as in: {_USE}")
    if len(runs) > _MOST:
        raise UsageError(
            f"{len(runs)} runs are more than the {_MOST} that can be compared at once", hint=f"name them: {_USE}"
        )
    return runs
