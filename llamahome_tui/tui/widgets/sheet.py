"""Sheet: a text over the screen that is read and closed; results of operations and long errors are shown so."""

from __future__ import annotations

import textwrap
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


def broken(lines: Sequence[Line], width: int) -> list[Line]:
    """Lines that are too long, broken between words; what follows is set in."""
    found: list[Line] = []
    for text, tone in lines:
        text = clean(text, limit=20_000)
        if len(text) <= width:
            found.append((text, tone))
            continue
        indent = " " * min(len(text) - len(text.lstrip()) + 4, width // 2)
        found += [(part, tone) for part in textwrap.wrap(text, width, subsequent_indent=indent)]
    return found


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
            yield Lines(follow=self._follow, empty=self._empty)
            yield Static(Content("q or Esc closes"), classes="sheet-foot", markup=False)

    def on_mount(self) -> None:
        """The text scrolls at once."""
        self.query_one(Lines).focus()
        self.call_after_refresh(self._lay)

    def feed(self, lines: Sequence[Line]) -> None:
        """Add lines at the end."""
        if lines:
            self._lines = [*self._lines, *lines]
            self._lay()

    def on_resize(self) -> None:
        """Break the lines anew."""
        self._lay()

    def _lay(self) -> None:
        for view in self.query(Lines):  # none before the sheet is composed
            view.show(broken(self._lines, max(20, view.size.width - 1)))

    def action_cancel(self) -> None:
        """Close."""
        self.dismiss(None)
