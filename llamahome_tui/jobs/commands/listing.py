"""`runs list`: what has ended and was seen before is neither read again, nor is the code for that loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from llamahome_tui.errors import UsageError
from llamahome_tui.jobs.index import Index
from llamahome_tui.jobs.store import RunStore
from llamahome_tui.outcome import Outcome, Result

if TYPE_CHECKING:
    from llamahome_tui.context import Context


def list_runs(
    context: Context, status: str | None = None, tag: str | None = None, limit: int | None = None
) -> Iterator[Outcome]:
    """All runs, newest first, as `runs show` gives them but without their lists."""
    _check(status, limit)
    found: list[dict[str, Any]] = []
    for run in summaries(context):
        if (status is None or run["status"] == status) and (tag is None or tag in run["tags"]):
            found.append(run)
            if limit is not None and len(found) >= limit:
                break
    hint = ""
    if not found:
        asked = status is not None or tag is not None
        hint = "none is like that; all: llamahome --batch runs list" if asked else "start one: llamahome --batch demo"
    yield Result(found, hint=hint)


def summaries(context: Context) -> Iterator[dict[str, Any]]:
    """The summary of every run, newest first; who is seen without a supervisor is given one."""
    store = RunStore(context.places)
    index = Index(context.places.indexes / "runs.json", store.runs)
    queued = _queued(context)
    try:
        for run in store.list():
            summary, files = index.get(run)
            if summary is None:
                from llamahome_tui.jobs.view import summarise

                view = summarise(run, queued=queued)
                summary = view.to_dict()
                if view.adoptable:
                    _adopt(context, run.id)
                elif view.ended and not view.remote:
                    index.put(run, files, summary, view.last_t)
            yield summary
    finally:
        index.save()


def _queued(context: Context) -> dict[str, int]:
    """Places in the queue by run id."""
    try:
        if context.places.queue_file.stat().st_size == 0:
            return {}
    except OSError:
        return {}
    from llamahome_tui.jobs.queue import Queue

    return {entry.run: place for place, entry in enumerate(Queue(context.places.state).waiting(), 1)}


def _adopt(context: Context, run_id: str) -> None:
    from llamahome_tui.jobs.commands.following import Adoption
    from llamahome_tui.jobs.status import derive

    run = RunStore(context.places).resolve(run_id)
    Adoption(context).look(run, derive(run))


def _check(status: str | None, limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise UsageError("--limit must be at least 1", hint="as in: llamahome --batch runs list --limit 10")
    if status is None:
        return
    from llamahome_tui.jobs.status import Status

    known = [state.value for state in Status]
    if status not in known:
        raise UsageError(
            f"{status!r} is not a state of a run: {', '.join(known)}",
            hint="as in: llamahome --batch runs list --status running",
            data={"candidates": known},
        )
