"""Writes tokenised rows: appended to flat files beside their place, synced, and renamed into it when all is there.

The memory it takes does not grow with the tokens. A full disk is no reason not to train: what was written moves to
memory and nothing is kept. The folder of a writer that was killed is swept by the next one; a living one holds a lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
import uuid
import zlib
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from llamahome_tui.config.places import make_private
from llamahome_tui.data.examples import LAYOUT, PART, Kind, Numbers, Store, Tokens, checksum, load, make_store
from llamahome_tui.errors import IntegrityError

_STALE_S = 24 * 3600


class Writer:
    """Collects tokenised sequences for a folder, or in memory where none is given. Leave it, and nothing half stays."""

    def __init__(self, folder: Path | None) -> None:
        self.lost_disk = ""  # why rows are not kept on disk
        self._folder = folder
        self._open: _Folder | None = None
        self._ids = bytearray()  # of the part that is not full yet; in memory, of all parts
        self._mask = bytearray()
        self._sums: list[int] = []
        self._ends = array("q")
        self._trained = array("i")
        if folder is not None:
            try:
                self._open = _Folder(folder)
            except OSError as error:
                self._lose(error)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            self._open.remove()

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def tokens(self) -> int:
        """Tokens of all sequences so far."""
        return self._ends[-1] if self._ends else 0

    def add(self, ids: array[int], mask: bytes | bytearray) -> None:
        """One more sequence; its number is the count of those before it."""
        self._ends.append(self.tokens + len(ids))
        self._trained.append(mask.count(1))
        self._ids += memoryview(ids).cast("B")
        self._mask += mask
        while self._open is not None and len(self._mask) >= PART:
            self._flush(PART)

    def finish(
        self, kind: Kind, good: Sequence[int] | bytes, train: Numbers, evaluation: Numbers, facts: dict[str, Any]
    ) -> Store:
        """Keep the rows, publish them where a folder was given, and give them back. `train`, `evaluation`: rows."""
        arrays: dict[str, NDArray[Any]] = {
            "starts": np.concatenate((np.zeros(1, np.int64), np.frombuffer(self._ends, np.int64))),
            "trained": np.frombuffer(self._trained, np.int32),
            "good": np.frombuffer(bytes(good), np.uint8),
            "train": train,
            "eval": evaluation,
        }
        facts = facts | {"kind": kind, "layout": LAYOUT, "tokens": self.tokens}
        if self._open is not None and self._folder is not None and self._mask:
            self._flush(len(self._mask))
        if self._open is not None and self._folder is not None:
            try:
                self._open.finish(arrays, facts | {"sums": self._sums, "crc": _sums_of(arrays)})
                self._open.publish(self._folder)
            except OSError as error:
                self._lose(error)
            else:
                self._open = None
                if found := load(self._folder):
                    return found
                raise IntegrityError(
                    f"prepared data cannot be read back: {self._folder}",
                    code="data.prepared_damaged",
                    hint="look at the disk: llamahome --batch system doctor",
                )
        ids, mask = np.frombuffer(self._ids, np.int32), np.frombuffer(self._mask, np.uint8)
        return make_store(Tokens(ids, mask), arrays, facts)

    def _flush(self, tokens: int) -> None:
        """Move so many tokens to disk, or everything from there to memory."""
        assert self._open is not None
        ids, mask = bytes(self._ids[: 4 * tokens]), bytes(self._mask[:tokens])
        try:
            self._open.append(ids, mask)
        except OSError as error:
            self._lose(error)
            return
        self._sums.append(checksum(ids, mask))
        del self._ids[: 4 * tokens], self._mask[:tokens]

    def _lose(self, error: OSError) -> None:
        self.lost_disk = error.strerror or str(error)
        if self._open is None:
            return
        written = self.tokens - len(self._mask)
        ids, mask = self._open.read_back(written)
        self._open.remove()
        self._open = None
        self._ids[:0] = ids
        self._mask[:0] = mask


class _Folder:
    """The temporary folder of a writer, locked while it lives."""

    def __init__(self, place: Path) -> None:
        make_private(place.parent)
        name = f".{place.name[:16]}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        new, self.path = place.parent / f"{name}.new", place.parent / f"{name}.tmp"
        new.mkdir(mode=0o700)
        self._lock = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._files: list[BinaryIO] = []
        try:
            with contextlib.suppress(OSError):  # a file system without locks: then age tells what is left over
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            new.rename(self.path)  # only now it is swept when nobody holds its lock
            self._files = [(self.path / name).open("w+b", buffering=0) for name in ("ids.bin", "mask.bin")]
        except OSError:
            shutil.rmtree(new, ignore_errors=True)
            self.remove()
            raise

    def append(self, ids: bytes, mask: bytes) -> None:
        """Write tokens behind the others."""
        for stream, raw in zip(self._files, (ids, mask), strict=True):
            rest = memoryview(raw)
            while rest:
                rest = rest[stream.write(rest) :]

    def read_back(self, tokens: int) -> tuple[bytes, bytes]:
        """The first tokens that were written."""
        ids, mask = self._files
        ids.seek(0)
        mask.seek(0)
        return ids.read(4 * tokens), mask.read(tokens)

    def finish(self, arrays: dict[str, NDArray[Any]], facts: dict[str, Any]) -> None:
        """Write what goes beside the tokens, and see that all of it is on disk."""
        for stream in self._files:
            os.fsync(stream.fileno())
        for name, values in arrays.items():
            with (self.path / f"{name}.npy").open("wb") as stream:
                np.save(stream, values, allow_pickle=False)
                stream.flush()
                os.fsync(stream.fileno())
        with (self.path / "facts.json").open("w", encoding="utf-8") as text:
            json.dump(facts, text)
            text.flush()
            os.fsync(text.fileno())
        os.fsync(self._lock)

    def publish(self, place: Path) -> None:
        """Rename the folder into its place; where another writer was first, theirs is the same and stays."""
        try:
            self.path.rename(place)  # fails where a folder stands that is not empty, so nobody's is lost
        except OSError:
            if load(place) is None:
                harmed = self.path.with_suffix(".old.tmp")
                place.rename(harmed)
                self.path.rename(place)
                _remove(harmed)
        parent = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
        self.remove()

    def remove(self) -> None:
        """Close everything, and remove the folder if it still has its temporary name."""
        for stream in self._files:
            stream.close()
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.close(self._lock)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sweep(parent: Path) -> None:
    """Remove what killed writers left behind: folders whose lock nobody holds; where locks do not work, a day old."""
    for left in [*parent.glob(".*.tmp"), *parent.glob(".*.new")]:
        with contextlib.suppress(OSError):
            old = time.time() - left.stat().st_mtime > _STALE_S
            if _unheld(left, unknown=old) and (old or left.suffix == ".tmp"):
                shutil.rmtree(left, ignore_errors=True)


def _unheld(folder: Path, *, unknown: bool) -> bool:
    """Whether the writer of a folder is gone; `unknown` where that cannot be told."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return unknown
    finally:
        os.close(descriptor)
    return True


def _sums_of(arrays: dict[str, NDArray[Any]]) -> dict[str, int]:
    return {name: zlib.crc32(np.ascontiguousarray(values).data) for name, values in arrays.items()}
