"""What takes disk: each category with its share, and below it the largest things; measuring takes a thread."""

from __future__ import annotations

from textwrap import wrap
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal

from llamahome_tui.cache.scan import Category, Entry, scan, totals
from llamahome_tui.jobs.store import RunStore
from llamahome_tui.tui.base import BaseScreen
from llamahome_tui.tui.keys import bindings
from llamahome_tui.tui.runner import Poll
from llamahome_tui.tui.widgets.bar import Bar
from llamahome_tui.tui.widgets.cells import Value
from llamahome_tui.tui.widgets.table import Cell, Column, Row, Table
from llamahome_tui.units import human_bytes, short_duration

COLUMNS = (
    Column("Size", 9, "right"),
    Column("Kind", 8),
    Column("Name", 20, grow=2),
    Column("Files", 6, "right", rank=2),
    Column("Used", 4, "right", rank=1),
    Column("Held by", 12, grow=1, rank=3),
)
EMPTY = (
    "Nothing here takes disk yet.",
    "",
    "  r                               measure again",
    "  llamahome --batch cache list    the same list for scripts",
    "  llamahome --batch demo          a first run, a few MiB",
)
WORDS = {
    Category.MODELS: "models",
    Category.TRAINING: "runs and data",
    Category.SYSTEM: "logs and indexes",
    Category.BYTECODE: "compiled code",
}
READ_EVERY_S = 60.0
ID_STAMP = 16  # `YYYYMMDD-HHMMSS-` in front of a run's name


class CacheScreen(BaseScreen):
    """Categories and their largest entries."""

    NAME = "cache"
    SCOPES = ("cache", "table")
    BINDINGS = bindings("cache")
    CSS_PATH = "screen.tcss"

    def compose_body(self) -> ComposeResult:
        """A line for each category, then the table."""
        for category in Category:
            with Horizontal(classes="share", id=f"share-{category.value}"):
                yield Value(WORDS[category], classes="name")
                yield Bar()
                yield Value("", classes="size")
                yield Value("", classes="part", tone="dim")
        with Horizontal(classes="share"):
            yield Value("in all", classes="name")
            yield Value("", classes="rule")
            yield Value("", id="total", classes="size", tone="strong")
            yield Value("", classes="part")
        yield Table(COLUMNS, empty=EMPTY, id="entries")
        yield Value("", id="path", tone="dim")

    def on_mount(self) -> None:
        """Begin to measure."""
        self.table = self.query_one(Table)
        self.only: Category | None = None
        self.entries: list[Entry] = []
        places = self.home.context.places
        self.poll: Poll[list[Entry]] = Poll(self.home, "cache", lambda: scan(places, RunStore(places)), READ_EVERY_S)
        self.table.focus()

    def polls(self) -> tuple[Poll[Any], ...]:
        """The measurement."""
        return (self.poll,)

    def tick(self, now: float) -> None:
        """Paint the newest measurement."""
        if not self.poll.changed():
            return
        if self.poll.error is not None:
            width = max(20, self.table.size.width - 4)
            self.table.explain(*wrap(self.poll.error.message, width), *wrap(self.poll.error.hint, width))
        self.entries = self.poll.value or []
        self._paint(now)

    def _paint(self, now: float) -> None:
        sums = totals(self.entries)
        for category in Category:
            line = self.query_one(f"#share-{category.value}")
            share = sums[category.value] / sums["total"] if sums["total"] else 0.0
            line.query_one(Bar).show(share)
            line.query_one(".size", Value).show(human_bytes(sums[category.value]))
            line.query_one(".part", Value).show(f"{share:.0%}")
            line.set_class(self.only is category, "-only")
        chosen = [entry for entry in self.entries if self.only in (None, entry.category)]
        self.table.show([_row(entry, now) for entry in chosen])
        self.query_one("#total", Value).show(human_bytes(sums["total"]))

    @on(Table.Opened)
    def _opened(self, event: Table.Opened) -> None:
        """Only what is of the selected one's kind, and back."""
        entry = next((entry for entry in self.entries if str(entry.path) == event.id), None)
        if entry is not None:
            self.only = entry.category if self.only is None else None
            self._paint(self.home.clock())

    @on(Table.Moved)
    def _moved(self, event: Table.Moved) -> None:
        self.query_one("#path", Value).show(event.id or "")

    def action_category(self) -> None:
        """Only the next category, after the last one all."""
        sums = totals(self.entries)
        order: list[Category | None] = [None, *(category for category in Category if sums[category.value])]
        self.only = order[((order.index(self.only) if self.only in order else 0) + 1) % len(order)]
        self._paint(self.home.clock())

    def action_reread(self) -> None:
        """Measure again."""
        self.poll.now()

    def action_copy(self) -> None:
        """Copy the selected path."""
        if self.table.selected:
            self.copy(self.table.selected)


def _row(entry: Entry, now: float) -> Row:
    age = max(0.0, now - entry.used) if entry.used else None
    more = f" +{len(entry.in_use) - 1}" if len(entry.in_use) > 1 else ""
    held = entry.in_use[0][ID_STAMP:] + more if entry.in_use else ""
    return Row.of(
        str(entry.path),
        Cell(human_bytes(entry.bytes), "strong", entry.bytes),
        Cell(entry.kind, "dim"),
        Cell(entry.name),
        Cell(str(entry.files), "dim", entry.files),
        Cell(short_duration(age), "dim", age),
        Cell(held, "busy"),
    )
