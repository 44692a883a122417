"""The list of rows as it is painted: a line for each, what is known of its tokens, and a word for a bad one."""

from __future__ import annotations

from collections.abc import Mapping

from llamahome_tui.tui.screens.training.data_browser import Listing
from llamahome_tui.tui.screens.training.data_look import Count
from llamahome_tui.tui.screens.training.data_words import RowLine
from llamahome_tui.tui.widgets.columns import Column
from llamahome_tui.tui.widgets.long_list import Cells, LongList

_NARROW = 5  # cells for the number of a row; more where there are more rows
COLUMNS = (
    Column("Row", _NARROW, "right"),
    Column("Place", 16, rank=4),
    Column("Format", 10, rank=5),
    Column("Prompt", 24, grow=3),
    Column("Answer", 16, grow=2, rank=3),
    Column("Tokens", 6, "right", rank=1),
    Column("Learned", 7, "right", rank=2),
)


class RowList(LongList):
    """A LongList of rows."""

    def __init__(self, *, id: str) -> None:
        super().__init__(COLUMNS, empty=("reading ...",), id=id)

    def paint(self, listing: Listing, counts: Mapping[int, Count]) -> None:
        """Show what the browser knows, with these counts by row number."""
        wide = max(_NARROW, len(f"{listing.rows:,}"))
        if wide != self.columns[0].width:
            self.columns = (Column("Row", wide, "right"), *COLUMNS[1:])
            self.refresh()
        cells = {at: self._cells_of(line, counts.get(line.number)) for at, line in listing.lines.items()}
        searched = f" of {listing.searched:,} looked at" if listing.searched < listing.rows or not listing.done else ""
        said = f"{listing.count:,} rows{searched}" if listing.typed else ""
        self.show(listing.count, cells, said=said, growing=listing.busy)
        if listing.typed:
            self.explain("searching ..." if listing.busy else "nothing matches the filter; Esc clears it")
        elif listing.done and not listing.count:
            self.explain("there are no rows in it")

    def _cells_of(self, line: RowLine, count: Count | None) -> Cells:
        fault = line.fault or (count.fault if count is not None else "")
        place = ((f"{line.number + 1:,}", "dim"), (line.place, "dim"), (line.format, "dim"))
        if fault:
            return *place, (f"{'x' if self.ascii else '✗'} bad: {fault}", "bad")
        tokens, learned = (f"{count.tokens:,}", f"{count.learned:,}") if count is not None else ("", "")
        return *place, (line.prompt, ""), (line.answer, "dim"), (tokens, ""), (learned, "ok")
