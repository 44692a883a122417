"""Which rows are held out: chosen by hash and seed; equal rows and rows of one group never stand on both sides.

Contents are 16 bytes of hash a row and groups 8, in arrays, so that a million rows take seconds and not gigabytes.
"""

from __future__ import annotations

import hashlib
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llamahome_tui.errors import DataError

Numbers: TypeAlias = NDArray[np.int64]
Hashes: TypeAlias = NDArray[np.uint64]
CONTENT_BYTES = 16


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


def group_hash(group: str) -> int:
    """The number a group goes by; 0 for none."""
    return int.from_bytes(hashlib.blake2b(group.encode(), digest_size=8).digest(), "little") | 1 if group else 0


def hashes_of(contents: bytes | bytearray) -> Hashes:
    """The contents of all rows, one after the other, as two numbers each; they sort as the bytes do."""
    return np.frombuffer(contents, dtype=">u8").reshape(-1, 2).astype(np.uint64)


def classes(contents: Hashes) -> Numbers:
    """A number for each row, the same for equal rows: 0, 1, 2 and so on."""
    order = np.lexsort((contents[:, 1], contents[:, 0]))
    found = np.empty(len(contents), np.int64)
    found[order] = np.cumsum(_changes(contents[order]))
    return found


def units(contents: Hashes, groups: Hashes | None) -> Numbers:
    """A number for each row, the same for rows that must not stand on two sides: of one content or one group."""
    return classes(contents) if groups is None else _units(classes(contents), groups)


def hold_out(contents: Hashes, groups: Hashes | None, count: int, seed: int) -> Numbers:
    """About `count` row numbers, in order. `groups` has a number for each row, 0 for none.

    Rows with one content or one group are one unit and stay together; a unit that would overshoot is passed over, so
    that the result never exceeds `count`. The same rows give the same choice, in whatever order they stand.
    """
    named = units(contents, groups)
    order = np.lexsort((contents[:, 1], contents[:, 0], named))
    firsts = np.flatnonzero(_changes(named[order][:, None], first=1))
    sizes = np.diff(np.append(firsts, len(order)))
    chosen: list[int] = []
    held = 0
    for unit in np.lexsort(_places(contents[order[firsts]], seed).T[::-1]).tolist():
        size = int(sizes[unit])
        if held + size <= count:
            chosen.append(unit)
            held += size
        if held == count:
            break
    rows = [order[firsts[unit] : firsts[unit] + sizes[unit]] for unit in chosen]
    return np.sort(np.concatenate(rows)) if rows else np.zeros(0, np.int64)


def pick(contents: Hashes, count: int, seed: int) -> Numbers:
    """`count` of the rows, in order: by seed and content, so that the same are taken in whatever order they stand."""
    return np.sort(np.lexsort(_places(contents, seed).T[::-1])[:count])


def _places(contents: Hashes, seed: int) -> Hashes:
    """Where each row stands in the order of a seed."""
    key = seed.to_bytes(16, "big")
    raw = contents.astype(">u8").tobytes()
    placed = bytearray()
    for at in range(0, len(raw), CONTENT_BYTES):
        placed += hashlib.blake2b(raw[at : at + CONTENT_BYTES], digest_size=16, key=key).digest()
    return hashes_of(placed)


def _changes(rows: NDArray[np.generic], first: int = 0) -> NDArray[np.bool_]:
    """Whether each row differs from the one before it; `first` is said of the first."""
    changed = np.empty(len(rows), np.bool_)
    changed[:1] = first
    changed[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    return changed


def _units(contents: Numbers, groups: Hashes) -> Numbers:
    """A number for each row, the same for rows that a chain of equal contents and equal groups joins."""
    grouped = np.flatnonzero(groups)
    if not len(grouped):
        return contents
    names, group = np.unique(groups[grouped], return_inverse=True)
    content = contents[grouped]
    order = np.lexsort((group, content))
    content, group = content[order], group[order]
    # Two groups that share a content are one; that is rare, and only those pairs are looked at one by one.
    shared = np.flatnonzero((content[1:] == content[:-1]) & (group[1:] != group[:-1]))
    parent = list(range(len(names)))

    def root(one: int) -> int:
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        return one

    for one, other in zip(group[shared].tolist(), group[shared + 1].tolist(), strict=True):
        parent[root(one)] = root(other)
    roots = np.array([root(one) for one in range(len(names))], np.int64)
    found = np.arange(int(contents.max()) + 1, dtype=np.int64) + len(names)  # of contents that are in no group
    found[content] = roots[group]
    return found[contents]
