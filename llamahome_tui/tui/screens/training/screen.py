"""The list of runs: what each one does now, newest first; keys act on the selected or the marked ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual import on
from textual.app import ComposeResult

from llamahome_tui.errors import LlamaHomeError
from llamahome_tui.tui.base import BaseScreen
from llamahome_tui.tui.keys import bindings
from llamahome_tui.tui.runner import Poll
from llamahome_tui.tui.widgets.table import Column, Table

if TYPE_CHECKING:
    from llamahome_tui.jobs.view import RunView
    from llamahome_tui.tui.screens.training.listing import RunListing
    from llamahome_tui.tui.screens.training.preview import Preview, Watched

# This module is imported before the first frame: everything that reads or acts is imported when it is needed.

COLUMNS = (
    Column("Status", 14),
    Column("Run", 14, grow=2),
    Column("Model", 12, grow=1, rank=4),
    Column("Step", 11, "right"),
    Column("Loss", 6, "right"),
    Column("Tok/s", 6, "right", rank=3),
    Column("ETA", 7, "right", rank=1),
    Column("Age", 4, "right", rank=2),
    Column("Tags", 10, grow=1, rank=5),
)

EMPTY = (
    "No runs yet.",
    "",
    "  n                          start one from a spec file",
    "  llamahome --batch demo     see a real fine-tune in about a minute",
    "  D                          look at data: rows, tokens, statistics",
    "  llamahome --batch runs exec --name N -- COMMAND",
    "                             watch any command of your own here",
)
READ_EVERY_S = 1.0


class TrainingScreen(BaseScreen):
    """Runs of this machine."""

    NAME = "training"
    SCOPES = ("training", "table")
    BINDINGS = bindings("training")
    CSS_PATH = "screen.tcss"

    def compose_body(self) -> ComposeResult:
        """The table."""
        yield Table(COLUMNS, empty=EMPTY, id="runs")

    def on_mount(self) -> None:
        """Begin to read; a run named on the command line is opened at once."""
        self.table = self.query_one(Table)
        self.views: dict[str, RunView] = {}
        self.listing: RunListing | None = None
        self.poll = Poll(self.home, "runs", self._read, READ_EVERY_S)
        self.preview: Preview | None = None
        self.watched: Watched | None = None
        self.preview_poll: Poll[Any] | None = None
        if self.home.first_run:
            self.call_after_refresh(self._open_first)

    def _read(self) -> tuple[RunView, ...]:
        """In the Poll's thread."""
        from llamahome_tui.jobs.store import RunStore
        from llamahome_tui.tui.screens.training.listing import RunListing

        if self.listing is None:
            self.listing = RunListing(RunStore(self.home.context.places), self.home.context.environ)
        return self.listing.read()

    def polls(self) -> tuple[Poll[Any], ...]:
        """The list, and the selected run where there is room for it."""
        return (self.poll,) if self.preview_poll is None else (self.poll, self.preview_poll)

    def subject(self) -> dict[str, str]:
        """The selected run."""
        return {"run": self.table.selected, "model": self.table.selected} if self.table.selected else {}

    def tick(self, now: float) -> None:
        """Paint the newest list, and the preview below it."""
        self._tick_preview()
        if not self.poll.changed():
            return
        if self.poll.error is not None:
            self.table.explain(self.poll.error.message, self.poll.error.hint)
        from llamahome_tui.tui.screens.training.listing import rows

        views = self.poll.value or ()
        self.views = {view.id: view for view in views}
        self.table.show(rows(views, now, self.table.ascii))
        live = sum(not view.ended for view in views)
        self.home.note = f"{live} live" if live else ""

    def _tick_preview(self) -> None:
        if not self.has_class("-tall"):
            if self.preview_poll is not None and self.preview is not None:
                self.preview_poll.pause()
                self.preview.display = False
            return
        if self.preview_poll is None or self.preview is None or self.watched is None:
            self._make_preview()
            return
        selected = self.table.selected
        if (self.watched.run.id if self.watched.run else None) != selected:
            self._watch(selected)
        if not self.preview_poll.awake:
            self.preview_poll.start()
        if self.watched.catching_up:
            self.preview_poll.now()
        if self.preview_poll.changed() or not self.preview.display:
            page = self.preview_poll.value
            self.preview.show(page if page is not None and page.view.id == selected else None)

    def _make_preview(self) -> None:
        """Not for the first frame: made when the list is there and the terminal is tall enough."""
        if self.poll.value is None:
            return
        from llamahome_tui.tui.screens.training.preview import Preview, Watched

        self.watched, self.preview = Watched(), Preview(id="preview")
        self.preview.display = False
        self.query_one("#body").mount(self.preview)
        self.preview_poll = Poll(self.home, "preview", self.watched.read, READ_EVERY_S)
        self.preview_poll.start()

    def _watch(self, selected: str | None) -> None:
        from llamahome_tui.jobs.store import Run

        if self.watched is not None and self.preview_poll is not None:
            runs = self.home.context.places.runs
            self.watched.run = Run(selected, runs / selected) if selected is not None else None
            self.preview_poll.now()

    def _open_first(self) -> None:
        from llamahome_tui.jobs.store import RunStore

        try:
            run = RunStore(self.home.context.places).resolve(self.home.first_run)
        except LlamaHomeError as error:
            self.home.report(error)
        else:
            self._page(run.id)
        self.home.first_run = ""

    @on(Table.Opened)
    def _opened(self, event: Table.Opened) -> None:
        self._page(event.id)

    def _page(self, run_id: str, zoom: str = "") -> None:
        from llamahome_tui.jobs.store import Run
        from llamahome_tui.tui.screens.training.page import RunPage

        if self.is_current:
            self.app.push_screen(RunPage(Run(run_id, self.home.context.places.runs / run_id), zoom=zoom))

    def _marked(self) -> list[RunView]:
        return [self.views[name] for name in self.table.marked if name in self.views]

    def action_start(self) -> None:
        """Start a run from a spec file."""
        from llamahome_tui.tui.screens.training import actions

        actions.start(self.home, self._page)

    def action_new_run(self) -> None:
        """Start a run from a model and data."""
        from llamahome_tui.tui.screens.training import new_run_ask

        new_run_ask.ask(self.home, self._page)

    def action_stop(self) -> None:
        """Stop the selected or marked runs."""
        from llamahome_tui.tui.screens.training import actions

        if views := self._marked():
            actions.stop(self.home, views, self.poll.now)

    def action_resume(self) -> None:
        """Resume the selected run."""
        from llamahome_tui.tui.screens.training import actions

        if self.table.selected in self.views:
            actions.resume(self.home, self.views[self.table.selected], self.poll.now)

    def action_remove(self) -> None:
        """Delete the selected or marked runs, by plan."""
        from llamahome_tui.tui.screens.training import actions

        if views := self._marked():
            actions.remove(self.home, views, self.poll.now)

    def action_compare(self) -> None:
        """The marked runs side by side."""
        from llamahome_tui.jobs.store import Run
        from llamahome_tui.tui.screens.training.compare_page import ComparePage

        names = self.table.marked
        if len(names) < 2:
            self.home.toast("mark two runs or more with space, then = compares them")
        elif self.is_current:
            runs = self.home.context.places.runs
            self.app.push_screen(ComparePage([Run(name, runs / name) for name in names]))

    def action_log(self) -> None:
        """The selected run's log."""
        if self.table.selected:
            self._page(self.table.selected, zoom="log")

    def action_data(self) -> None:
        """The data of the selected run; without one it is asked for."""
        from llamahome_tui.jobs.store import Run
        from llamahome_tui.tui.screens.training import data_ask

        selected = self.table.selected
        if selected:
            data_ask.open_run(self.home, Run(selected, self.home.context.places.runs / selected))
        else:
            data_ask.ask_file(self.home)

    def action_export(self) -> None:
        """Export what the selected run has trained."""
        from llamahome_tui.tui.screens.training import export_ask

        if self.table.selected in self.views:
            export_ask.ask(self.home, self.views[self.table.selected], self._page)

    def action_copy(self) -> None:
        """Copy the selected run's id."""
        from llamahome_tui.tui.screens.training import actions

        if self.table.selected:
            actions.copy_id(self.home, self.table.selected)
