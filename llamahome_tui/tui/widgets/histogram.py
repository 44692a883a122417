"""Histogram: upright bars in eighths of a cell, a mark where a limit lies, and numbers that need no colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.segment import Segment
from textual.strip import Strip

from llamahome_tui.tui.widgets.tone import Toned
from llamahome_tui.units import human_count

if TYPE_CHECKING:
    from llamahome_tui.data.figures import Bin  # which brings numpy

Run = tuple[str, str]  # text, tone
_EIGHTHS = " ▁▂▃▄▅▆▇█"


def columns(bins: Sequence[Bin], width: int) -> list[float]:
    """Rows for each cell of the width. Every bin is as wide as the others, however many lengths it holds."""
    if not bins or width < 1:
        return []
    each = width / len(bins)
    if each >= 1:
        return [float(bins[min(len(bins) - 1, int((cell + 0.5) / each))].rows) for cell in range(width)]
    found = [0.0] * width
    for at, one in enumerate(bins):
        left, right = at * each, (at + 1) * each
        for cell in range(int(left), min(width, int(right) + 1)):
            found[cell] += one.rows * max(0.0, min(right, cell + 1) - max(left, cell)) / each
    return found


def cell_of(bins: Sequence[Bin], length: int, width: int) -> int | None:
    """The cell in which a length lies; None past the ends."""
    for at, one in enumerate(bins):
        if one.start <= length < one.end:
            return min(width - 1, int((at + (length - one.start) / (one.end - one.start)) * width / len(bins)))
    return None


def draw(bins: Sequence[Bin], width: int, height: int, *, limit: int = 0, ascii_only: bool = False) -> list[list[Run]]:
    """Lines of (text, tone): the bars, an axis with the mark of `limit` (0: none) and the numbers below it.

    A bin with any row at all is at least one eighth high. What lies past the limit has the tone of a warning. The last
    bin may hold all that is far longer than the rest: its lengths stand under it.
    """
    gutter = len(human_count(max((one.rows for one in bins), default=0))) + 1
    inner = width - gutter
    if not bins or inner < 8 or height < 3:
        return []
    heights = columns(bins, inner)
    top = max(heights) or 1.0
    at = cell_of(bins, limit, inner) if limit else None
    bars = height - 2
    lines: list[list[Run]] = []
    for row in range(bars):
        floor = bars - 1 - row
        cells = [_cell(rows / top * bars, floor, ascii_only, rows > 0) for rows in heights]
        label = human_count(round(top)) if row == 0 else ""
        split = inner if at is None else at
        lines.append([(f"{label:>{gutter - 1}} ", "dim"), ("".join(cells[:split]), "first")])
        if split < inner:
            lines[-1].append(("".join(cells[split:]), "warn"))
    return [*lines, _axis(gutter, inner, at, ascii_only), _numbers(gutter, inner, bins, limit, at)]


def _cell(tall: float, floor: int, ascii_only: bool, some: bool) -> str:
    if ascii_only:
        full = tall >= floor + 0.5 or (floor == 0 and some)
        return "#" if full else " "
    eighths = max(0, min(8, round((tall - floor) * 8)))
    return _EIGHTHS[max(1, eighths) if floor == 0 and some else eighths]


def _axis(gutter: int, inner: int, at: int | None, ascii_only: bool) -> list[Run]:
    dash, mark = ("-", "^") if ascii_only else ("─", "▲")
    if at is None:
        return [(" " * gutter, ""), (dash * inner, "line")]
    return [(" " * gutter, ""), (dash * at, "line"), (mark, "warn"), (dash * (inner - at - 1), "line")]


def _numbers(gutter: int, inner: int, bins: Sequence[Bin], limit: int, at: int | None) -> list[Run]:
    """The first length, those of the last bin, and the limit under its mark; an end gives way to it."""
    last = bins[-1]
    wider = last.end - last.start > bins[0].end - bins[0].start
    left = human_count(bins[0].start)
    right = f"{human_count(last.start)}-{human_count(last.end - 1)}" if wider else human_count(last.end - 1)
    line = [" "] * inner
    line[: len(left)] = left
    line[inner - len(right) :] = right
    text, start, end = "".join(line), 0, 0
    if at is not None:
        said = f"max_length {limit}"
        start = max(0, min(at - len(said) // 2, inner - len(said)))
        end = start + len(said)
        before = text[:start] if start == 0 or start > len(left) else " " * start
        after = text[end:] if end < inner - len(right) else ""
        return [(" " * gutter, ""), (before, "dim"), (said, "warn"), (after, "dim")]
    return [(" " * gutter, ""), (text, "dim")]


class Histogram(Toned):
    """A title line and the bars below it."""

    DEFAULT_CSS = """
    Histogram { height: 1fr; min-height: 4; }
    """

    def __init__(self, title: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._title = title
        self._bins: tuple[Bin, ...] = ()
        self._limit = 0
        self._drawn: tuple[object, list[list[Run]]] | None = None

    def show(self, bins: Sequence[Bin], limit: int = 0) -> None:
        """Draw these; `limit` is marked, 0 is none."""
        if (tuple(bins), limit) != (self._bins, self._limit):
            self._bins, self._limit = tuple(bins), limit
            self._drawn = None
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """The title, then the bars."""
        width, base = self.size.width, self.rich_style
        if y == 0:
            return Strip([Segment(self._title, base + self.tone("strong"))]).adjust_cell_length(width, base)
        lines = self._lines(width, self.size.height - 1)
        if y - 1 >= len(lines):
            return Strip.blank(width, base)
        segments = [Segment(text, base + self.tone(tone)) for text, tone in lines[y - 1]]
        return Strip(segments).adjust_cell_length(width, base)

    def _lines(self, width: int, height: int) -> list[list[Run]]:
        key = (width, height, self.ascii)
        if self._drawn is None or self._drawn[0] != key:
            self._drawn = key, draw(self._bins, width, height, limit=self._limit, ascii_only=self.ascii)
        return self._drawn[1]
