"""`runs report`: the report of a run, for people as Markdown, for scripts as data; to a file where one is named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from llamahome_tui.errors import ResourceError
from llamahome_tui.jobs.report import report_of
from llamahome_tui.jobs.report_text import markdown
from llamahome_tui.jobs.store import RunStore, write_object, write_text
from llamahome_tui.outcome import Outcome, Result, Text

if TYPE_CHECKING:
    from llamahome_tui.context import Context


def report(context: Context, id: str, to: str | None = None) -> Iterator[Outcome]:
    """The report as the run stands now; `to` a file ending in .json gets data, any other Markdown."""
    run = RunStore(context.places).resolve(id)
    made = report_of(run)
    if to is None:
        yield Text(markdown(made))
        yield Result(made.to_dict())
        return
    path = context.path(to)
    try:
        if path.suffix == ".json":
            write_object(path, made.to_dict())
        else:
            write_text(path, markdown(made))
    except OSError as error:
        raise ResourceError(
            f"{path} can't be written: {error.strerror}",
            code="report.not_writable",
            hint=f"print it instead: llamahome --batch runs report {run.id}",
        ) from error
    yield Text(f"{path}\n")
    yield Result({**made.to_dict(), "path": str(path)}, changed=True)
