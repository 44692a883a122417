"""Histogram: upright bars in eighths of a cell, a mark where a limit lies, and numbers that need no colour."""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from textual.strip import Strip

from llamahome_tui.data.stats import Bin
from llamahome_tui.tui.widgets.tone import Toned
from llamahome_tui.units import human_count

Run = tuple[str, str]  # text, tone
_EIGHTHS = " ▁▂▃▄▅▆▇█"


def columns(bins: Sequence[Bin], width: int) -> list[float]:
    """Rows for each cell of the width: of the bin in the cell's middle, or of its share of bins that are narrower."""
    if not bins or width < 1:
        return []
    low, high = bins[0].start, bins[-1].end
    scale = width / max(1, high - low)
    found = [0.0] * width
    for one in bins:
        left, right = (one.start - low) * scale, (one.end - low) * scale
        for cell in range(int(left), min(width, int(right) + 1)):
            if right - left < 1:
                found[cell] += one.rows * max(0.0, min(right, cell + 1) - max(left, cell)) / (right - left)
            elif left <= cell + 0.5 < right:
                found[cell] = float(one.rows)
    return found


def draw(bins: Sequence[Bin], width: int, height: int, *, limit: int = 0, ascii_only: bool = False) -> list[list[Run]]:
    """Lines of (text, tone): the bars, an axis with the mark of `limit` (0: none) and the numbers below it.

    A bin with any row at all is at least one eighth high. What lies past the limit has the tone of a warning.
    """
    gutter = len(human_count(max((one.rows for one in bins), default=0))) + 1
    inner = width - gutter
    if not bins or inner < 8 or height < 3:
        return []
    heights = columns(bins, inner)
    top = max(heights) or 1.0
    low, high = bins[0].start, bins[-1].end
    at = round((limit - low) / max(1, high - low) * inner) if limit and low <= limit < high else None
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
    return [*lines, _axis(gutter, inner, at, ascii_only), _numbers(gutter, inner, (low, high), limit, at)]


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


def _numbers(gutter: int, inner: int, ends: tuple[int, int], limit: int, at: int | None) -> list[Run]:
    """The first and last length, and the limit under its mark; an end gives way to it."""
    left, right = human_count(ends[0]), human_count(ends[1] - 1)
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
