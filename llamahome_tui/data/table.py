"""What is remembered of each row while its tokens go to disk: some forty bytes, in arrays, whatever its length.

Which rows are held out, dropped or repeated is decided on this table alone.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from llamahome_tui.data.encode import Encoded
from llamahome_tui.data.split import Hashes, Numbers, group_hash, hashes_of, hold_out, pick, units, wanted_rows
from llamahome_tui.errors import DataError


class RowTable:
    """All rows of one preparation, in the order they were read; rows have numbers from 0."""

    def __init__(self, *, grouped: bool) -> None:
        self.good = bytearray()  # verdicts, one for each piece; of other kinds of rows there are none
        self.longest = 0  # tokens of the longest piece that is kept
        self._contents = bytearray()
        self._groups = array("Q") if grouped else None
        self._lines = array("Q")
        self._lengths = array("I")
        self._pieces = array("I")
        self._files: list[str] = []
        self._first_rows: list[int] = []  # of each file

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def contents(self) -> Hashes:
        """The hash of each row's text."""
        return hashes_of(self._contents)

    @property
    def lengths(self) -> Numbers:
        """Tokens of each row as it was read; of a pair its longer side counts."""
        return np.frombuffer(self._lengths, np.uint32).astype(np.int64) if self._lengths else np.zeros(0, np.int64)

    def add(self, row: Encoded, pieces: Sequence[int]) -> None:
        """One more row, and the tokens of what is kept of it."""
        if not self._files or self._files[-1] != row.file:
            self._files.append(row.file)
            self._first_rows.append(len(self))
        self._contents += row.content
        if self._groups is not None:
            self._groups.append(group_hash(row.group))
        self._lines.append(row.line)
        self._lengths.append(max(len(one.ids) for one in row.sequences))
        self._pieces.append(len(pieces))
        self.longest = max(self.longest, *pieces, 0)
        if row.good is not None:
            self.good += bytes([row.good]) * len(pieces)

    def sides(self, setting: float | str, eval_file: str, seed: int) -> tuple[Numbers, Numbers, int]:
        """Rows for training, rows for evaluation, and how many are not trained on because of the eval file.

        Those are the rows that also stand in it, or are of a group of it.

        `setting` is `data.eval`, and counts where there is no file. Raises DataError where no row can be held out.
        """
        contents = hashes_of(self._contents)
        groups: Hashes | None = np.frombuffer(self._groups, np.uint64) if self._groups else None
        if eval_file:
            first = self._first_rows[self._files.index(eval_file)] if eval_file in self._files else len(self)
            named = units(contents, groups)
            seen = np.zeros(int(named.max(initial=0)) + 1, np.bool_)
            seen[named[first:]] = True
            train = np.flatnonzero(~seen[named[:first]])
            return train, np.arange(first, len(self)), first - len(train)
        count = wanted_rows(setting, len(self))
        held = hold_out(contents, groups, count, seed) if count else np.zeros(0, np.int64)
        if count and not len(held):
            raise DataError(
                "no rows can be held out: equal rows, and rows of one group, stay together, and there are more of each "
                f"than the {count} wanted",
                hint="name a file of held-out rows: llamahome --batch train start SPEC --set data.eval=FILE",
            )
        kept = np.ones(len(self), np.bool_)
        kept[held] = False
        return np.flatnonzero(kept), held, 0

    def longer_than(self, limit: int, rows: Numbers) -> Numbers:
        """Those of `rows` that have more tokens than `limit`."""
        return rows[np.frombuffer(self._lengths, np.uint32)[rows] > min(limit, 2**32 - 1)]

    def places(self, rows: Numbers, most: int) -> Iterator[tuple[str, int, int]]:
        """File, line and tokens of the first `most` of `rows`."""
        for row in rows[:most].tolist():
            yield self._files[bisect_right(self._first_rows, row) - 1], self._lines[row], self._lengths[row]

    def lost(self, sides: Iterable[Numbers], limit: int | None) -> tuple[int, int]:
        """How many rows are kept nothing of: those longer than `limit` (None: none is), and all others."""
        nothing = [rows[np.frombuffer(self._pieces, np.uint32)[rows] == 0] for rows in sides]
        long = sum(len(self.longer_than(limit, rows)) for rows in nothing) if limit is not None else 0
        return long, sum(map(len, nothing)) - long

    def kept(self, rows: Numbers) -> Numbers:
        """Those of `rows` something is kept of."""
        return rows[np.frombuffer(self._pieces, np.uint32)[rows] > 0]

    def weighted(self, rows: Numbers, weights: Mapping[str, float], seed: int) -> Numbers:
        """Rows as often as their file counts: the whole part of a weight each, and of the rest a share of the rows.

        That share is chosen by seed and content, as held-out rows are.
        """
        if all(weight == 1 for weight in weights.values()):
            return rows
        contents = hashes_of(self._contents)
        names = np.searchsorted(self._first_rows, rows, "right") - 1
        times = np.zeros(len(rows), np.int64)
        for weight in sorted(set(weights.values())):
            counted = [at for at, name in enumerate(self._files) if weights.get(name, 1.0) == weight]
            here = np.flatnonzero(np.isin(names, counted))
            times[here] = int(weight)
            more = pick(contents[rows[here]], round(len(here) * (weight - int(weight))), seed)
            times[here[more]] += 1
        return np.repeat(rows, times)

    def pieces(self, rows: Numbers) -> Numbers:
        """The numbers of what is kept of `rows`, in their order."""
        counts = np.frombuffer(self._pieces, np.uint32).astype(np.int64)
        firsts = np.cumsum(counts) - counts
        counts, firsts = counts[rows], firsts[rows]
        ends = np.cumsum(counts)
        total = int(ends[-1]) if len(ends) else 0
        return np.arange(total) + np.repeat(firsts - ends + counts, counts)
