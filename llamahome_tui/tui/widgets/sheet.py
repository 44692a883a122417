"""Sheet: a text over the screen that is read and closed; results of operations and long errors are shown so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from llamahome_tui.text import clean
from llamahome_tui.tui.keys import bindings
from llamahome_tui.tui.widgets.lines import Line, Lines


class Sheet(ModalScreen[None]):
    """A title and lines of (text, tone). `feed` may bring more of them while the sheet is open."""

    BINDINGS = bindings("sheet")
    CSS_PATH = Path(__file__).with_name("dialogs.tcss")

    def __init__(self, title: str, lines: Sequence[Line] = (), *, follow: bool = False, empty: str = "") -> None:
        super().__init__()
        self._title, self._lines, self._follow, self._empty = clean(title), list(lines), follow, empty

    def compose(self) -> ComposeResult:
        """Title, text, how to close."""
        with Vertical(classes="sheet"):
            yield Static(Content(self._title), classes="dialog-title", markup=False)
            yield Lines(self._lines, follow=self._follow, empty=self._empty)
            yield Static(Content("q or Esc closes"), classes="sheet-foot", markup=False)

    def on_mount(self) -> None:
        """The text scrolls at once."""
        self.query_one(Lines).focus()

    def feed(self, lines: Sequence[Line]) -> None:
        """Add lines at the end."""
        if lines:
            self._lines = [*self._lines, *lines]
            self.query_one(Lines).show(self._lines)

    def action_cancel(self) -> None:
        """Close."""
        self.dismiss(None)
