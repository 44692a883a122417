"""Table: a list of any length drawn line by line; selection, marks, order and filter stay over every update.

Rows are plain values; the table cleans every text it draws and never parses markup. `show` is cheap enough to be called
at each tick: lines that stay the same are not painted again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from llamahome_tui.text import clean
from llamahome_tui.tui.keys import bindings
from llamahome_tui.tui.widgets.columns import Column, fitted
from llamahome_tui.tui.widgets.tone import Toned

__all__ = ["Cell", "Column", "Row", "Table"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A text in a tone (see widgets/tone.py); `sort` orders the column where the text would not."""

    text: str
    tone: str = ""
    sort: Any = None


@dataclass(frozen=True, slots=True)
class Row:
    """One line: its id and a cell (or plain text) for each column, cleaned here once and for all."""

    id: str
    cells: tuple[Cell, ...]
    words: str = field(default="", compare=False)

    @classmethod
    def of(cls, id: str, *cells: Cell | str) -> Row:
        """Make a row out of texts from anywhere."""
        ready = tuple(
            Cell(clean(cell.text, limit=500), cell.tone, cell.sort)
            if isinstance(cell, Cell)
            else Cell(clean(cell, limit=500))
            for cell in cells
        )
        return cls(id, ready, " ".join(cell.text for cell in ready).lower())


def _order(value: Any) -> tuple[int, Any]:
    """Unknown values sort last, numbers before texts."""
    if value is None:
        return (2, 0)
    return (0, value) if isinstance(value, int | float) else (1, str(value).lower())


class Table(Toned, ScrollView, can_focus=True):
    """The list every screen uses. Columns are fixed; `show` brings the rows."""

    BINDINGS = bindings("table")
    DEFAULT_CSS = """
    Table { height: 1fr; overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; }
    """

    class Opened(Message):
        """Enter or a click on the selected line."""

        def __init__(self, table: Table, id: str) -> None:
            super().__init__()
            self.table, self.id = table, id

        @property
        def control(self) -> Table:
            """The table, for `@on(Table.Opened, "#id")`."""
            return self.table

    class Moved(Message):
        """Another line is selected; `id` is None in an empty list."""

        def __init__(self, table: Table, id: str | None) -> None:
            super().__init__()
            self.table, self.id = table, id

        @property
        def control(self) -> Table:
            """The table, for `@on(Table.Moved, "#id")`."""
            return self.table

    def __init__(
        self,
        columns: Sequence[Column],
        *,
        empty: Sequence[str] = (),
        sort: int | None = None,
        descending: bool = False,
        id: str | None = None,
    ) -> None:
        """`empty` are the lines shown when there is nothing; `sort` is a column's index, None keeps the given order."""
        super().__init__(id=id)
        self.columns = tuple(columns)
        self._empty = tuple(empty)
        self._all: list[Row] = []
        self._rows: list[Row] = []
        self._selected: str | None = None
        self._cursor = 0
        self._marks: set[str] = set()
        self._sort, self._descending = sort, descending
        self._filter, self._typing = "", False
        self._loaded = False

    # What screens ask for.

    @property
    def selected(self) -> str | None:
        """The id of the selected line, or None."""
        return self._selected

    @property
    def marked(self) -> tuple[str, ...]:
        """The ids of marked lines in the order shown; without marks the selected one."""
        marks = tuple(row.id for row in self._all if row.id in self._marks)
        return marks or ((self._selected,) if self._selected is not None else ())

    @property
    def rows(self) -> Sequence[Row]:
        """The rows as shown: filtered and sorted."""
        return self._rows

    def show(self, rows: Sequence[Row]) -> None:
        """Take these rows; selection and marks stay with their ids."""
        if not self._loaded:
            self._loaded = True
            self.refresh()
        self._all = list(rows)
        if self._marks:
            self._marks &= {row.id for row in rows}
        self._arrange()

    def select(self, id: str) -> None:
        """Select the line of this id, if it is there."""
        for index, row in enumerate(self._rows):
            if row.id == id:
                self._move(index)

    def explain(self, *lines: str) -> None:
        """Change the lines that are shown when there is nothing."""
        if lines != self._empty:
            self._empty = lines
            if not self._rows:
                self.refresh()

    # Order, filter and the change from one state to the next.

    def _arrange(self) -> None:
        before, offset = self._rows, round(self.scroll_y)
        words = self._filter.lower().split()
        rows = [row for row in self._all if all(word in row.words for word in words)] if words else list(self._all)
        if self._sort is not None:
            column = self._sort
            known = [row for row in rows if self._value(row, column) is not None]
            rest = [row for row in rows if self._value(row, column) is None]
            known.sort(key=lambda row: _order(self._value(row, column)), reverse=self._descending)
            rows = known + rest
        self._rows = rows
        was = self._cursor, self._selected
        index = next((i for i, row in enumerate(rows) if row.id == self._selected), None)
        if index is None:
            index = max(0, min(self._cursor, len(rows) - 1))
            self._selected = rows[index].id if rows else None
        self._cursor = index
        self.virtual_size = Size(self.size.width, len(rows) + 1 + (1 if self._typing or self._filter else 0))
        if len(before) != len(rows) or was[0] != self._cursor:
            self._keep_in_view()
            self.refresh()
        else:
            self._repaint_changed(before, offset)
        if was[1] != self._selected:
            self.post_message(self.Moved(self, self._selected))

    @staticmethod
    def _value(row: Row, column: int) -> Any:
        cell = row.cells[column]
        return cell.sort if cell.sort is not None else (cell.text or None)

    def _repaint_changed(self, before: Sequence[Row], offset: int) -> None:
        width, height = self.size.width, self.size.height
        for y in range(1, height):
            index = offset + y - 1
            if index >= len(self._rows):
                break
            if before[index] != self._rows[index]:
                self.refresh(Region(0, y, width, 1))

    # Drawing.

    def render_line(self, y: int) -> Strip:
        """Line `y` of the visible part: the head, a row, the filter, or what an empty list says."""
        width = self.scrollable_content_region.width
        base = self.rich_style
        if (self._typing or self._filter) and y == self.size.height - 1:
            return self._filter_line(width)
        if y == 0:
            return self._head(width)
        index = round(self.scroll_y) + y - 1
        if index < len(self._rows):
            return self._line(index, width)
        if not self._rows and self._loaded:
            lines = ("nothing matches the filter; Esc clears it",) if self._all else self._empty
            if 0 <= y - 2 < len(lines):
                style = base + self.tone("dim")
                return Strip([Segment("  " + lines[y - 2], style)]).adjust_cell_length(width, base)
        return Strip.blank(width, base)

    def _head(self, width: int) -> Strip:
        style = self.rich_style + self.tone("head")
        arrow = ("v" if self._descending else "^") if self.ascii else ("▾" if self._descending else "▴")
        texts = [column.title + (arrow if index == self._sort else "") for index, column in enumerate(self.columns)]
        segments = self._fit(((text, style) for text in texts), width, style)
        return Strip([Segment("  ", style), *segments]).adjust_cell_length(width, style)

    def _line(self, index: int, width: int) -> Strip:
        row = self._rows[index]
        base = self.rich_style
        if index == self._cursor:
            base += self.tone("cursor" if self.has_focus or not self.can_focus else "cursor-blurred")
        marked = row.id in self._marks
        sign = (">" if self.ascii else "▌") if index == self._cursor else " "
        if marked:
            sign = "*" if self.ascii else "●"
        lead = Segment(sign + " ", base + self.tone("accent"))
        segments = self._fit(((cell.text, base + self.tone(cell.tone)) for cell in row.cells), width, base)
        return Strip([lead, *segments]).adjust_cell_length(width, base)

    def _fit(self, cells: Iterable[tuple[str, Style]], width: int, base: Style) -> list[Segment]:
        return fitted(cells, self.columns, width, base, ascii_only=self.ascii)

    def _filter_line(self, width: int) -> Strip:
        style = self.rich_style + self.tone("bar")
        cursor = ("_" if self.ascii else "▏") if self._typing else ""
        counts = f"  {len(self._rows)} of {len(self._all)}" + ("" if self._typing else "  Esc clears")
        segments = [
            Segment(" /", style + self.tone("accent")),
            Segment(self._filter + cursor, style),
            Segment(counts, style + self.tone("dim")),
        ]
        return Strip(segments).adjust_cell_length(width, style)

    # Keys and the pointer.

    def _page(self) -> int:
        return max(1, self.size.height - 1 - (1 if self._typing or self._filter else 0))

    def _move(self, index: int) -> None:
        if not self._rows:
            return
        index = max(0, min(index, len(self._rows) - 1))
        if self._rows[index].id == self._selected and index == self._cursor:
            return
        self._cursor, self._selected = index, self._rows[index].id
        self._keep_in_view()
        self.refresh()
        self.post_message(self.Moved(self, self._selected))

    def _keep_in_view(self) -> None:
        top = round(self.scroll_y)
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False, force=True)
        elif self._cursor > top + self._page() - 1:
            self.scroll_to(y=self._cursor - self._page() + 1, animate=False, force=True)

    def on_resize(self) -> None:
        """Keep the selected line visible."""
        self.virtual_size = Size(self.size.width, len(self._rows) + 1 + (1 if self._typing or self._filter else 0))
        self._keep_in_view()

    def action_down(self) -> None:
        """Next line."""
        self._move(self._cursor + 1)

    def action_up(self) -> None:
        """Line before."""
        self._move(self._cursor - 1)

    def action_page_down(self) -> None:
        """Next page."""
        self._move(self._cursor + self._page())

    def action_page_up(self) -> None:
        """Page before."""
        self._move(self._cursor - self._page())

    def action_top(self) -> None:
        """First line."""
        self._move(0)

    def action_bottom(self) -> None:
        """Last line."""
        self._move(len(self._rows) - 1)

    def action_choose(self) -> None:
        """Open the selected line."""
        if self._selected is not None:
            self.post_message(self.Opened(self, self._selected))

    def action_mark(self) -> None:
        """Mark the selected line and go to the next."""
        if self._selected is not None:
            self._marks ^= {self._selected}
            self.refresh()
            self._move(self._cursor + 1)

    def action_mark_all(self) -> None:
        """Mark all lines shown, or none when all are marked."""
        shown = {row.id for row in self._rows}
        self._marks = set() if shown <= self._marks else self._marks | shown
        self.refresh()

    def action_sort(self) -> None:
        """Sort by the next column; after the last, the given order."""
        order: list[int | None] = [None, *(i for i, column in enumerate(self.columns) if column.sortable)]
        self._sort = order[(order.index(self._sort) + 1) % len(order)]
        self._descending = self._sort is not None and self.columns[self._sort].align == "right"
        self._arrange()
        self.refresh()

    def action_reverse(self) -> None:
        """Turn the order round."""
        self._descending = not self._descending
        self._arrange()
        self.refresh()

    def action_filter(self) -> None:
        """Begin to type a filter."""
        self._typing = True
        self._arrange()
        self.refresh()

    def clear_filter(self) -> bool:
        """Take the filter off; False when there was none."""
        if not (self._typing or self._filter):
            return False
        self._typing, self._filter = False, ""
        self._arrange()
        self.refresh()
        return True

    def check_consume_key(self, key: str, character: str | None) -> bool:
        """While a filter is typed, printable keys belong to it."""
        return self._typing and character is not None and character.isprintable()

    def on_key(self, event: events.Key) -> None:
        """Type the filter; Esc takes it off."""
        if event.key == "escape" and self.clear_filter():
            event.stop()
        elif self._typing:
            if event.key == "enter":
                self._typing = False
            elif event.key == "backspace":
                self._filter = self._filter[:-1]
            elif event.is_printable and event.character:
                self._filter += event.character
            else:
                return
            event.stop()
            self._arrange()
            self.refresh()

    def on_click(self, event: events.Click) -> None:
        """Select the line; a second click opens it."""
        index = round(self.scroll_y) + event.y - 1
        if event.y > 0 and 0 <= index < len(self._rows):
            if index == self._cursor and event.chain > 1:
                self.action_choose()
            self._move(index)
