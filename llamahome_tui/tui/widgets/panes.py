"""PaneBar: the parts of one page in a line, the one in view marked, and beside them what the page is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual import events
from textual.message import Message
from textual.strip import Strip

from llamahome_tui.text import clean
from llamahome_tui.tui.widgets.tone import Toned


class Pane(NamedTuple):
    """One part: its key, its name, and a word or number that stands behind it."""

    key: str
    name: str
    title: str
    note: str = ""
    tone: str = ""


class PaneBar(Toned):
    """A line of parts. The one in view is in brackets too, so that it needs no colour."""

    DEFAULT_CSS = """
    PaneBar { height: 1; }
    """

    class Chosen(Message):
        """A part was clicked."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._shown: tuple[tuple[Pane, ...], str, str] = ((), "", "")
        self._spots: list[tuple[int, int, str]] = []

    def show(self, panes: Sequence[Pane], here: str, about: str) -> None:
        """Show these parts with `here` in view; `about` stands at the right where there is room."""
        shown = tuple(panes), here, clean(about)
        if shown != self._shown:
            self._shown = shown
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """The only line."""
        panes, here, about = self._shown
        width, base = self.size.width, self.rich_style
        segments: list[Segment] = []
        used = 0
        self._spots.clear()
        for pane in panes:
            now = pane.name == here
            title = f" [{pane.title}] " if now else f"  {pane.title}  "
            parts = [
                Segment(f" {pane.key}", base + self.tone("key")),
                Segment(title, base + self.tone("strong" if now else "")),
            ]
            if pane.note:
                parts.append(Segment(clean(pane.note, limit=40) + " ", base + self.tone(pane.tone or "dim")))
            wide = sum(part.cell_length for part in parts)
            self._spots.append((used, used + wide, pane.name))
            segments += parts
            used += wide
        room = width - used - 2
        if cell_len(about) > room > 8:
            about = set_cell_size(about, room - 1) + ("~" if self.ascii else "…")
        if about and cell_len(about) <= room:
            segments.append(Segment(" " * (width - used - cell_len(about) - 1), base))
            segments.append(Segment(about, base + self.tone("dim")))
        return Strip(segments).adjust_cell_length(width, base)

    def on_click(self, event: events.Click) -> None:
        """Open the part under the pointer."""
        for start, end, name in self._spots:
            if start <= event.x < end:
                self.post_message(self.Chosen(name))
