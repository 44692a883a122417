"""Lines: a long text drawn line by line, with a tone for each line; it follows its end when it stands there.

Lines are cleaned when they are drawn, so that a source of millions costs only what is on the screen.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.segment import Segment
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from llamahome_tui.text import clean
from llamahome_tui.tui.keys import bindings
from llamahome_tui.tui.widgets.tone import Toned

Line = tuple[str, str]  # text, tone


class Lines(Toned, ScrollView, can_focus=True):
    """A log tail, an event list, a help page. `source[i]` gives (text, tone); any sequence will do, also a virtual one.

    `follow` keeps the end in view until somebody scrolls up; a pill then tells how many lines came since.
    """

    BINDINGS = bindings("text")
    DEFAULT_CSS = """
    Lines { height: 1fr; overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; }
    """

    def __init__(
        self, source: Sequence[Line] = (), *, follow: bool = False, empty: str = "", id: str | None = None
    ) -> None:
        super().__init__(id=id)
        self._source = source
        self._follow = self._follows = follow
        self._empty = empty
        self._seen = len(source)
        self._first = 0

    @property
    def following(self) -> bool:
        """Whether the end stays in view."""
        return self._follow

    def on_mount(self) -> None:
        """Take the size of the source."""
        self._fit()

    def on_resize(self) -> None:
        """Keep the end where it should be."""
        self._fit()

    def show(self, source: Sequence[Line], *, dropped: int = 0) -> None:
        """Take a new or longer source. `dropped` lines fell off its front (negative: were put
        before it): what is in view stays where it is."""
        grown = len(source) != len(self._source) or dropped
        same = not grown and source == self._source
        self._source = source
        if same:
            return
        place = self.scroll_y - dropped
        self._seen = max(0, self._seen - dropped)
        self._fit()
        if dropped and not self._follow:
            self.scroll_to(y=max(0, place), animate=False, force=True)
        self.refresh()

    def explain(self, text: str) -> None:
        """What stands here when there is nothing."""
        if text != self._empty:
            self._empty = text
            self.refresh()

    def _fit(self) -> None:
        size = Size(self.size.width, len(self._source))
        if size != self.virtual_size:
            self.virtual_size = size
        if self._follow:
            self._seen = len(self._source)
            self.scroll_to(y=max(0, len(self._source) - self.size.height), animate=False, force=True)
            self.vertical_scrollbar.position = self.scroll_y  # a bar that is only now shown has missed it

    def render_line(self, y: int) -> Strip:
        """One line of what is in view."""
        width = self.scrollable_content_region.width
        base = self.rich_style
        index = round(self.scroll_y) + y
        below = len(self._source) - self._seen
        if below > 0 and y == self.size.height - 1 and self._follows and not self._follow:
            pill = self.tone("here")
            return Strip([Segment(f" +{below} lines, G to the end ", pill)]).adjust_cell_length(width, base)
        if not self._source and y == 0 and self._empty:
            return Strip([Segment(self._empty, base + self.tone("dim"))]).adjust_cell_length(width, base)
        if not 0 <= index < len(self._source):
            return Strip.blank(width, base)
        text, tone = self._source[index]
        text = clean(text, limit=2000)
        if cell_len(text) > width:
            mark = "~" if self.ascii else "…"
            kept = Strip([Segment(text, base + self.tone(tone))]).crop(0, width - 1)
            return Strip([*kept, Segment(mark, base + self.tone("dim"))])
        return Strip([Segment(text, base + self.tone(tone))]).adjust_cell_length(width, base)

    def _go(self, y: float) -> None:
        last = max(0, len(self._source) - self.size.height)
        y = max(0, min(y, last))
        if self._follows:
            self._follow = y >= last
        self._seen = len(self._source) if self._follow else self._seen
        self.scroll_to(y=y, animate=False, force=True)
        self.refresh(Region(0, self.size.height - 1, self.size.width, 1))

    def action_down(self) -> None:
        """Next line."""
        self._go(self.scroll_y + 1)

    def action_up(self) -> None:
        """Line before."""
        self._go(self.scroll_y - 1)

    def action_page_down(self) -> None:
        """Next page."""
        self._go(self.scroll_y + self.size.height - 1)

    def action_page_up(self) -> None:
        """Page before."""
        self._go(self.scroll_y - self.size.height + 1)

    def action_top(self) -> None:
        """First line."""
        self._go(0)

    def action_bottom(self) -> None:
        """Last line, and follow."""
        self._go(len(self._source))

    def on_mouse_scroll_up(self) -> None:
        """Scrolling up stops following."""
        self._go(self.scroll_y - 3)

    def on_mouse_scroll_down(self) -> None:
        """Scrolling to the end follows again."""
        self._go(self.scroll_y + 3)
