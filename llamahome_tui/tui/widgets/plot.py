"""Plot: curves with a title that carries their newest values; it draws again only when data or size has changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.segment import Segment
from textual.strip import Strip

from llamahome_tui.tui.widgets.braille import Curve, Run, draw, label
from llamahome_tui.tui.widgets.tone import Toned


class Trace:
    """A growing series that never holds many more than `limit` points.

    Points wait until a bucket is full; a full bucket leaves its smallest and largest value, and a gap at its end. When
    there are too many buckets, neighbours become one: old and new are thinned alike, and no peak is ever lost.
    """

    def __init__(self, limit: int = 2048) -> None:
        self._kept: list[tuple[float, float]] = []
        self._open: list[tuple[float, float]] = []
        self._bucket = 2
        self._limit = max(8, limit)

    def __len__(self) -> int:
        return len(self._kept) + len(self._open)

    def add(self, x: float, y: float | None) -> None:
        """Append a point; None is a gap."""
        self._open.append((x, math.nan if y is None else y))
        if len(self._open) >= self._bucket:
            self._kept += _extremes(self._open)
            self._open.clear()
            if len(self._kept) > self._limit:
                self._kept = [p for i in range(0, len(self._kept), 4) for p in _extremes(self._kept[i : i + 4])]
                self._bucket *= 2

    def cut(self, x: float) -> None:
        """Forget all points past x: a resumed run begins again from there."""
        for points in (self._open, self._kept):
            while points and points[-1][0] > x:
                points.pop()

    def curve(self, tone: str) -> Curve:
        """A copy, to be drawn in another thread."""
        points = self._kept + self._open
        return Curve(tuple(x for x, _ in points), tuple(y for _, y in points), tone)


def _extremes(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Smallest and largest of these in their order, then the gap if they end in one."""
    known = [point for point in points if math.isfinite(point[1])]
    kept = sorted({min(known, key=lambda p: p[1]), max(known, key=lambda p: p[1])}) if known else []
    if not math.isfinite(points[-1][1]):
        kept.append(points[-1])
    return kept


@dataclass(frozen=True, slots=True)
class Named:
    """A curve with its name and the text of its newest value."""

    name: str
    curve: Curve
    value: str = ""


class Plot(Toned):
    """A title line and a plot below it."""

    DEFAULT_CSS = """
    Plot { height: 1fr; min-height: 3; }
    """

    def __init__(self, title: str, *, empty: str = "", id: str | None = None) -> None:
        super().__init__(id=id)
        self._title, self._empty = title, empty
        self._curves: tuple[Named, ...] = ()
        self._drawn: tuple[object, list[list[Run]]] | None = None

    def show(self, curves: Sequence[Named]) -> None:
        """Draw these curves."""
        if tuple(curves) != self._curves:
            self._curves = tuple(curves)
            self._drawn = None
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """The title, then the plot."""
        width, height = self.size.width, self.size.height
        base = self.rich_style
        if y == 0:
            return self._head(width)
        lines = self._lines(width, height - 1)
        if not lines:
            text = self._empty if y == height // 2 else ""
            return Strip([Segment(text.center(width), base + self.tone("dim"))]).adjust_cell_length(width, base)
        if y - 1 >= len(lines):
            return Strip.blank(width, base)
        segments = [Segment(text, base + self.tone(tone)) for text, tone in lines[y - 1]]
        return Strip(segments).adjust_cell_length(width, base)

    def _lines(self, width: int, height: int) -> list[list[Run]]:
        key = (width, height, self.ascii)
        if self._drawn is None or self._drawn[0] != key:
            self._drawn = (key, draw([one.curve for one in self._curves], width, height, ascii_only=self.ascii))
        return self._drawn[1]

    def _head(self, width: int) -> Strip:
        base = self.rich_style
        title = base + self.tone("strong")
        segments = [Segment(self._title + "  ", title)]
        sign = "" if self.ascii else "━ "
        for one in self._curves:
            value = one.value or _newest(one.curve)
            if not value:
                continue
            if len(self._curves) > 1:
                segments.append(Segment(f"{sign}{one.name} ", base + self.tone(one.curve.tone)))
            segments.append(Segment(value + "  ", base + self.tone("strong")))
        while len(segments) > 1 and sum(cell_len(s.text) for s in segments) - 2 > width:
            segments.pop()
        return Strip(segments).adjust_cell_length(width, base)


def _newest(curve: Curve) -> str:
    value = next((y for y in reversed(curve.ys) if math.isfinite(y)), None)
    return "" if value is None else label(value)
