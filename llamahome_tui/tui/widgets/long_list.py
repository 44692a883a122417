"""LongList: a list of any number of lines of which only those in view are known; the rest is asked for as it is seen.

It holds a position, never a text: whoever owns the list brings the lines that `Seen` asks for, from a thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from llamahome_tui.text import clean
from llamahome_tui.tui.keys import bindings
from llamahome_tui.tui.widgets.columns import Column, fitted
from llamahome_tui.tui.widgets.tone import Toned

Cells = tuple[tuple[str, str], ...]  # a text and its tone for each column; the last may have the room of several


class LongList(Toned, ScrollView, can_focus=True):
    """Positions from 0 to `count`; the cells of those in view come with `show`."""

    BINDINGS = bindings("rows")
    DEFAULT_CSS = """
    LongList { height: 1fr; overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; }
    """

    class Seen(Message):
        """These lines are in view now."""

        def __init__(self, first: int, count: int) -> None:
            super().__init__()
            self.first, self.count = first, count

    class Moved(Message):
        """Another position is selected."""

        def __init__(self, position: int) -> None:
            super().__init__()
            self.position = position

    class Opened(Message):
        """Enter, or a second click, on the selected position."""

        def __init__(self, position: int) -> None:
            super().__init__()
            self.position = position

    class Filtered(Message):
        """The filter reads so now."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, columns: Sequence[Column], *, empty: Sequence[str] = (), id: str | None = None) -> None:
        super().__init__(id=id)
        self.columns = tuple(columns)
        self._empty = tuple(empty)
        self._cells: Mapping[int, Cells] = {}
        self._count = 0
        self._cursor = 0
        self._follow = False  # the end was asked for, and the list still grows
        self._filter, self._typing, self._said = "", False, ""
        self._asked: tuple[int, int] = (-1, -1)

    @property
    def position(self) -> int:
        """The selected position; 0 in an empty list."""
        return self._cursor

    @property
    def filtering(self) -> str:
        """The filter as it is typed."""
        return self._filter

    def show(self, count: int, cells: Mapping[int, Cells], *, said: str = "", growing: bool = False) -> None:
        """There are `count` positions, and these cells for some of them. `said` stands beside the filter."""
        if (count, said) != (self._count, self._said) or any(
            cells.get(i) != self._cells.get(i) for i in range(*self.in_view())
        ):
            self.refresh()
        self._cells, self._said = cells, said
        if count != self._count:
            self._count = count
            self._resized()
            if self._follow and count:
                self._move(count - 1)
            elif self._cursor >= count:
                self._move(max(0, count - 1))
        self._follow = self._follow and growing
        self._ask()

    def explain(self, *lines: str) -> None:
        """Change the lines that are shown when there is nothing."""
        if lines != self._empty:
            self._empty = lines
            self.refresh()

    def select(self, position: int) -> None:
        """Select this position, if it is there."""
        self._move(position)

    def begin_at(self, position: int) -> None:
        """The list is another one now: select this position without telling anybody."""
        self._cursor = max(0, position)
        self._keep_in_view()
        self.refresh()

    # Size and what is in view.

    def _bar(self) -> int:
        return 1 if self._typing or self._filter else 0

    def _page(self) -> int:
        return max(1, self.size.height - 1 - self._bar())

    def in_view(self) -> tuple[int, int]:
        """The first position that shows, and the one after the last."""
        top = round(self.scroll_y)
        return top, min(self._count, top + self._page())

    def _resized(self) -> None:
        self.virtual_size = Size(self.size.width, self._count + 1 + self._bar())

    def _ask(self) -> None:
        first, end = self.in_view()
        if (first, end) != self._asked and end > first:
            self._asked = first, end
            self.post_message(self.Seen(first, end - first))

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """What comes into view is asked for."""
        super().watch_scroll_y(old_value, new_value)
        self._ask()

    def on_resize(self) -> None:
        """Keep the selected line visible."""
        self._resized()
        self._keep_in_view()
        self._ask()

    def _keep_in_view(self) -> None:
        top = round(self.scroll_y)
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False, force=True)
        elif self._cursor > top + self._page() - 1:
            self.scroll_to(y=self._cursor - self._page() + 1, animate=False, force=True)

    def _move(self, position: int) -> None:
        position = max(0, min(position, self._count - 1))
        if position == self._cursor or not self._count:
            return
        self._cursor = position
        self._keep_in_view()
        self.refresh()
        self.post_message(self.Moved(position))

    # Drawing.

    def render_line(self, y: int) -> Strip:
        """Line `y` of the visible part: the head, a line of the list, the filter, or what an empty list says."""
        width, base = self.scrollable_content_region.width, self.rich_style
        if self._bar() and y == self.size.height - 1:
            return self._filter_line(width)
        if y == 0:
            style = base + self.tone("head")
            return self._strip("  ", [(column.title, "head") for column in self.columns], width, style)
        position = round(self.scroll_y) + y - 1
        if position < self._count:
            style = base
            if position == self._cursor:
                style += self.tone("cursor" if self.has_focus else "cursor-blurred")
            sign = (">" if self.ascii else "▌") if position == self._cursor else " "
            cells = self._cells.get(position, ((self._dots(), "dim"),))
            return self._strip(sign + " ", cells, width, style)
        lines = self._empty if not self._count else ()
        if 0 <= y - 2 < len(lines):
            return Strip([Segment("  " + clean(lines[y - 2], limit=500), base + self.tone("dim"))]).adjust_cell_length(
                width, base
            )
        return Strip.blank(width, base)

    def _dots(self) -> str:
        return "..." if self.ascii else "…"

    def _strip(self, lead: str, cells: Sequence[tuple[str, str]], width: int, base: Style) -> Strip:
        toned = ((clean(text, limit=500), base + self.tone(tone)) for text, tone in cells)
        segments = fitted(toned, self.columns, width, base, ascii_only=self.ascii)
        return Strip([Segment(lead, base + self.tone("accent")), *segments]).adjust_cell_length(width, base)

    def _filter_line(self, width: int) -> Strip:
        style = self.rich_style + self.tone("bar")
        cursor = ("_" if self.ascii else "▏") if self._typing else ""
        segments = [
            Segment(" /", style + self.tone("accent")),
            Segment(clean(self._filter) + cursor, style),
            Segment(f"  {clean(self._said)}" + ("" if self._typing else "  Esc clears"), style + self.tone("dim")),
        ]
        return Strip(segments).adjust_cell_length(width, style)

    # Keys and the pointer.

    def action_down(self) -> None:
        """Next line."""
        self._step(1)

    def action_up(self) -> None:
        """Line before."""
        self._step(-1)

    def action_page_down(self) -> None:
        """Next page."""
        self._step(self._page())

    def action_page_up(self) -> None:
        """Page before."""
        self._step(-self._page())

    def _step(self, by: int) -> None:
        self._follow = False
        self._move(self._cursor + by)

    def action_top(self) -> None:
        """First line."""
        self._step(-self._cursor)

    def action_bottom(self) -> None:
        """Last line; while the list grows, its end stays selected."""
        self._follow = True
        self._move(self._count - 1)

    def action_choose(self) -> None:
        """Open the selected line."""
        if self._count:
            self.post_message(self.Opened(self._cursor))

    def action_filter(self) -> None:
        """Begin to type a filter."""
        self._typing = True
        self._resized()
        self.refresh()

    def clear_filter(self) -> bool:
        """Take the filter off; False when there was none."""
        if not self._bar():
            return False
        self._typing = False
        self._set_filter("")
        return True

    def _set_filter(self, text: str) -> None:
        changed, self._filter = text != self._filter, text
        self._resized()
        self._keep_in_view()
        self.refresh()
        if changed:
            self.post_message(self.Filtered(text))

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
                self._set_filter(self._filter)
            elif event.key == "backspace":
                self._set_filter(self._filter[:-1])
            elif event.is_printable and event.character:
                self._set_filter(self._filter + event.character)
            else:
                return
            event.stop()

    def on_click(self, event: events.Click) -> None:
        """Select the line; a second click opens it."""
        position = round(self.scroll_y) + event.y - 1
        if event.y > 0 and 0 <= position < self._count:
            if position == self._cursor and event.chain > 1:
                self.action_choose()
            self._step(position - self._cursor)
