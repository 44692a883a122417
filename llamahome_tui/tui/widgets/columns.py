"""Columns: how the cells of a list share its width; who may be dropped when there is too little of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `width` is in cells; `grow` > 0 shares what is left; `rank` > 0 may be dropped, the highest first."""

    title: str
    width: int
    align: Literal["left", "right"] = "left"
    grow: int = 0
    rank: int = 0
    sortable: bool = True


def widths(columns: Sequence[Column], width: int) -> list[int]:
    """Cells for each column, 0 for one that is dropped; two cells left for the mark and two between columns."""
    shown = list(range(len(columns)))
    while True:
        need = 2 + sum(columns[i].width + 2 for i in shown) - 2
        droppable = [i for i in shown if columns[i].rank]
        if need <= width or not droppable:
            break
        shown.remove(max(droppable, key=lambda i: columns[i].rank))
    found = [columns[i].width if i in shown else 0 for i in range(len(columns))]
    spare = width - need
    grow = sum(columns[i].grow for i in shown)
    if spare > 0 and grow:
        for i in shown:
            found[i] += spare * columns[i].grow // grow
    elif spare < 0:
        for i in sorted(shown, key=lambda i: -found[i]):
            cut = min(-spare, max(0, found[i] - 4))
            found[i] -= cut
            spare += cut
    return found


def fitted(
    cells: Iterable[tuple[str, Style]], columns: Sequence[Column], width: int, base: Style, *, ascii_only: bool
) -> list[Segment]:
    """The cells of one line side by side; a text that is too long ends in an ellipsis.

    Where there are fewer cells than columns, the last one has the room of those that are missing.
    """
    given = list(cells)
    rooms = widths(columns, width)
    rest = sum(room + 2 for room in rooms[len(given) :] if room)
    rooms = rooms[: len(given)]
    if rooms:
        rooms[-1] += rest if rooms[-1] else max(0, rest - 2)
    segments: list[Segment] = []
    for (text, style), room, column in zip(given, rooms, columns, strict=False):
        if not room:
            continue
        if cell_len(text) > room:
            text = set_cell_size(text, max(0, room - 1)) + ("~" if ascii_only else "…")
        gap = " " * (room - cell_len(text))
        segments.append(Segment(gap + text if column.align == "right" else text + gap, style))
        segments.append(Segment("  ", base))
    return segments[:-1]
