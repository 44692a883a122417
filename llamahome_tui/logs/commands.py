"""The operations on logs: which there are, and what stands in one; reading never changes a log."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from llamahome_tui.errors import UsageError
from llamahome_tui.logs.catalog import catalog, resolve
from llamahome_tui.logs.entries import Wanted, choose, offset_since
from llamahome_tui.logs.reader import Change, LogReader
from llamahome_tui.outcome import Note, Outcome, Result, Text
from llamahome_tui.text import clean
from llamahome_tui.units import utc

if TYPE_CHECKING:
    from llamahome_tui.context import Context

FOLLOW_POLL_S = 0.25
_FOLLOW_LINES = 20  # shown before following begins, as tail -f does


def list_logs(context: Context) -> Iterator[Outcome]:
    """Every log with its size and the time of its last line."""
    rows = [
        {
            "name": log.name,
            "size_bytes": log.size_bytes,
            "modified": utc(log.modified),
            "kind": log.kind,
            "path": str(log.path),
        }
        for log in catalog(context.places)
    ]
    yield Result(rows)


def show(
    context: Context, name: str, since: float | None, level: str | None, grep: str | None, follow: bool
) -> Iterator[Outcome]:
    """The lines of a log that are younger than `since` seconds, of `level` and above, and match `grep`."""
    try:
        pattern = re.compile(grep) if grep else None
    except re.error as error:
        raise UsageError(
            f"--grep {grep!r} is no regular expression: {error}", hint="see: llamahome --batch logs show --help"
        ) from None
    log = resolve(context.places, name)
    start = time.time() - since if since is not None else None
    wanted = Wanted(start, level or "debug", pattern)
    shown = 0
    with LogReader(log.path) as reader:
        offset = offset_since(reader, start) if start is not None else 0
        if follow and start is None:
            offset = next((line.offset for line in reader.tail(_FOLLOW_LINES)), 0)
        for line in choose(reader.forward(offset), wanted):
            shown += 1
            yield Text(clean(line.text, limit=10_000) + "\n")
        offset = reader.size
        while follow:
            time.sleep(FOLLOW_POLL_S)
            change = reader.refresh()
            if change is Change.REPLACED:
                offset = 0
                yield Note(f"{log.name} was replaced; reading the new one")
            for line in choose(reader.forward(offset), wanted) if change in (Change.GREW, Change.REPLACED) else ():
                yield Text(clean(line.text, limit=10_000) + "\n")
            offset = reader.size
    yield Result({"name": log.name, "path": str(log.path), "lines": shown})
