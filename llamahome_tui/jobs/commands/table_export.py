"""`runs export-table`: runs as CSV on stdout or in a file, which is there whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from llamahome_tui.errors import NotFoundError, ResourceError, UsageError
from llamahome_tui.jobs.commands.comparing import meant
from llamahome_tui.jobs.store import RunStore, write_portions
from llamahome_tui.jobs.table import long, wide
from llamahome_tui.outcome import Outcome, Result, Text

if TYPE_CHECKING:
    from llamahome_tui.context import Context

_USE = "llamahome --batch runs export-table --to runs.csv"


def export_table(
    context: Context,
    id: Sequence[str] = (),
    to: str | None = None,
    tag: str | None = None,
    status: str | None = None,
    all: bool = False,
    metrics: bool = False,
) -> Iterator[Outcome]:
    """The table of the runs that are named, or of all (with a tag, in a state).

    Raises NotFoundError where there is none, ResourceError where the file can't be written.
    """
    store = RunStore(context.places)
    runs = list({run.id: run for run in map(store.resolve, meant(context, tag, status, id, _USE))}.values())
    if not runs:
        raise NotFoundError("there is no such run", code="run.not_found", hint="see: llamahome --batch runs list")
    portions = long(runs) if metrics else wide(runs, all)
    told = {"runs": [run.id for run in runs], "form": "long" if metrics else "wide"}
    if to is None:
        for portion in portions:
            yield Text(portion)
        yield Result({**told, "path": None, "bytes": None})
        return
    path = context.path(to)
    if not path.name or path.is_dir():
        raise UsageError(f"--to {to}: give the name of a file", hint=f"as in: {_USE}")
    try:
        size = write_portions(path, portions)
    except OSError as error:
        raise ResourceError(
            f"{path} can't be written: {error.strerror}",
            code="table.not_writable",
            hint="print it instead: llamahome --batch runs export-table",
        ) from error
    yield Result({**told, "path": str(path), "bytes": size}, changed=True, hint=f"written: {path}")
