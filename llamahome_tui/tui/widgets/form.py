"""Form: a few lines of input and choices in one dialog; what is typed is checked before it closes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input, Static

from llamahome_tui.errors import LlamaHomeError
from llamahome_tui.text import clean
from llamahome_tui.tui.keys import bindings


@dataclass(frozen=True, slots=True)
class Field:
    """One line: words that are typed, or one of a few `choices`. `complete` gives the ways to go on, for Tab."""

    name: str
    label: str
    value: str = ""
    placeholder: str = ""
    choices: tuple[str, ...] = ()
    complete: Callable[[str], Sequence[str]] | None = None


class Pick(Static, can_focus=True):
    """One of a few words; left and right take another one."""

    def __init__(self, choices: Sequence[str], value: str, id: str) -> None:
        super().__init__(id=id, markup=False)
        self._choices, self.value = tuple(choices), value or choices[0]

    def on_mount(self) -> None:
        """Show it."""
        self.turn(0)

    def turn(self, by: int) -> None:
        """Another one, round in a circle."""
        self.value = self._choices[(self._choices.index(self.value) + by) % len(self._choices)]
        words = [f"[{one}]" if one == self.value else f" {one} " for one in self._choices]
        self.update(Content(clean(" ".join(words))))


class Form(ModalScreen[Mapping[str, str] | None]):
    """Ask for several words at once. `check` raises LlamaHomeError to keep the form open; None means cancelled."""

    BINDINGS = bindings("form")
    CSS_PATH = Path(__file__).with_name("dialogs.tcss")

    def __init__(
        self,
        title: str,
        fields: Sequence[Field],
        *,
        notes: Sequence[str] = (),
        check: Callable[[Mapping[str, str]], object] | None = None,
    ) -> None:
        super().__init__()
        self._title, self._fields, self._notes, self._check = clean(title), tuple(fields), tuple(notes), check

    def compose(self) -> ComposeResult:
        """Title, lines, what is wrong, notes."""
        with Vertical(classes="dialog"):
            yield Static(Content(self._title), classes="dialog-title", markup=False)
            for field in self._fields:
                with Horizontal(classes="form-row"):
                    yield Static(Content(clean(field.label)), classes="form-label", markup=False)
                    if field.choices:
                        yield Pick(field.choices, field.value, id=f"field-{field.name}")
                    else:
                        line = Input(field.value, placeholder=field.placeholder, compact=True,
                                     select_on_focus=False, id=f"field-{field.name}")  # fmt: skip
                        line.cursor_blink = False
                        yield line
            yield Static("", id="wrong", markup=False)
            notes = "\n".join(clean(note, limit=300) for note in self._notes)
            yield Static(Content(notes), classes="dialog-notes", markup=False)

    def on_mount(self) -> None:
        """Type at once."""
        self._of(self._fields[0]).focus()

    def _of(self, field: Field) -> Widget:
        return self.query_one(f"#field-{field.name}")

    @property
    def values(self) -> dict[str, str]:
        """What stands in the lines now."""
        found = {}
        for field in self._fields:
            widget = self._of(field)
            if isinstance(widget, Input | Pick):
                found[field.name] = widget.value.strip()
        return found

    @on(Input.Changed)
    def _changed(self) -> None:
        self._say("")

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self.action_finish()

    def _say(self, text: str) -> None:
        wrong = self.query_one("#wrong", Static)
        wrong.update(Content(clean(text, keep_newlines=True)))
        wrong.display = bool(text)

    def action_finish(self) -> None:
        """Take what stands there."""
        values = self.values
        try:
            if self._check is not None:
                self._check(values)
        except LlamaHomeError as error:
            self._say(error.message + (f"\n{error.hint}" if error.hint else ""))
            return
        self.dismiss(values)

    async def _typed(self) -> None:
        """Until the line has taken what was typed before.

        Keys that change lines are handled before the lines are (`priority`), so that what is typed after them can't
        still go to the line before; so they wait for what was typed ahead of them.
        """
        taken = asyncio.Event()
        if self.focused is not None and self.focused.call_later(taken.set):
            await taken.wait()

    async def action_complete(self) -> None:
        """Go on with what is typed as far as there is one way, else to the next line."""
        await self._typed()
        for field in self._fields:
            widget = self._of(field)
            if widget is self.focused and isinstance(widget, Input) and field.complete is not None and widget.value:
                found = list(field.complete(widget.value))
                longest = _common(found) if found else ""
                if len(longest) > len(widget.value):
                    widget.value = longest
                    widget.cursor_position = len(longest)
                    return
        self.focus_next()

    async def action_before(self) -> None:
        """To the line before."""
        await self._typed()
        self.focus_previous()

    async def action_after(self) -> None:
        """To the next line."""
        await self._typed()
        self.focus_next()

    def action_turn(self, by: int) -> None:
        """Another choice."""
        if isinstance(self.focused, Pick):
            self.focused.turn(by)

    def action_cancel(self) -> None:
        """Close without an answer."""
        self.dismiss(None)


def _common(ways: Sequence[str]) -> str:
    """What all of these begin with."""
    first, last = min(ways), max(ways)
    return next((first[:at] for at, one in enumerate(first) if last[at : at + 1] != one), first)
