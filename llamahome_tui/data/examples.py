"""Tokenised rows as the trainer reads them: flat files mapped into memory, each part checked before its first use.

A folder counts only once it was renamed into place (`data/writer.py`). What says where rows begin is checked when the
folder is opened; so are the tokens of a store of common size. What lies beyond is checked in parts of a million tokens
as it is read, so that opening a store of many gigabytes takes no longer than one of some hundred megabytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from llamahome_tui.errors import IntegrityError

LAYOUT = 2
PART = 1 << 20  # tokens that are checked together
_AT_ONCE = 64  # parts that are checked when a store is opened: 320 MiB

Kind = Literal["rows", "pairs", "labels"]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence: token ids, and a 1 in `mask` for each token that is learned."""

    ids: list[int]
    mask: list[int]


class Tokens:
    """The tokens of a store, one after the other. With `sums` a part is checked before it is first read."""

    def __init__(
        self,
        ids: NDArray[np.int32],
        mask: NDArray[np.uint8],
        sums: Sequence[int] = (),
        folder: Path | None = None,
        checked: int = 0,
    ) -> None:
        self._ids = ids
        self._mask = mask
        self._sums = sums
        self._folder = folder
        self._unchecked = bytearray(checked) + b"\1" * (len(sums) - checked)

    def read(self, start: int, end: int) -> Example:
        """The tokens [start, end). Raises IntegrityError where they are not those that were written."""
        if self._sums and end > start:
            for part in range(start // PART, (end - 1) // PART + 1):
                if self._unchecked[part]:
                    self._check(part)
        return Example(self._ids[start:end].tolist(), self._mask[start:end].tolist())

    def _check(self, part: int) -> None:
        span = slice(part * PART, (part + 1) * PART)
        if checksum(self._ids[span].data, self._mask[span].data) != self._sums[part]:
            raise self._damaged()
        self._unchecked[part] = 0

    def _damaged(self) -> IntegrityError:
        if self._folder is not None:
            with contextlib.suppress(OSError):
                (self._folder / "facts.json").unlink()  # so that nobody opens it again
        return IntegrityError(
            f"prepared data has changed on disk: {self._folder}",
            code="data.prepared_damaged",
            hint="it is made again at the next start: llamahome --batch runs resume latest",
        )


class Examples(Sequence[Example]):
    """Rows of a store, in a fixed order; each one is made when it is asked for. A row may stand in it twice."""

    def __init__(self, tokens: Tokens, arrays: dict[str, NDArray[Any]], rows: Numbers, width: int) -> None:
        self._tokens = tokens
        self._arrays = arrays
        self._rows = rows
        self._width = width

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Examples: ...
    def __getitem__(self, index: int | slice) -> Example | Examples:
        if isinstance(index, slice):
            return Examples(self._tokens, self._arrays, self._rows[index], self._width)
        return self.sequences(index)[0]

    def sequences(self, index: int) -> tuple[Example, ...]:
        """All sequences of a row: one, or two of a pair (chosen, rejected)."""
        first = int(self._rows[index]) * self._width
        edges = self._arrays["starts"][first : first + self._width + 1].tolist()
        return tuple(self._tokens.read(start, end) for start, end in pairwise(edges))

    @property
    def lengths(self) -> Numbers:
        """Tokens of each row; of a pair, those of both its sequences."""
        starts = self._arrays["starts"]
        lengths: Numbers = starts[(self._rows + 1) * self._width] - starts[self._rows * self._width]
        return lengths

    @property
    def longest(self) -> Numbers:
        """Tokens of each row's longest sequence."""
        longest: Numbers = np.diff(self._arrays["starts"]).reshape(-1, self._width).max(axis=1)[self._rows]
        return longest

    @property
    def trained(self) -> Numbers:
        """Learned tokens of each row."""
        trained: Numbers = self._arrays["trained"].reshape(-1, self._width).sum(axis=1, dtype=np.int64)[self._rows]
        return trained

    @property
    def tokens(self) -> int:
        """Tokens of all rows together."""
        return int(self.lengths.sum())

    @property
    def good(self) -> NDArray[np.bool_]:
        """The verdict on each row of a store of labels; of other kinds there is none, and the array is empty."""
        verdicts = self._arrays["good"]
        found: NDArray[np.bool_] = verdicts[self._rows].astype(np.bool_) if len(verdicts) else verdicts.astype(np.bool_)
        return found


@dataclass(frozen=True, slots=True)
class Store:
    """What was prepared: rows, which of them are for training and which for evaluation, and what is known of them."""

    train: Examples
    eval: Examples
    facts: dict[str, Any]

    @property
    def kind(self) -> Kind:
        """What a row is: a sequence, a pair of them, or one with a verdict."""
        kind: Kind = self.facts["kind"]
        return kind


def make_store(tokens: Tokens, arrays: dict[str, NDArray[Any]], facts: dict[str, Any]) -> Store:
    """A store of `tokens` and the arrays starts and trained (by sequence), good (by row), train and eval (rows)."""
    width = 2 if facts["kind"] == "pairs" else 1
    train, evaluation = (Examples(tokens, arrays, arrays[name], width) for name in ("train", "eval"))
    return Store(train, evaluation, facts)


def load(folder: Path) -> Store | None:
    """The store in `folder`, or None where there is none or its bytes are not those that were written."""
    try:
        facts = json.loads((folder / "facts.json").read_bytes())
        if facts["layout"] != LAYOUT:
            return None
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in facts["crc"]}
        whole = all(zlib.crc32(np.ascontiguousarray(arrays[name]).data) == crc for name, crc in facts["crc"].items())
        ids = _mapped(folder / "ids.bin", np.dtype(np.int32), facts["tokens"])
        mask = _mapped(folder / "mask.bin", np.dtype(np.uint8), facts["tokens"])
        first = facts["sums"][:_AT_ONCE]
        tokens = Tokens(ids, mask, facts["sums"], folder, len(first))
        whole = whole and _sums(folder, len(first)) == first
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not whole:
        return None
    with contextlib.suppress(OSError):
        os.utime(folder)  # the cache's cap takes what was not used for longest
    return make_store(tokens, arrays, facts)


def checksum(ids: memoryview | bytes, mask: memoryview | bytes) -> int:
    """The sum a part of a store goes by."""
    return zlib.crc32(mask, zlib.crc32(ids))


def _sums(folder: Path, parts: int) -> list[int]:
    """The sums of the first parts, read without mapping them: what is mapped counts as this process's memory."""
    with (folder / "ids.bin").open("rb") as ids, (folder / "mask.bin").open("rb") as mask:
        return [checksum(ids.read(4 * PART), mask.read(PART)) for _ in range(parts)]


def _mapped(path: Path, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    """A flat file as an array. Raises ValueError where it has not the size it should have."""
    if path.stat().st_size != count * dtype.itemsize:
        raise ValueError(f"{path} has the wrong size")
    return np.memmap(path, dtype, "r") if count else np.zeros(0, dtype)
