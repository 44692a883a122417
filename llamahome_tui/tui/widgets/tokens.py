"""TokenView: a row token by token; what is learned is underlined and coloured, and one token can be looked at closely.

Every second token has another background, so that the edges show; without colours `edges` draws a line between them.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from llamahome_tui.data.inspect import Part
from llamahome_tui.text import clean
from llamahome_tui.tui.keys import bindings
from llamahome_tui.tui.widgets.token_lines import TITLE, Layout
from llamahome_tui.tui.widgets.tone import Toned

AT_ONCE = 20_000  # tokens laid out in one go; a longer row grows while it is looked at
_UNDERLINED = Style(underline=True)
_BOLD = Style(bold=True)
_REVERSED = Style(reverse=True)


class TokenView(Toned, ScrollView, can_focus=True):
    """The parts of one row. `show` takes them; nothing is selected until somebody steps."""

    BINDINGS = bindings("text", "tokens")
    DEFAULT_CSS = """
    TokenView { height: 1fr; overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._parts: tuple[Part, ...] = ()
        self._layout = Layout((), 1)
        self._step = -1
        self._edges = False
        self._count = 0

    @property
    def step(self) -> int:
        """The number of the token that is looked at, -1 where none is."""
        return self._step

    def show(self, parts: Sequence[Part]) -> None:
        """Show these parts from their beginning; the same ones stay where they are."""
        if tuple(parts) == self._parts:
            return
        self._parts = tuple(parts)
        self._step = -1
        self._count = sum(len(part.pieces) for part in self._parts)
        self._lay()
        self.scroll_to(y=0, animate=False, force=True)

    def _lay(self) -> None:
        width = self.scrollable_content_region.width
        edge = ("|" if self.ascii else "│") if self._edges else ""
        self._layout = Layout(self._parts, width, ascii_only=self.ascii, edge=edge)
        self._lay_more()

    def _lay_more(self) -> None:
        done = self._layout.more(AT_ONCE)
        # The last line is the note on the token looked at.
        self.virtual_size = Size(self.size.width, len(self._layout.lines) + 1)
        if not done:
            layout = self._layout
            self.set_timer(0.02, lambda: self._lay_more() if layout is self._layout else None)
        self.refresh()

    def on_resize(self) -> None:
        """Break the lines anew."""
        self._lay()
        self._keep_in_view()

    # Drawing.

    def render_line(self, y: int) -> Strip:
        """A line of tokens, or the note at the bottom."""
        width, base = self.scrollable_content_region.width, self.rich_style
        if y == self.size.height - 1:
            return self._note(width)
        index = round(self.scroll_y) + y
        if not self._parts or index >= len(self._layout.lines):
            return Strip.blank(width, base)
        segments = [Segment(text, self._style(token)) for text, token in self._layout.lines[index]]
        return Strip(segments).adjust_cell_length(width, base)

    def _style(self, number: int) -> Style:
        base = self.rich_style
        if number == TITLE:
            return base + self.tone("line" if self._edges else "head")
        part, at = self._place(number)
        if number % 2:
            base += self.tone("other")
        style = base + self.tone("ok" if part.mask[at] else "busy" if part.special[at] else "")
        if part.mask[at]:
            style += _UNDERLINED
        if part.special[at]:
            style += _BOLD
        return style + _REVERSED if number == self._step else style

    def _place(self, number: int) -> tuple[Part, int]:
        for part in self._parts:
            if number < len(part.pieces):
                return part, number
            number -= len(part.pieces)
        raise IndexError(number)

    def _note(self, width: int) -> Strip:
        style = self.rich_style + self.tone("bar")
        return Strip([Segment(" " + self.said, style)]).adjust_cell_length(width, style)

    @property
    def said(self) -> str:
        """About the token that is looked at; how to read the colours where there is none."""
        if not self._parts:
            return ""
        if self._step < 0:
            keys = "Left Right" if self.ascii else "← →"
            return f"underlined: learned    {keys} token by token"
        part, at = self._place(self._step)
        words = [f"token {at + 1:,} of {len(part.ids):,}", f"id {part.ids[at]}", clean(repr(part.pieces[at]), limit=60)]
        words.append("learned" if part.mask[at] else "not learned")
        words += ["special"] if part.special[at] else []
        words += [part.title] if part.title else []
        return "  ".join(words)

    # Keys.

    def _page(self) -> int:
        return max(1, self.size.height - 1)

    def _go(self, y: float) -> None:
        last = max(0, len(self._layout.lines) - self._page())
        self.scroll_to(y=max(0, min(y, last)), animate=False, force=True)

    def _select(self, number: int) -> None:
        self._step = max(0, min(number, self._count - 1, len(self._layout.starts) - 1))
        self._keep_in_view()
        self.refresh()

    def _keep_in_view(self) -> None:
        if not 0 <= self._step < len(self._layout.starts):
            return
        line, top = self._layout.starts[self._step], round(self.scroll_y)
        if not top <= line < top + self._page():
            self._go(line - self._page() // 2)

    def _first_in_view(self) -> int:
        top = round(self.scroll_y)
        lines = self._layout.lines[top : top + self._page()]
        return next((token for line in lines for _, token in line if token != TITLE), 0)

    def action_step(self) -> None:
        """Look at the next token, from the first one in view on."""
        if self._count:
            self._select(self._step + 1 if self._step >= 0 else self._first_in_view())

    def action_step_back(self) -> None:
        """Look at the token before."""
        if self._count:
            self._select(self._step - 1 if self._step >= 0 else self._first_in_view())

    def action_edges(self) -> None:
        """Draw a line between tokens, or none."""
        self._edges = not self._edges
        self._lay()
        self._keep_in_view()

    def action_down(self) -> None:
        """Next line."""
        self._go(self.scroll_y + 1)

    def action_up(self) -> None:
        """Line before."""
        self._go(self.scroll_y - 1)

    def action_page_down(self) -> None:
        """Next page."""
        self._go(self.scroll_y + self._page())

    def action_page_up(self) -> None:
        """Page before."""
        self._go(self.scroll_y - self._page())

    def action_top(self) -> None:
        """First line."""
        self._go(0)

    def action_bottom(self) -> None:
        """Last line."""
        self._go(len(self._layout.lines))

    def on_click(self, event: events.Click) -> None:
        """Look at the token under the pointer."""
        index, x = round(self.scroll_y) + event.y, 0
        if event.y >= self.size.height - 1 or index >= len(self._layout.lines):
            return
        for text, token in self._layout.lines[index]:
            x += Segment(text).cell_length
            if event.x < x:
                if token != TITLE:
                    self._select(token)
                return
