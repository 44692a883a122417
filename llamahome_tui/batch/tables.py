"""Small plain-text tables; cells are cleaned here, so no table can carry an escape sequence to a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from llamahome_tui.text import clean

_GAP = "  "
_WIDEST = 100  # columns that bars take at most


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], right: str = "") -> Iterator[str]:
    """The lines of a table. `right` names the heads whose columns are aligned right, as "SIZE AGE"."""
    cells = [[clean(str(cell), limit=200) for cell in row] for row in rows]
    widths = [max([_width(head), *(_width(row[i]) for row in cells)]) for i, head in enumerate(heads)]
    to_right = [head in right.split(" ") for head in heads]
    for row in [[clean(head, limit=200) for head in heads], *cells]:
        padded = (
            " " * (widths[i] - _width(cell)) + cell if to_right[i] else cell + " " * (widths[i] - _width(cell))
            for i, cell in enumerate(row)
        )
        yield _GAP.join(padded).rstrip()


def fields(pairs: Iterable[tuple[str, object]]) -> Iterator[str]:
    """Names and values under each other; empty values are left out."""
    shown = [
        (clean(name, limit=200), clean(str(value), limit=2000))
        for name, value in pairs
        if value not in (None, "", [], {}, ())
    ]
    width = max((_width(name) for name, _ in shown), default=0)
    for name, value in shown:
        yield f"{name}{' ' * (width - _width(name))}  {value}"


def bars(counts: Sequence[tuple[str, int]], columns: int, *, symbols: bool = True) -> Iterator[str]:
    """A horizontal bar for each count, the largest as long as `columns` allow; a count over 0 always shows."""
    if not counts:
        return
    names = [clean(name, limit=200) for name, _ in counts]
    numbers = [f"{count:,}" for _, count in counts]
    left, right = max(map(_width, names)), max(map(len, numbers))
    most = max(count for _, count in counts)
    room = max(8, min(columns, _WIDEST) - left - right - 2 * len(_GAP))
    for name, number, (_, count) in zip(names, numbers, counts, strict=True):
        eighths = max(1 if count else 0, round(8 * room * count / most)) if most else 0
        if symbols:
            bar = "\u2588" * (eighths // 8) + ("", *"\u258f\u258e\u258d\u258c\u258b\u258a\u2589")[eighths % 8]
        else:
            bar = "#" * -(-eighths // 8)
        yield f"{' ' * (left - _width(name))}{name}{_GAP}{number:>{right}}{_GAP}{bar}".rstrip()


def _width(text: str) -> int:
    """Columns that the text takes on a terminal."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)
