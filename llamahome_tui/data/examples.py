"""Tokenised rows on disk: two flat files mapped into memory; a folder counts only once it was renamed into place."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import uuid
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from llamahome_tui.config.places import make_private

_CHUNK = 8 << 20
_STALE_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class Example:
    """One row: token ids, and a 1 in `mask` for each token that is learned."""

    ids: list[int]
    mask: list[int]


class Examples(Sequence[Example]):
    """Rows of a store, in a fixed order; each one is made when it is asked for."""

    def __init__(
        self, ids: NDArray[np.int32], mask: NDArray[np.uint8], starts: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> None:
        self._ids = ids
        self._mask = mask
        self._starts = starts
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Examples: ...
    def __getitem__(self, index: int | slice) -> Example | Examples:
        if isinstance(index, slice):
            return Examples(self._ids, self._mask, self._starts, self._rows[index])
        row = self._rows[index]
        start, end = self._starts[row], self._starts[row + 1]
        return Example(self._ids[start:end].tolist(), self._mask[start:end].tolist())

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row."""
        lengths: NDArray[np.int64] = np.diff(self._starts)[self._rows]
        return lengths

    @property
    def tokens(self) -> int:
        """Tokens of all rows together."""
        return int(self.lengths.sum())


@dataclass(frozen=True, slots=True)
class Store:
    """What was prepared: rows, which of them are for training and which for evaluation, and what is known of them."""

    train: Examples
    eval: Examples
    facts: dict[str, Any]


class Writer:
    """Collects tokenised rows, in a temporary folder beside the store's place or in memory.

    A full disk is no reason not to train: the rows move to memory and the store is not kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self.lost_disk = ""
        self._folder = folder
        self._lengths = array("q")
        self._ids = array("i")
        self._mask = bytearray()
        self._temporary: Path | None = None
        if folder is not None:
            self._temporary = folder.parent / f".{folder.name[:16]}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"

    def add(self, ids: Sequence[int], mask: bytes | bytearray) -> None:
        """One more row; its number is the count of those before it."""
        self._lengths.append(len(ids))
        self._ids.extend(array("i", ids))
        self._mask.extend(mask)

    def __len__(self) -> int:
        return len(self._lengths)

    def length(self, row: int) -> int:
        """Tokens of a row."""
        return self._lengths[row]

    def finish(self, train: Sequence[int], evaluation: Sequence[int], facts: dict[str, Any]) -> Store:
        """Keep the rows, publish them where a folder was given, and give them back."""
        arrays = self._arrays(train, evaluation)
        if self._folder is None or self._temporary is None:
            return _store(arrays, facts)
        try:
            make_private(self._folder.parent)
            _write(self._temporary, arrays, facts)
            if load(self._folder) is None:  # else somebody was first: theirs is the same
                shutil.rmtree(self._folder, ignore_errors=True)
                self._temporary.rename(self._folder)
            _sync(self._folder.parent)
        except OSError as error:
            self.lost_disk = error.strerror or str(error)
            return _store(arrays, facts)
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)
        return load(self._folder) or _store(arrays, facts)

    def _arrays(self, train: Sequence[int], evaluation: Sequence[int]) -> dict[str, NDArray[Any]]:
        lengths = np.frombuffer(self._lengths, dtype=np.int64) if self._lengths else np.zeros(0, np.int64)
        return {
            "ids": np.frombuffer(self._ids, dtype=np.int32) if self._ids else np.zeros(0, np.int32),
            "mask": np.frombuffer(self._mask, dtype=np.uint8) if self._mask else np.zeros(0, np.uint8),
            "starts": np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths))),
            "train": np.asarray(train, dtype=np.int64),
            "eval": np.asarray(evaluation, dtype=np.int64),
        }


def load(folder: Path) -> Store | None:
    """The store in `folder`, or None where there is none or its bytes are not those that were written."""
    try:
        facts = json.loads((folder / "facts.json").read_bytes())
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in facts["crc"]}
        whole = all(_crc(arrays[name]) == crc for name, crc in facts["crc"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not whole:
        return None
    with contextlib.suppress(OSError):
        os.utime(folder)  # the cache's cap takes what was not used for longest
    return _store(arrays, facts)


def sweep(parent: Path) -> None:
    """Remove what killed writers left behind, once it is a day old."""
    for left in parent.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_S:
                shutil.rmtree(left, ignore_errors=True)


def _store(arrays: dict[str, NDArray[Any]], facts: dict[str, Any]) -> Store:
    train, evaluation = (
        Examples(arrays["ids"], arrays["mask"], arrays["starts"], arrays[name]) for name in ("train", "eval")
    )
    return Store(train, evaluation, facts)


def _write(folder: Path, arrays: dict[str, NDArray[Any]], facts: dict[str, Any]) -> None:
    folder.mkdir(mode=0o700)
    for name, values in arrays.items():
        with (folder / f"{name}.npy").open("wb") as stream:
            np.save(stream, values, allow_pickle=False)
            stream.flush()
            os.fsync(stream.fileno())
    said = facts | {"crc": {name: _crc(values) for name, values in arrays.items()}}
    with (folder / "facts.json").open("w", encoding="utf-8") as stream:
        json.dump(said, stream)
        stream.flush()
        os.fsync(stream.fileno())
    _sync(folder)


def _crc(values: NDArray[Any]) -> int:
    flat = values.view(np.uint8)
    crc = 0
    for at in range(0, flat.size, _CHUNK):
        crc = zlib.crc32(flat[at : at + _CHUNK].tobytes(), crc)
    return crc


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
