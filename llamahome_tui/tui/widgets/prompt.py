"""Prompt: one line of input with what it expects beside it; what is typed is checked before the dialog closes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from llamahome_tui.errors import LlamaHomeError
from llamahome_tui.text import clean
from llamahome_tui.tui.keys import bindings

WAYS = 6  # ways to go on that are shown at once


class Prompt(ModalScreen[str | None]):
    """Ask for a line. `check` raises LlamaHomeError to keep the dialog open with its message; None means cancelled.

    A `value` goes on being typed; one that is only `suggested` is replaced by what is typed. `complete` gives the
    ways to go on from what is typed, for Tab. An `optional` answer may be empty.
    """

    BINDINGS = bindings("prompt")
    CSS_PATH = Path(__file__).with_name("dialogs.tcss")

    def __init__(
        self,
        title: str,
        *,
        value: str = "",
        suggested: bool = False,
        notes: Sequence[str] = (),
        placeholder: str = "",
        check: Callable[[str], object] | None = None,
        complete: Callable[[str], Sequence[str]] | None = None,
        optional: bool = False,
    ) -> None:
        super().__init__()
        self._title, self._value, self._notes = clean(title), value, tuple(notes)
        self._suggested = suggested
        self._placeholder, self._check, self._complete = placeholder, check, complete
        self._optional = optional

    def compose(self) -> ComposeResult:
        """Title, input, what is wrong, notes."""
        with Vertical(classes="dialog"):
            yield Static(Content(self._title), classes="dialog-title", markup=False)
            line = Input(self._value, placeholder=self._placeholder, compact=True, select_on_focus=False, id="line")
            line.cursor_blink = False
            yield line
            yield Static("", id="wrong", markup=False)
            yield Static("", id="ways", markup=False)
            notes = "\n".join(clean(note, limit=300) for note in self._notes)
            yield Static(Content(notes), classes="dialog-notes", markup=False)

    def on_mount(self) -> None:
        """Type at once, after what is there already."""
        line = self.query_one("#line", Input)
        line.focus()
        line.cursor_position = len(line.value)
        if self._suggested:
            line.select_all()

    @on(Input.Submitted)
    def _submit(self, event: Input.Submitted) -> None:
        text = event.value.strip()
        if not text and not self._optional:
            return
        try:
            if text and self._check is not None:
                self._check(text)
        except LlamaHomeError as error:
            self._say(error.message + (f"\n{error.hint}" if error.hint else ""))
            return
        self.dismiss(text)

    @on(Input.Changed)
    def _changed(self) -> None:
        self._say("")
        self.query_one("#ways", Static).display = False

    def _say(self, text: str) -> None:
        wrong = self.query_one("#wrong", Static)
        wrong.update(Content(clean(text, keep_newlines=True)))
        wrong.display = bool(text)

    def action_complete(self) -> None:
        """Go on with what is typed as far as there is one way; show the ways where there are more."""
        line = self.query_one("#line", Input)
        found = list(self._complete(line.value)) if self._complete is not None else []
        if not found:
            return
        longest = _common(found)
        if len(longest) > len(line.value):
            line.value = longest
            line.cursor_position = len(longest)
        if len(found) > 1:
            self.call_after_refresh(self._show_ways, found)

    def _show_ways(self, found: Sequence[str]) -> None:
        shown = [clean(way, limit=60) for way in found[:WAYS]]
        more = [f"and {len(found) - WAYS} more"] if len(found) > WAYS else []
        ways = self.query_one("#ways", Static)
        ways.update(Content(clean("\n".join([*shown, *more]), keep_newlines=True)))
        ways.display = True

    def action_cancel(self) -> None:
        """Close without an answer."""
        self.dismiss(None)


def _common(ways: Sequence[str]) -> str:
    """What all of these begin with."""
    first, last = min(ways), max(ways)
    return next((first[:at] for at, one in enumerate(first) if last[at : at + 1] != one), first)
