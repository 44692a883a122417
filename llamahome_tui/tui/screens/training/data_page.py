"""The data of a run, a spec or a file: its rows, one of them token by token, the statistics, and the bad rows.

Everything is read in threads: rows (data_browser.py), tokens (data_look.py), counts (data_counts.py). The page paints
the newest of it and never waits; what was asked for last wins.
"""

from __future__ import annotations

from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal

from llamahome_tui.data.browse import RowIndex
from llamahome_tui.errors import LlamaHomeError
from llamahome_tui.tui.base import BaseScreen
from llamahome_tui.tui.keys import Key, bindings, footer
from llamahome_tui.tui.runner import Poll, Task
from llamahome_tui.tui.screens.training.data_browser import Browser, Listing, Opened
from llamahome_tui.tui.screens.training.data_counts import BadPane, Counting, StatsPane
from llamahome_tui.tui.screens.training.data_look import NO_MODEL, Looker, Looks
from llamahome_tui.tui.screens.training.data_row import RowPane
from llamahome_tui.tui.screens.training.data_rows import RowList
from llamahome_tui.tui.screens.training.data_subject import Subject, with_model
from llamahome_tui.tui.widgets.long_list import LongList
from llamahome_tui.tui.widgets.panes import Pane, PaneBar
from llamahome_tui.tui.widgets.table import Table

SIDE_BY_SIDE = 110  # columns from which rows and tokens stand beside each other
READ_EVERY_S = 2.0


class DataPage(BaseScreen):
    """The data view; `pane` is the part it opens with: rows, stats or bad."""

    NAME = "training"
    SCOPES = ("data", "rows")
    PANEL = False
    BINDINGS = bindings("data")
    CSS_PATH = "data_page.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (SIDE_BY_SIDE, "-wide"), (150, "-huge")]

    def __init__(self, subject: Subject, pane: str = "rows") -> None:
        super().__init__()
        self.subject_of_view = subject
        self.pane = pane
        self._listing = Listing()
        self._looks = Looks()
        self._opened: Opened | None = None
        self._wanted = -1  # the position whose row is to be opened once its line is there
        self._back_to = -1  # the row to select when the filter is off again
        self._seeking = False

    # The frame.

    def compose_body(self) -> ComposeResult:
        """The bar of parts, and the parts."""
        yield PaneBar(id="parts")
        with Horizontal(id="browse"):
            yield RowList(id="rows")
            yield RowPane(id="row")
        yield StatsPane(id="stats")
        yield BadPane(id="bad")

    def on_mount(self) -> None:
        """Begin to read."""
        self.rows, self.row = self.query_one(RowList), self.query_one(RowPane)
        self.stats, self.bad = self.query_one(StatsPane), self.query_one(BadPane)
        subject, home = self.subject_of_view, self.home
        self.browser = Browser(subject.files, subject.spec.data, lambda: self.reading.now(), RowIndex)
        self.reading: Poll[Listing] = Poll(
            home, "rows", self.browser.read, READ_EVERY_S, eager=True, on_end=self.browser.close
        )
        self._begin_looking()
        self._show_pane(self.pane)
        if self.pane == "stats":
            self._count()
        elif self.pane == "bad":
            self._check()

    def _begin_looking(self) -> None:
        self.looker = Looker(self._open_pool, lambda: self.looking.now())
        self.looking: Poll[Looks] = Poll(self.home, "tokens", self.looker.read, READ_EVERY_S, eager=True)
        self._looks = Looks()

    def _open_pool(self) -> Any:
        """In the looking thread."""
        from llamahome_tui.data.encode import Encoding
        from llamahome_tui.data.pool import Pool

        subject = self.subject_of_view
        if subject.model_dir is None:
            raise LlamaHomeError(subject.lacking, code=NO_MODEL)
        return Pool(Encoding(subject.model_dir, subject.spec.data, caller="data inspect SPEC"), 1)

    def on_unmount(self) -> None:
        """End the child process and what is being counted."""
        self.looker.close()
        self.stats.forget()
        self.bad.forget()

    def polls(self) -> tuple[Poll[Any], ...]:
        """Rows and tokens."""
        return (self.reading, self.looking)

    def subject(self) -> dict[str, str]:
        """The model the rows are shown for."""
        model = self.subject_of_view.spec.model.id
        return {"model": model} if model else {}

    def footer_keys(self) -> list[Key]:
        """The keys of the part in view that do something now; a key that two know is offered once."""
        scopes = {
            "rows": ("rows", "data", "app"),
            "row": ("data", "tokens", "text", "app"),
            "stats": ("data", "text", "app"),
            "bad": ("table", "data", "app"),
        }[self.pane]
        hidden = {self.pane}
        if self.pane in ("stats", "bad"):
            hidden |= {"raw", "next_row", "copy", "mark"}
        counting = self._in_view() if self.is_mounted else None
        if counting is None or not counting.running:
            hidden.add("cancel_count")
        known: dict[str, Key] = {}
        for scope in scopes:
            for key in footer((scope,)):
                if key.action not in hidden and not (key.scope == "text" and key.action == "bottom"):
                    known.setdefault(key.shown, key)
        return sorted(known.values(), key=lambda key: key.rank)

    def on_descendant_focus(self) -> None:
        """Side by side the rows or the row have the keys."""
        if self.pane in ("rows", "row") and self.has_class("-wide"):
            self.pane = "row" if self.row.has_focus_within else "rows"
        self.show_keys()

    def _show_pane(self, pane: str) -> None:
        self.pane = pane
        for name in ("rows", "row", "stats", "bad"):
            self.set_class(name == pane, f"-at-{name}")
        if pane == "rows":
            self.rows.focus()
        elif pane == "row":
            self.row.take_focus()
        else:
            self._focus_counts()
        self._paint_parts()
        self.show_keys()

    def _focus_counts(self) -> None:
        place = self.query_one("#numbers" if self.pane == "stats" else "#bad-rows")
        if place.focusable:
            place.focus()
        else:
            self.set_focus(None)

    # Painting.

    def tick(self, now: float) -> None:
        """Paint what is new."""
        if self.reading.changed():
            if self.reading.error is not None:
                self.rows.explain(self.reading.error.message, self.reading.error.hint)
            if self.reading.value is not None:
                self._take(self.reading.value)
        if self.looking.changed():
            if self.looking.error is not None:
                self.row.fail(self.looking.error.message)
            elif self.looking.value is not None:
                self._looks = self.looking.value
                self.rows.paint(self._listing, self._looks.counts)
                self.row.show_looks(self._looks)
        if self.pane == "stats":
            self.stats.show(self.subject_of_view)
        elif self.pane == "bad":
            counted = self.stats.value
            self.bad.show(self.subject_of_view, counted.bad if counted is not None else ())
        self._paint_parts()

    def _take(self, listing: Listing) -> None:
        before, self._listing = self._listing, listing
        self.rows.paint(listing, self._looks.counts)
        if before.generation != listing.generation:
            self.rows.begin_at(self._back_to if not listing.typed and self._back_to >= 0 else 0)
            self._back_to = -1
            self._wanted = self.rows.position if self.has_class("-wide") else -1
        if listing.opened is not None and listing.opened is not self._opened:
            self._opened = listing.opened
            self.row.show_row(listing.opened, listing.rows, done=listing.done)
            self.looker.want(listing.opened.line)
        if self._seeking and listing.sought is not None:
            self._seeking = False
            self._go_to(listing.sought)
        self._open_wanted()
        if self.subject_of_view.model_dir is not None:
            self.looker.count([listing.lines[at] for at in range(*self.rows.in_view()) if at in listing.lines])

    def _paint_parts(self) -> None:
        listing = self._listing
        rows = f"{listing.rows:,}" + ("" if listing.done else " so far")
        bad = self.bad.value.bad_count if self.bad.value is not None else None
        subject = self.subject_of_view
        here = "rows" if self.pane == "row" else self.pane
        about = "  ".join(
            part for part in (subject.title, f"for {subject.model}" if subject.model else "no model") if part
        )
        self.query_one(PaneBar).show(
            (
                Pane("r", "rows", "Rows", rows),
                Pane("t", "stats", "Statistics", self.stats.share),
                Pane("b", "bad", "Bad rows", self.bad.share if bad is None else f"{bad:,}", "bad" if bad else ""),
            ),
            here,
            about,
        )

    # Rows.

    @on(LongList.Seen)
    def _seen(self, message: LongList.Seen) -> None:
        self.browser.see(message.first, message.count)

    @on(LongList.Filtered)
    def _filtered(self, message: LongList.Filtered) -> None:
        line = self._listing.lines.get(self.rows.position)
        if not message.text and self._back_to < 0 and line is not None:
            self._back_to = line.number
        self.browser.choose(message.text)

    @on(LongList.Moved)
    def _moved(self, message: LongList.Moved) -> None:
        if self.has_class("-wide") or self.pane == "row":
            self._want(message.position)

    @on(LongList.Opened)
    def _chosen(self, message: LongList.Opened) -> None:
        self._want(message.position)
        self._show_pane("row")

    def _want(self, position: int) -> None:
        self._wanted = position
        self._open_wanted()

    def _open_wanted(self) -> None:
        if self._wanted < 0 and self._opened is None and self.has_class("-wide"):
            self._wanted = self.rows.position
        line = self._listing.lines.get(self._wanted)
        if line is not None:
            self._wanted = -1
            if self._opened is None or self._opened.line.number != line.number:
                self.browser.open(line.number)

    def _go_to(self, number: int) -> None:
        """Select a row by its number, with the filter off, and open it."""
        self._back_to = number
        if not self.rows.clear_filter():
            self._back_to = -1
            self.rows.select(number)
        self.browser.open(number)
        self._show_pane("row")

    # Keys.

    def action_rows(self) -> None:
        """The rows."""
        self._show_pane("rows")

    def action_stats(self) -> None:
        """The statistics, counted at the first time; again where that failed or was cancelled."""
        if self._wants(self.stats, "stats"):
            self._count()
        self._show_pane("stats")

    def action_bad(self) -> None:
        """The bad rows, looked for at the first time."""
        if self._wants(self.bad, "bad"):
            self._check()
        self._show_pane("bad")

    def _wants(self, counting: Counting, pane: str) -> bool:
        return counting.counted is None or (self.pane == pane and not counting.running and counting.value is None)

    def _count(self) -> None:
        if self.subject_of_view.model_dir is not None:
            self.stats.begin(self.home, self.subject_of_view, self._has_counted)

    def _check(self) -> None:
        self.bad.begin(self.home, self.subject_of_view, self._has_counted)

    def _has_counted(self, _: Task[Any]) -> None:
        if self.is_mounted:
            self.tick(self.home.clock())
            self.show_keys()
            if self.pane in ("stats", "bad") and self.is_current:
                self._focus_counts()

    def _in_view(self) -> Counting | None:
        return {"stats": self.stats, "bad": self.bad}.get(self.pane)

    def action_cancel_count(self) -> None:
        """End the count in view."""
        counting = self._in_view()
        if counting is not None and counting.counted is not None and counting.running:
            counting.counted.cancel()

    @on(Table.Opened, "#bad-rows")
    def _bad_chosen(self, event: Table.Opened) -> None:
        bad = self.bad.listed[int(event.id)]
        self._seeking = True
        self.browser.seek(bad.file, bad.line)

    def action_next_row(self) -> None:
        """The next row."""
        self._step(1)

    def action_row_before(self) -> None:
        """The row before."""
        self._step(-1)

    def _step(self, by: int) -> None:
        if self.pane in ("rows", "row"):
            self.rows.select(self.rows.position + by)

    def action_raw(self) -> None:
        """The row as it stands in the file, or its tokens."""
        self.row.as_raw(not self.row.raw)
        if self.pane == "rows" and not self.has_class("-wide"):
            self.rows.action_choose()
        elif self.pane == "row":
            self.row.take_focus()

    def action_across(self) -> None:
        """From the rows to the row, and back."""
        if self.pane == "row":
            self._show_pane("rows")
        elif self.pane == "rows":
            self.rows.action_choose()

    def action_copy(self) -> None:
        """Copy file and line of the row."""
        line = self._opened.line if self.pane == "row" and self._opened else self._listing.lines.get(self.rows.position)
        if line is not None:
            self.copy(f"{line.file}:{line.line}")

    def action_model(self) -> None:
        """Ask for another model."""
        from llamahome_tui.tui.screens.training.data_ask import ask_model

        ask_model(self.home, self.subject_of_view.spec.model.id, self._for_model)

    def _for_model(self, model: str) -> None:
        subject, context = self.subject_of_view, self.home.context

        def ended(task: Task[Subject]) -> None:
            if task.error is not None:
                self.home.report(task.error)
            elif task.value is not None and self.is_mounted:
                self._use(task.value)

        Task(self.home, "model", lambda _: with_model(context, subject, model), ended)

    def _use(self, subject: Subject) -> None:
        self.subject_of_view = subject
        self.looking.close()
        self.looker.close()
        self.stats.forget()
        self._begin_looking()
        self.looking.start()
        if self._opened is not None:
            self.row.show_row(self._opened, self._listing.rows, done=self._listing.done)
            self.looker.want(self._opened.line)
        self.browser.see(*self.rows.in_view())
        if self.pane == "stats":
            self._count()

    def action_other_file(self) -> None:
        """Ask for another file and look at it instead."""
        from llamahome_tui.tui.screens.training.data_ask import ask_file

        ask_file(self.home, model=self.subject_of_view.spec.model.id, instead_of=self)

    async def action_shut(self) -> None:
        """Drop the filter, else back to the rows, else back."""
        if self.pane == "rows" and self.rows.clear_filter():
            return
        if self.pane != "rows":
            self._show_pane("rows")
        else:
            await self.home.action_back()

    @on(PaneBar.Chosen)
    def _part(self, message: PaneBar.Chosen) -> None:
        {"rows": self.action_rows, "stats": self.action_stats, "bad": self.action_bad}[message.name]()
