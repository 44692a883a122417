"""Bar: a progress bar of one line that repaints only when a cell of it changes; nothing in it moves by itself."""

from __future__ import annotations

from rich.segment import Segment
from textual.strip import Strip

from llamahome_tui.tui.widgets.tone import Toned


class Bar(Toned):
    """The share done of something; None draws the rail alone."""

    DEFAULT_CSS = """
    Bar { height: 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._share: float | None = None
        self._tone = ""

    def show(self, share: float | None, tone: str = "") -> None:
        """Show this share, 0 to 1."""
        before = self._halves(self._share), self._tone
        self._share, self._tone = share, tone
        if before != (self._halves(share), tone):
            self.refresh()

    def _halves(self, share: float | None) -> int:
        return 0 if share is None else round(max(0.0, min(1.0, share)) * self.size.width * 2)

    def render_line(self, y: int) -> Strip:
        """The bar's only line, in half cells."""
        base = self.rich_style
        done = base + (self.tone(self._tone or "accent"))
        rest = base + self.tone("line")
        width, halves = self.size.width, self._halves(self._share)
        if self.ascii:
            full = halves // 2
            return Strip([Segment("#" * full, done), Segment("-" * (width - full), rest)]).adjust_cell_length(
                width, base
            )
        segments = [Segment("━" * (halves // 2), done)]
        if halves % 2:
            segments.append(Segment("╸", done))
        segments.append(Segment("━" * (width - (halves + 1) // 2), rest))
        return Strip(segments).adjust_cell_length(width, base)
