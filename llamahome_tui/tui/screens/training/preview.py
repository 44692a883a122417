"""What a tall terminal has room for below the list: the selected run's loss, and what happened in it last."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from llamahome_tui.jobs.store import Run
from llamahome_tui.tui.screens.training.feed import Feed, Page
from llamahome_tui.tui.widgets.cells import Value
from llamahome_tui.tui.widgets.lines import Lines
from llamahome_tui.tui.widgets.plot import Named, Plot
from llamahome_tui.tui.widgets.states import look


class Watched:
    """Reads whichever run is selected now, in the thread of the preview's Poll."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self._feed: Feed | None = None

    def read(self) -> Page | None:
        """The selected run's page, None when none is selected."""
        run = self.run
        if run is None:
            self._feed = None
            return None
        if self._feed is None or self._feed.run.id != run.id:
            self._feed = Feed(run)
        return self._feed.read()

    @property
    def catching_up(self) -> bool:
        """Whether there is more to read at once."""
        return self._feed is not None and self._feed.catching_up


class Preview(Vertical):
    """A line, a plot and the newest events; it takes no keys."""

    def compose(self) -> ComposeResult:
        """Line, plot, events."""
        yield Value(id="preview-line")
        with Horizontal():
            yield Plot("loss", empty="no loss measured yet", id="preview-loss")
            events = Lines(follow=True, empty="nothing has happened yet", id="preview-events")
            events.can_focus = False
            yield events

    def show(self, page: Page | None) -> None:
        """Paint a page; nothing when there is none."""
        self.display = page is not None
        if page is None:
            return
        view, curves = page.view, page.told.curves
        said = "; ".join(part.rstrip(".") for part in (view.reason, view.hint) if part and view.status != "completed")
        self.query_one("#preview-line", Value).show(f"{view.id}   {said}", look(view.status).tone if said else "dim")
        named = [
            Named(name, curves[metric])
            for name, metric in (("train", "loss"), ("eval", "eval_loss"))
            if metric in curves
        ]
        self.query_one("#preview-loss", Plot).show(named)
        self.query_one("#preview-events", Lines).show(page.told.events)
