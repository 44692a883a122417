"""Small plain-text tables; cells are cleaned here, so no table can carry an escape sequence to a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from llamahome_tui.text import clean

_GAP = "  "


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


def _width(text: str) -> int:
    """Columns that the text takes on a terminal."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)
