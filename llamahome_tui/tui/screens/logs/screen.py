"""Logs: pick one, follow it, filter it by pattern and level; files are listed and read in threads."""

from __future__ import annotations

import re
from textwrap import wrap
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Input

from llamahome_tui.logs.catalog import LogFile, catalog
from llamahome_tui.tui.base import BaseScreen
from llamahome_tui.tui.keys import Key, bindings, footer
from llamahome_tui.tui.runner import Poll
from llamahome_tui.tui.screens.logs.pane import LogLines, Shown, heading
from llamahome_tui.tui.screens.logs.window import LogWindow, Look
from llamahome_tui.tui.widgets.cells import Value
from llamahome_tui.tui.widgets.table import Cell, Column, Row, Table
from llamahome_tui.units import human_bytes, short_duration

COLUMNS = (Column("Log", 14, grow=1), Column("Size", 8, "right"), Column("Age", 4, "right", rank=1))
EMPTY = (
    "No logs yet.",
    "",
    "2  start a run",
    "llamahome --batch demo",
    "llamahome --batch logs list",
)
LEVELS = ("debug", "info", "warning", "error")
# `(a+)+` and its kin: Python's matcher can take hours on one line and lets no other thread work meanwhile.
NESTED = re.compile(r"[+*}][^()]*\)[+*{]")
LIST_EVERY_S = 2.0
FOLLOW_EVERY_S = 0.5


class LogsScreen(BaseScreen):
    """The logs of LlamaHome and of runs."""

    NAME = "logs"
    SCOPES = ("logs", "text", "table")
    BINDINGS = bindings("logs")
    CSS_PATH = "screen.tcss"

    def compose_body(self) -> ComposeResult:
        """The list, and the log with its heading and filter."""
        yield Table(COLUMNS, empty=EMPTY, id="files")
        with Vertical(id="pane"):
            yield Value("", id="heading", tone="dim")
            yield LogLines(follow=True, empty="", id="log")
            with Horizontal(id="filter"):
                yield Value("/", classes="slash", tone="accent")
                line = Input(placeholder="regular expression", compact=True, id="pattern")
                line.cursor_blink = False
                yield line
                yield Value("", id="wrong", tone="bad", resize=True)

    def on_mount(self) -> None:
        """Begin to list."""
        self.table = self.query_one(Table)
        self.log_lines = self.query_one(LogLines)
        self.files: dict[str, LogFile] = {}
        self.opened: str | None = None
        self.level = LEVELS[0]
        self.pattern: re.Pattern[str] | None = None
        self._seen: Look | None = None
        places = self.home.context.places
        self.listing: Poll[list[LogFile]] = Poll(self.home, "logs", lambda: catalog(places), LIST_EVERY_S)
        self.window = LogWindow(lambda: self.reading.now())
        self.reading: Poll[Look] = Poll(self.home, "log", self.window.read, FOLLOW_EVERY_S)
        self.query_one("#filter").display = False
        self.table.focus()

    def footer_keys(self) -> list[Key]:
        """The keys of what has the focus; a key that both know is offered once."""
        in_list = self.query_one(Table).has_focus if self.is_mounted else True
        scopes = ("table", "logs", "app") if in_list else ("logs", "text", "app")
        known: dict[str, Key] = {}
        for scope in scopes:
            for key in footer((scope,)):
                known.setdefault(key.shown, key)
        return sorted(known.values(), key=lambda key: key.rank)

    def on_descendant_focus(self) -> None:
        """Another part has the keys."""
        self.show_keys()

    def polls(self) -> tuple[Poll[Any], ...]:
        """The list and the log in view."""
        return (self.listing, self.reading)

    def tick(self, now: float) -> None:
        """Paint the newest list and the newest lines."""
        if self.listing.changed():
            if self.listing.error is not None:
                self.table.explain(*wrap(self.listing.error.message, max(20, self.table.size.width - 4)))
            self.files = {str(log.path): log for log in self.listing.value or ()}
            self.table.show([_row(log, now) for log in self.files.values()])
        if self.reading.changed() and self.reading.value is not None:
            self._paint(self.reading.value)

    def _paint(self, look: Look) -> None:
        before, self._seen = self._seen, look
        if look.path is None or str(look.path) != self.opened:
            return
        self.log_lines.explain(self._nothing(look))
        if before is None or before.generation != look.generation:
            self.log_lines.begin(Shown(look.lines), at_end=look.at_end)
        elif before.version != look.version:
            self.log_lines.show(Shown(look.lines), dropped=look.base - before.base)
        name = self.files[self.opened].name if self.opened in self.files else look.path.name
        first = round(self.log_lines.scroll_y)
        filters = (self.level, "" if self.pattern is None else self.pattern.pattern)
        self.query_one("#heading", Value).show(heading(name, look, filters, self.log_lines.following, first))
        if look.busy:
            return
        if self.log_lines.near_top and not look.whole_above:
            self.window.more_above()
        elif self.log_lines.near_bottom and not look.whole_below:
            self.window.more_below()

    def _nothing(self, look: Look) -> str:
        if look.note:
            return look.note
        if look.busy:
            return "searching ..."
        if self.pattern is not None or self.level != LEVELS[0]:
            return "nothing matches; q drops the filter"
        return "nothing in it yet; new lines show as they come"

    def _open(self, path: str) -> None:
        if path != self.opened:
            self.opened = path
            self.window.open(self.files[path].path)

    @on(Table.Moved)
    def _moved(self, event: Table.Moved) -> None:
        """Beside a list there is room for the log; alone the list waits for Enter."""
        if event.id is not None and self.has_class("-wide"):
            self._open(event.id)

    @on(Table.Opened)
    def _chosen(self, event: Table.Opened) -> None:
        self._open(event.id)
        self.add_class("-open")
        self.log_lines.focus()

    @on(LogLines.Far)
    def _far(self, message: LogLines.Far) -> None:
        """The very start or end was asked for; the window may not reach there."""
        look = self._seen
        if look is None:
            return
        if message.end and not look.whole_below:
            self.window.bottom()
        elif not message.end and not look.whole_above:
            self.window.top()

    def action_other(self) -> None:
        """To the log, or back to the list."""
        if self.table.has_focus and self.table.selected:
            self._open(self.table.selected)
            self.add_class("-open")
            self.log_lines.focus()
        else:
            self.remove_class("-open")
            self.table.focus()

    async def action_shut(self) -> None:
        """Drop the filter, else go back to the list, else back."""
        line = self.query_one("#filter")
        if line.display:
            line.display = False
            self.query_one("#pattern", Input).value = ""
            self._focus_back()
        elif self.level != LEVELS[0]:
            self.level = LEVELS[0]
            self._apply()
        elif self.table.clear_filter():
            return
        elif self.has_class("-open") or not self.table.has_focus:
            self.remove_class("-open")
            self.table.focus()
        else:
            await self.home.action_back()

    def action_pattern(self) -> None:
        """Type a regular expression; the lines follow while it is typed."""
        if self.opened is None:
            self.action_other()
        if self.opened is None:
            return
        self.add_class("-open")
        self.query_one("#filter").display = True
        self.query_one("#pattern", Input).focus()

    def action_level(self) -> None:
        """The next level."""
        self.level = LEVELS[(LEVELS.index(self.level) + 1) % len(LEVELS)]
        self._apply()

    def action_copy(self) -> None:
        """Copy the path of the log."""
        path = self.opened or self.table.selected
        if path:
            self.copy(path)

    @on(Input.Changed, "#pattern")
    def _typed(self, event: Input.Changed) -> None:
        wrong = self.query_one("#wrong", Value)
        try:
            pattern = re.compile(event.value, re.IGNORECASE) if event.value else None
        except re.error as error:
            wrong.show(str(error))
            return
        if NESTED.search(event.value):
            wrong.show("nested repeats may take for ever")
            return
        wrong.show("")
        if pattern != self.pattern:
            self.pattern = pattern
            self._apply()

    @on(Input.Submitted, "#pattern")
    def _submitted(self) -> None:
        if self.pattern is None:
            self.query_one("#filter").display = False
        self._focus_back()

    def _focus_back(self) -> None:
        (self.log_lines if self.has_class("-open") else self.table).focus()

    def _apply(self) -> None:
        self.window.choose(self.level, self.pattern)


def _row(log: LogFile, now: float) -> Row:
    age = max(0.0, now - log.modified)
    return Row.of(
        str(log.path),
        Cell(_title(log), "" if log.kind == "run" else "accent", log.name),
        Cell(human_bytes(log.size_bytes), "dim", log.size_bytes),
        Cell(short_duration(age), "dim", age),
    )


def _title(log: LogFile) -> str:
    """A run by its name and its day, as its id begins with what all share."""
    stamp = re.fullmatch(r"(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)\d\d-(.+)", log.name)
    if log.kind != "run" or stamp is None:
        return log.name
    _, month, day, hour, minute, name = stamp.groups()
    return f"{name} {month}-{day} {hour}:{minute}"
