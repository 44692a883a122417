"""Models on this disk: a list, and beside it everything about the selected one; the disk is read in a thread."""

from __future__ import annotations

from textwrap import wrap
from typing import Any

from textual import on
from textual.app import ComposeResult

from llamahome_tui.models.inventory import Model
from llamahome_tui.tui.base import BaseScreen
from llamahome_tui.tui.keys import bindings
from llamahome_tui.tui.runner import Poll
from llamahome_tui.tui.screens.models.listing import COLUMNS, ModelListing, Shelf, details, key_of, rows
from llamahome_tui.tui.widgets.lines import Lines
from llamahome_tui.tui.widgets.table import Table

EMPTY = (
    "No models here yet.",
    "",
    "  r                                look at the disk again",
    "  llamahome --batch models list    the same list for scripts",
    "  llamahome --batch demo           fine-tune the embedded model",
)
READ_EVERY_S = 15.0


class ModelsScreen(BaseScreen):
    """What is on this disk and in what state."""

    NAME = "models"
    SCOPES = ("models", "table")
    BINDINGS = bindings("models")
    CSS_PATH = "screen.tcss"

    def compose_body(self) -> ComposeResult:
        """List and details."""
        yield Table(COLUMNS, empty=EMPTY, id="models")
        yield Lines(id="detail")

    def on_mount(self) -> None:
        """Begin to read."""
        self.table = self.query_one(Table)
        self.detail = self.query_one("#detail", Lines)
        self.detail.can_focus = False
        self.models: dict[str, Model] = {}
        self.listing = ModelListing(self.home.context.places)
        self.poll: Poll[Shelf] = Poll(self.home, "models", self.listing.read, READ_EVERY_S)
        self.table.focus()

    def polls(self) -> tuple[Poll[Any], ...]:
        """The list."""
        return (self.poll,)

    def subject(self) -> dict[str, str]:
        """The selected model."""
        model = self.models.get(self.table.selected or "")
        return {"model": model.id} if model else {}

    def tick(self, now: float) -> None:
        """Paint the newest list."""
        if not self.poll.changed():
            return
        if self.poll.error is not None:
            width = max(20, self.table.size.width - 4)
            self.table.explain(*wrap(self.poll.error.message, width), *wrap(self.poll.error.hint, width))
            self.table.show(())
            return
        shelf = self.poll.value
        if shelf is None:
            return
        self.models = {key_of(model): model for model in shelf.models}
        self.table.show(rows(shelf.models, now))
        self._describe()

    def _describe(self) -> None:
        model = self.models.get(self.table.selected or "")
        shelf = self.poll.value
        files = shelf.files if shelf is not None and model is not None and shelf.files_of == key_of(model) else ()
        # Not laid out yet, it will have the whole width without its padding and the scroll bar's place, which it keeps.
        width = self.detail.scrollable_content_region.width or self.home.size.width - 3
        self.detail.show(details(model, files, width) if model is not None else [])

    def on_resize(self) -> None:
        """Long values break elsewhere."""
        self.call_after_refresh(self._describe)

    @on(Table.Moved)
    def _moved(self, event: Table.Moved) -> None:
        self.listing.wanted = event.id
        self.poll.now()
        self._describe()

    @on(Table.Opened)
    def _opened(self) -> None:
        """On a narrow screen the details take the place of the list, and give it back."""
        self.toggle_class("-detail")
        self.call_after_refresh(self._describe)

    def action_reread(self) -> None:
        """Look at the disk again."""
        self.listing.forget()
        self.poll.now()

    def action_copy(self) -> None:
        """Copy the selected model's id."""
        model = self.models.get(self.table.selected or "")
        if model is not None:
            self.copy(model.id)

    def action_evaluate(self) -> None:
        """Measure the selected model on rows of data."""
        model = self.models.get(self.table.selected or "")
        if model is not None:
            from llamahome_tui.tui.screens.training import evaluate_ask

            evaluate_ask.ask(self.home, model.id, run=False)
