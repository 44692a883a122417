"""The palette: every operation, screen and theme by name; an operation that needs words asks for them first."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from llamahome_tui.errors import LlamaHomeError
from llamahome_tui.operations import OPERATIONS, Argument, Operation
from llamahome_tui.outcome import Accepted, Item, Progress, Record, Result, Text
from llamahome_tui.tui import theme as themes
from llamahome_tui.tui.keys import bindings
from llamahome_tui.tui.runner import Running, run_operation
from llamahome_tui.tui.widgets.confirm import Confirm
from llamahome_tui.tui.widgets.lines import Line
from llamahome_tui.tui.widgets.prompt import Prompt
from llamahome_tui.tui.widgets.sheet import Sheet
from llamahome_tui.tui.widgets.table import Cell, Column, Row, Table

if TYPE_CHECKING:
    from llamahome_tui.tui.app import LlamaHomeApp


# Operations that a view shows better than a sheet of text: the part of the data view for each.
VIEWS = {"data inspect": "rows", "data validate": "bad", "data stats": "stats"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the palette."""

    name: str
    help: str
    do: Callable[[], None]


def known(operation: Operation, subject: Mapping[str, str]) -> dict[str, str]:
    """The arguments that what is selected on the screen answers: a run's id where a run is asked for."""
    return {
        argument.name: subject[argument.completes]
        for argument in operation.arguments
        if argument.shape == "positional" and argument.completes in subject and argument.name != "spec"
    }


def asks(operation: Operation, subject: Mapping[str, str]) -> list[Argument]:
    """What must be typed before this operation can run."""
    given = known(operation, subject)
    return [a for a in operation.arguments if a.required and a.name not in given] + [
        a for a in operation.arguments if a.name in ("spec", "prompt", "from_") and a.name not in given
    ]


def usage(operation: Operation) -> list[str]:
    """What can be typed, one argument a line."""
    lines = []
    for argument in operation.arguments:
        word = argument.metavar or argument.name.upper()
        name = word if argument.shape == "positional" else argument.flag
        if argument.shape == "option":
            name = f"{argument.flag} {word}"
        if argument.shape == "rest":
            name = "-- COMMAND..."
        lines.append(f"{name:<20}{argument.help}")
    return lines


class Palette(ModalScreen[Callable[[], None] | None]):
    """Type to narrow, Enter to choose. What was chosen runs after the palette has closed."""

    BINDINGS = bindings("palette")
    CSS_PATH = Path(__file__).parent / "widgets" / "dialogs.tcss"

    def __init__(self, subject: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._subject = dict(subject or {})
        self._entries: dict[str, Entry] = {}

    @property
    def home(self) -> LlamaHomeApp:
        """The application, with its type."""
        return cast("LlamaHomeApp", self.app)

    def compose(self) -> ComposeResult:
        """Input and list."""
        with Vertical(classes="sheet", id="palette"):
            line = Input(placeholder="what to do", compact=True, id="line")
            line.cursor_blink = False
            yield line
            columns = (Column("Command", 18, sortable=False), Column("", 40, grow=1, sortable=False))
            yield Table(columns, empty=("no command with these words",), id="commands")

    def on_mount(self) -> None:
        """Make the entries and type at once."""
        home = self.home
        for tab in home.tabs:
            self._add(Entry(tab.title, f"open the screen ({tab.key})", partial(home.action_open, tab.name)))
        for operation in OPERATIONS:
            self._add(Entry(operation.name, operation.help, partial(perform, home, operation, self._subject)))
        for name in home.theme_names():
            short = themes.short_name(name)
            self._add(Entry(f"theme {short}", "colours, at once", partial(home.use_theme, name)))
        self._narrow("")
        table = self.query_one(Table)
        table.can_focus = False
        self.query_one(Input).focus()

    def _add(self, entry: Entry) -> None:
        self._entries[entry.name] = entry

    def _narrow(self, text: str) -> None:
        words = text.lower().split()
        found = [e for e in self._entries.values() if all(w in f"{e.name} {e.help}".lower() for w in words)]
        # A command whose own name has the words comes before one whose help has them.
        found.sort(
            key=lambda e: (not e.name.lower().startswith(text.lower()), not all(w in e.name.lower() for w in words))
        )
        table = self.query_one(Table)
        table.show([Row.of(e.name, Cell(e.name, "strong"), Cell(e.help, "dim")) for e in found])
        table.action_top()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self._narrow(event.value)

    @on(Input.Submitted)
    def _chosen(self) -> None:
        self._finish(self.query_one(Table).selected)

    @on(Table.Opened)
    def _opened(self, event: Table.Opened) -> None:
        self._finish(event.id)

    def _finish(self, name: str | None) -> None:
        self.dismiss(self._entries[name].do if name is not None else None)

    def action_cancel(self) -> None:
        """Close."""
        self.dismiss(None)

    def action_down(self) -> None:
        """Next command."""
        self.query_one(Table).action_down()

    def action_up(self) -> None:
        """Command before."""
        self.query_one(Table).action_up()


def perform(home: LlamaHomeApp, operation: Operation, subject: Mapping[str, str]) -> None:
    """Run an operation: ask for what must be typed, ask before it destroys, then show what it answers."""
    if operation.name in VIEWS:
        from llamahome_tui.tui.screens.training.data_ask import ask_file

        ask_file(home, model=subject.get("model", ""), pane=VIEWS[operation.name])
        return
    given = known(operation, subject)
    if not asks(operation, subject):
        _consent(home, operation, dict(given))
        return
    from llamahome_tui.batch.words import read_words

    def check(text: str) -> None:
        read_words([*operation.name.split(), *_split(text)])

    may_be_empty = not any(argument.required or argument.name == "spec" for argument in operation.arguments)

    def answered(text: str | None) -> None:
        if text or (may_be_empty and text is not None):
            _consent(home, operation, dict(read_words([*operation.name.split(), *_split(text)]).arguments))

    start = " ".join(shlex.quote(value) for value in given.values())
    home.push_screen(
        Prompt(
            operation.name,
            value=f"{start} " if start else "",
            notes=[operation.help, "", *usage(operation)],
            check=check,
            optional=may_be_empty,
        ),
        answered,
    )


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise LlamaHomeError(f"a quote is open: {error}") from None


def _consent(home: LlamaHomeApp, operation: Operation, arguments: dict[str, object]) -> None:
    if any(a.name == "detach" for a in operation.arguments):
        arguments["detach"] = True
    if not operation.destructive or arguments.get("dry_run"):
        show(home, operation, arguments)
        return

    def agreed(yes: bool | None) -> None:
        if yes:
            show(home, operation, arguments)

    def ask(plan: list[str]) -> None:
        home.push_screen(Confirm(f"{operation.name}: {operation.help}", plan, operation.verb.capitalize()), agreed)

    if any(a.name == "dry_run" for a in operation.arguments):
        run_operation(
            home, operation.name, {**arguments, "dry_run": True}, on_result=lambda r: ask(_words(operation, r))
        )
    else:
        ask([f"{name}: {value}" for name, value in arguments.items() if value])


def _words(operation: Operation, result: Result) -> list[str]:
    from llamahome_tui.batch.results import lines_of

    return list(lines_of(operation, result.data))


def show(home: LlamaHomeApp, operation: Operation, arguments: dict[str, object]) -> None:
    """Run an operation under a sheet that fills with what it yields; short answers become a toast."""
    if operation.changes:
        run_operation(
            home,
            operation.name,
            arguments,
            on_result=lambda result: home.toast("\n".join(_words(operation, result)[:6])),
        )
        return
    sheet = Sheet(f"llamahome {operation.name}", follow=operation.answer == "stream", empty="reading")

    def ended(running: Running) -> None:
        pour(running)
        timer.stop()
        if running.result is not None:
            sheet.feed([(line, "") for line in _words(operation, running.result)])

    def pour(running: Running) -> None:
        lines: list[Line] = []
        for outcome in running.drain():
            lines += _lines(outcome)
        if sheet.is_attached:
            sheet.feed(lines)
        elif not running.ended.is_set():
            running.cancel()

    def failed(error: LlamaHomeError) -> None:
        sheet.feed([(error.message, "bad"), (error.hint, "dim")])

    home.push_screen(sheet)
    running = run_operation(home, operation.name, arguments, on_end=ended, on_error=failed)
    timer = home.set_interval(0.25, lambda: pour(running))


def _lines(outcome: object) -> list[Line]:
    from llamahome_tui.batch.records import happening

    match outcome:
        case Text(text):
            return [(line, "") for line in text.splitlines()]
        case Item(type, data):
            return [(f"{type} {data}", "")]
        case Record(_, source, record):
            said = happening(source, record)
            return [(said, "")] if said else []
        case Accepted(id):
            return [(f"run {id}", "accent")]
        case Progress():
            return []
        case _:
            return []
