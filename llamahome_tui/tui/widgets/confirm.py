"""Confirm: what will happen is shown first, Cancel has the focus, and only a clear yes goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from llamahome_tui.text import clean
from llamahome_tui.tui.keys import bindings


class Choice(Static, can_focus=True):
    """One of the two answers."""

    def __init__(self, label: str, id: str) -> None:
        super().__init__(Content(f" {clean(label)} "), id=id, markup=False)


class Confirm(ModalScreen[bool]):
    """Ask before something that can't be taken back. The result is True only for the named answer."""

    BINDINGS = bindings("dialog")
    CSS_PATH = Path(__file__).with_name("dialogs.tcss")

    def __init__(self, title: str, plan: Sequence[str], yes: str, *, danger: bool = True) -> None:
        super().__init__()
        self._title, self._plan, self._yes, self._danger = clean(title), tuple(plan), yes, danger

    def compose(self) -> ComposeResult:
        """Title, plan, answers."""
        with Vertical(classes="dialog"):
            yield Static(Content(self._title), classes="dialog-title", markup=False)
            with VerticalScroll(classes="dialog-text", can_focus=False):
                text = "\n".join(clean(line, limit=500) for line in self._plan)
                yield Static(Content(text), markup=False)
            with Horizontal(classes="dialog-answers"):
                yield Choice("Cancel", "cancel")
                yes = Choice(self._yes, "yes")
                yes.set_class(self._danger, "-danger")
                yield yes

    def on_mount(self) -> None:
        """Cancel is what a hasty Enter does."""
        self.query_one("#cancel").focus()

    def action_other(self) -> None:
        """To the other answer."""
        self.focus_next()

    def action_answer(self) -> None:
        """Take the answer that has the focus."""
        self.dismiss(self.focused is not None and self.focused.id == "yes")

    def action_yes(self) -> None:
        """Yes, by its letter."""
        self.dismiss(True)

    def action_no(self) -> None:
        """No."""
        self.dismiss(False)

    def on_click(self, event: events.Click) -> None:
        """Take the answer that was clicked."""
        if isinstance(event.widget, Choice):
            self.dismiss(event.widget.id == "yes")
