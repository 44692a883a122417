"""The two bars of every screen: tabs above, keys below; both are one line and draw from data they are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.segment import Segment
from textual import events
from textual.message import Message
from textual.strip import Strip

from llamahome_tui.text import clean
from llamahome_tui.tui.keys import Key, plain
from llamahome_tui.tui.widgets.tone import Toned


@dataclass(frozen=True, slots=True)
class Tab:
    """One screen in the upper bar."""

    key: str
    name: str
    title: str


class TitleBar(Toned):
    """Name, the tabs with their keys, and what the machine is called."""

    DEFAULT_CSS = """
    TitleBar { height: 1; dock: top; }
    """

    class Chosen(Message):
        """A tab was clicked."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, tabs: Sequence[Tab], here: str, host: str) -> None:
        super().__init__()
        self._tabs = tuple(tabs)
        self._here = here
        self._host = clean(host)
        self._note = ""
        self._spots: list[tuple[int, int, str]] = []

    def show(self, note: str) -> None:
        """Put a short note (`2 runs live`) before the machine's name."""
        if note != self._note:
            self._note = clean(note)
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """The bar's only line."""
        width = self.size.width
        base = self.rich_style
        name = base + self.tone("key")
        here = self.tone("here")
        segments = [Segment(" LlamaHome ", name), Segment(" ", base)]
        used = 12
        self._spots.clear()
        for one in self._tabs:
            text = f" {one.key} {one.title} "
            self._spots.append((used, used + len(text), one.name))
            segments.append(Segment(text, here if one.name == self._here else base))
            used += len(text)
        right = self._right(width - used - 2)
        segments.append(Segment(" " * max(0, width - used - cell_len(right) - 1), base))
        segments.append(Segment(right + " ", base + self.tone("dim")))
        return Strip(segments).adjust_cell_length(width, base)

    def _right(self, room: int) -> str:
        for text in (f"{self._note}  {self._host}".strip(), self._note or self._host, ""):
            if cell_len(text) <= room:
                return text
        return ""

    def on_click(self, event: events.Click) -> None:
        """Open the tab under the pointer."""
        for start, end, name in self._spots:
            if start <= event.x < end:
                self.post_message(self.Chosen(name))


class KeyBar(Toned):
    """The keys that work here, the ones that matter most first; what does not fit is left to the help."""

    DEFAULT_CSS = """
    KeyBar { height: 1; dock: bottom; }
    """

    class Pressed(Message):
        """A key in the bar was clicked."""

        def __init__(self, key: Key) -> None:
            super().__init__()
            self.key = key

    def __init__(self, keys: Sequence[Key] = ()) -> None:
        super().__init__()
        self._keys = tuple(keys)
        self._spots: list[tuple[int, int, Key]] = []

    def show(self, keys: Sequence[Key]) -> None:
        """Offer these keys."""
        if tuple(keys) != self._keys:
            self._keys = tuple(keys)
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """The bar's only line."""
        width = self.size.width
        base = self.rich_style
        key_style = base + self.tone("key")
        word_style = base
        fitting = self._fitting(width - 1)
        segments = [Segment(" ", base)]
        used = 1
        self._spots.clear()
        for key in fitting:
            shown = self._shown(key)
            self._spots.append((used, used + cell_len(shown) + 1 + cell_len(key.label), key))
            segments += [Segment(shown, key_style), Segment(" ", base), Segment(f"{key.label}  ", word_style)]
            used += cell_len(shown) + cell_len(key.label) + 3
        return Strip(segments).adjust_cell_length(width, base)

    def _shown(self, key: Key) -> str:
        return plain(key.shown) if self.ascii else key.shown

    def _fitting(self, width: int) -> list[Key]:
        """The keys for this width: the bar's own order, without the middle ones that do not fit; help always stays."""
        always = [key for key in self._keys if key.action in ("help", "palette")]
        room = width - sum(cell_len(self._shown(key)) + cell_len(key.label) + 3 for key in always)
        chosen: list[Key] = []
        for key in self._keys:
            need = cell_len(self._shown(key)) + cell_len(key.label) + 3
            if key in always:
                continue
            if need <= room:
                chosen.append(key)
                room -= need
        return [key for key in self._keys if key in chosen or key in always]

    def on_click(self, event: events.Click) -> None:
        """Do what the key under the pointer does."""
        for start, end, key in self._spots:
            if start <= event.x < end:
                self.post_message(self.Pressed(key))
