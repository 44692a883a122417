"""Braille drawing: points to lines of characters with axes; pure functions, so that a test can read a plot as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Bit of each dot in a braille character, by row and column.
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_MARKS = "*o+x#@%&"
_MOST = 1e30  # a loss beyond this is no measurement; differences of such numbers overflow


@dataclass(frozen=True, slots=True)
class Curve:
    """Points in order of x. A y that is not finite is a gap. `tone` colours the curve, `mark` stands at its end."""

    xs: Sequence[float]
    ys: Sequence[float]
    tone: str = "first"
    mark: str = ""


Run = tuple[str, str]  # characters and their tone


def label(value: float) -> str:
    """A number in few characters: `1.25`, `0.004`, `2.0e-4`, `12k`."""
    if not math.isfinite(value):
        return "n/a"
    size = abs(value)
    if size == 0:
        return "0"
    if size < 0.001 or size >= 1e12:
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    if size >= 1e9:
        return f"{value / 1e9:.3g}G"
    if size >= 1e6:
        return f"{value / 1e6:.3g}M"
    if size >= 10_000:
        return f"{value / 1e3:.3g}k"
    return f"{value:.4g}" if size >= 100 else f"{value:.3g}"


def ticks(low: float, high: float, count: int) -> list[float]:
    """At most `count` round numbers (1, 2, 5 times a power of ten) from low to high."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low or count < 1:
        return [low]
    power = 10.0 ** (math.floor(math.log10(high - low)) - 1)
    for step in (factor * scale * power for scale in (1, 10, 100) for factor in (1, 2, 5)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < count:
            return [index * step for index in range(first, last + 1)] or [low]
    return [low]


def drawable(y: float) -> bool:
    """Whether y is a number that a plot can have a place for; any other is a gap."""
    return math.isfinite(y) and abs(y) <= _MOST


def bounds(curves: Sequence[Curve]) -> tuple[float, float, float, float] | None:
    """Smallest and largest x and y of all finite points, or None when there are none."""
    points = [(x, y) for curve in curves for x, y in zip(curve.xs, curve.ys, strict=True) if drawable(y)]
    if not points:
        return None
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    left, right, low, high = min(xs), max(xs), min(ys), max(ys)
    if right <= left:
        left, right = left - 0.5, left + 0.5
    if high - low <= max(abs(low), abs(high)) * 1e-9 + 1e-30:
        pad = abs(low) * 0.05 if abs(low) > 1e-29 else 0.5
        low, high = low - pad, high + pad
    return left, right, low, high


def draw(curves: Sequence[Curve], width: int, height: int, *, ascii_only: bool = False) -> list[list[Run]]:
    """Lines of (text, tone) for a plot with axes in `width` x `height` cells; empty when there is nothing to draw."""
    frame = bounds(curves)
    if frame is None or width < 12 or height < 3:
        return []
    left, right, low, high = frame
    rows = height - 1
    marks = {_row_of(y, low, high, rows): y for y in ticks(low, high, max(2, min(rows // 2 + 1, 6)))}
    gutter = max(len(label(y)) for y in marks.values())
    columns = width - gutter - 1
    grid = _Grid(columns, rows, ascii_only)
    for index, curve in enumerate(curves):
        grid.trace(curve, index, (left, right, low, high))
    axis = "|" if ascii_only else "│"
    notch = "+" if ascii_only else "┤"
    lines: list[list[Run]] = []
    for row in range(rows):
        text = label(marks[row]) if row in marks else ""
        lines.append([(f"{text:>{gutter}}", "dim"), (notch if row in marks else axis, "line"), *grid.runs(row)])
    lines.append([(_foot(left, right, gutter, columns), "dim")])
    return lines


def _row_of(y: float, low: float, high: float, rows: int) -> int:
    return min(rows - 1, max(0, round((high - y) / (high - low) * (rows * 4 - 1)) // 4))


def _foot(left: float, right: float, gutter: int, columns: int) -> str:
    """The numbers under the x axis, each centred under its place, none touching another."""
    line = [" "] * (gutter + 1 + columns)
    last_end = -1
    for x in ticks(left, right, max(2, columns // 10)):
        text = label(x)
        start = gutter + 1 + round((x - left) / (right - left) * (columns - 1)) - len(text) // 2
        start = max(gutter, min(start, len(line) - len(text)))
        if start > last_end + 1:
            line[start : start + len(text)] = text
            last_end = start + len(text)
    return "".join(line)


class _Grid:
    """Dots and the curve that last touched each cell."""

    def __init__(self, columns: int, rows: int, ascii_only: bool) -> None:
        self.columns, self.rows, self.ascii = columns, rows, ascii_only
        self.wide, self.tall = (1, 1) if ascii_only else (2, 4)
        self.bits = [[0] * columns for _ in range(rows)]
        self.owner = [[-1] * columns for _ in range(rows)]
        self.tones: list[str] = []
        self.signs: dict[tuple[int, int], tuple[str, str]] = {}  # by row and column: what stands in place of dots

    def trace(self, curve: Curve, index: int, frame: tuple[float, float, float, float]) -> None:
        """Draw a curve: within a dot column its extremes, between columns a straight line."""
        self.tones.append(curve.tone)
        before: tuple[int, int] | None = None
        for x, low, high, first, last, joined in self._columns(curve, frame):
            if before is not None and joined:
                self._line(before, (x, first), index)
            for y in range(low, high + 1):
                self._dot(x, y, index)
            before = (x, last)
        if before is not None and curve.mark:
            self._sign(before, curve)

    def _sign(self, end: tuple[int, int], curve: Curve) -> None:
        """Write the curve's mark where it ends, beside those that are there already."""
        row, column = end[1] // self.tall, end[0] // self.wide
        while (row, column) in self.signs and column > 0:
            column -= 1
        if 0 <= row < self.rows and 0 <= column < self.columns:
            self.signs[row, column] = (curve.mark[0], curve.tone)

    def _columns(
        self, curve: Curve, frame: tuple[float, float, float, float]
    ) -> Iterator[tuple[int, int, int, int, int, bool]]:
        """For each dot column: x, smallest and largest y, first and last y, whether it joins what was before."""
        left, right, low, high = frame
        x_scale = (self.columns * self.wide - 1) / (right - left)
        y_scale = (self.rows * self.tall - 1) / (high - low)
        now: list[int] | None = None  # x, min, max, first, last
        joined, gap = False, True
        for x, y in zip(curve.xs, curve.ys, strict=True):
            if not drawable(y):
                gap = True
                continue
            dot_x, dot_y = round((x - left) * x_scale), round((high - y) * y_scale)
            if now is not None and now[0] == dot_x and not gap:
                now[1], now[2], now[4] = min(now[1], dot_y), max(now[2], dot_y), dot_y
                continue
            if now is not None:
                yield now[0], now[1], now[2], now[3], now[4], joined
            now, joined, gap = [dot_x, dot_y, dot_y, dot_y, dot_y], not gap, False
        if now is not None:
            yield now[0], now[1], now[2], now[3], now[4], joined

    def _line(self, start: tuple[int, int], end: tuple[int, int], index: int) -> None:
        (x0, y0), (x1, y1) = start, end
        steps = max(abs(x1 - x0), abs(y1 - y0))
        for i in range(steps + 1):
            share = i / steps if steps else 0
            self._dot(round(x0 + (x1 - x0) * share), round(y0 + (y1 - y0) * share), index)

    def _dot(self, x: int, y: int, index: int) -> None:
        column, row = x // self.wide, y // self.tall
        if 0 <= column < self.columns and 0 <= row < self.rows:
            self.bits[row][column] |= 1 if self.ascii else _DOTS[y % 4][x % 2]
            self.owner[row][column] = index

    def runs(self, row: int) -> Iterator[Run]:
        """One line of cells, joined where the tone stays the same."""
        text, tone = "", ""
        for column, (bits, owner) in enumerate(zip(self.bits[row], self.owner[row], strict=True)):
            if sign := self.signs.get((row, column)):
                character = sign[0]
            elif self.ascii:
                character = _MARKS[owner % len(_MARKS)] if bits else " "
            else:
                character = chr(0x2800 + bits) if bits else " "
            this = sign[1] if sign else self.tones[owner] if bits else tone
            if this != tone and text:
                yield text, tone
                text = ""
            text, tone = text + character, this
        yield text, tone
