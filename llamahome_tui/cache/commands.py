"""`cache usage` and `cache list`: what takes disk, measured now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from llamahome_tui.cache.scan import scan, totals
from llamahome_tui.outcome import Outcome, Result

if TYPE_CHECKING:
    from llamahome_tui.context import Context


def usage(context: Context) -> Iterator[Outcome]:
    """Bytes per category: models, training, system, bytecode, and their total."""
    from llamahome_tui.jobs.store import RunStore

    yield Result(totals(scan(context.places, RunStore(context.places))), next=("llamahome --batch cache list",))


def list_entries(context: Context) -> Iterator[Outcome]:
    """Everything that takes disk, largest first, with the live runs that hold it."""
    from llamahome_tui.jobs.store import RunStore

    yield Result([entry.to_dict() for entry in scan(context.places, RunStore(context.places))])
