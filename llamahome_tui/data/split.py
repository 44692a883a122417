"""Which rows are held out: chosen by hash and seed; equal rows and rows of one group never stand on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from llamahome_tui.errors import DataError


def wanted_rows(setting: float | str, rows: int) -> int:
    """How many of `rows` to hold out. "auto": 2%, between 100 and 500, and of few rows at most a fifth.

    A value under 1 is a share, any other a number of rows. Raises DataError where nothing would be left to train on.
    """
    if setting == "auto":
        return min(max(round(rows * 0.02), 100), 500, rows // 5)
    share = float(setting)
    count = max(1, round(rows * share)) if 0 < share < 1 else int(share)
    if count and count >= rows:
        raise DataError(
            f"data.eval: {count} rows to hold out, and there are only {rows}",
            hint="leave data.eval out, or set it to a share: llamahome --batch train start SPEC --set data.eval=0.1",
        )
    return count


def hold_out(contents: Sequence[bytes], groups: Sequence[str], count: int, seed: int) -> list[int]:
    """About `count` row numbers, in order. `contents` are the rows' hashes, `groups` a value each or "" for none.

    Rows with one content or one group are one unit and stay together; a unit that would overshoot is passed over, so
    that the result never exceeds `count`. The same rows give the same choice, in whatever order they stand.
    """
    units = _units(contents, groups)
    keyed = sorted((_place(seed, [contents[row] for row in unit]), unit) for unit in units)
    chosen: list[int] = []
    for _, unit in keyed:
        if len(chosen) + len(unit) <= count:
            chosen += unit
        if len(chosen) == count:
            break
    return sorted(chosen)


def _place(seed: int, contents: list[bytes]) -> bytes:
    return hashlib.blake2b(min(contents), digest_size=16, key=seed.to_bytes(16, "big")).digest()


def _units(contents: Sequence[bytes], groups: Sequence[str]) -> list[list[int]]:
    """Row numbers joined where they share a content or a group (union-find)."""
    parent = list(range(len(contents)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    seen: dict[bytes | str, int] = {}
    for row, (content, group) in enumerate(zip(contents, groups, strict=True)):
        for key in (content, group) if group else (content,):
            first = seen.setdefault(key, row)
            if first != row:
                parent[root(row)] = root(first)
    units: dict[int, list[int]] = {}
    for row in range(len(contents)):
        units.setdefault(root(row), []).append(row)
    return list(units.values())
