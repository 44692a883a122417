"""The append-only journals of a job; one process writes a journal, and what it has acknowledged is never lost."""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

from llamahome_tui.jobs.reader import JournalReader, head, last_seq, read, tail, tail_offset
from llamahome_tui.jobs.records import MAX_LINE, VERSION, Record, encode, parse

__all__ = [
    "MAX_LINE",
    "VERSION",
    "JournalReader",
    "JournalWriter",
    "Record",
    "head",
    "last_seq",
    "parse",
    "read",
    "tail",
    "tail_offset",
]

_SYNC_EVERY: Final = 1.0  # seconds between two fdatasync of ordinary records
_RETRY_EVERY: Final = 0.25  # seconds between two tries on a disk that refused a write
_BACKLOG: Final = 20_000  # records kept in memory while the disk refuses them
_REFUSED: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS, errno.ESTALE})
# What says how a run lived and died is kept in the backlog even when measurements must go.
_LIFECYCLE: Final = frozenset(
    {"start", "checkpoint", "control", "error", "end", "artifact", "spawn", "exit", "retry", "adopt"}
)


class JournalWriter:
    """Appends records to one journal. Only the holder of the job's lock may have one.

    The record goes to the file first, in one write(); then a copy of the line goes to `pipe_fd`, which only wakes
    the supervisor and may lose it. A disk that refuses a write never raises out of training: records wait in memory
    (`behind`), the oldest measurements are given up first (`lost`), and writing goes on when there is room again.
    """

    def __init__(self, path: Path, pipe_fd: int | None = None) -> None:
        self.path = path
        self.lost = 0
        self._pipe = pipe_fd
        if pipe_fd is not None:
            os.set_blocking(pipe_fd, False)
            os.set_inheritable(pipe_fd, False)
        self._fd = _open(path)
        self._backlog: deque[Record] = deque()
        self._next_try = 0.0
        self._refused_since: float | None = None
        self._dirty = False
        self._synced = time.monotonic()
        self._size = os.fstat(self._fd).st_size
        self._torn = self._size > 0 and os.pread(self._fd, 1, self._size - 1) != b"\n"
        self._heal()
        self.seq = last_seq(path)
        """Sequence number of the newest record that is in the file."""

    @property
    def behind(self) -> int:
        """How many records wait for a disk that refused them."""
        return len(self._backlog)

    def append(self, type: str, *, sync: bool = False, **fields: Any) -> Record:
        """Write one record and give it back as it stands in the journal; with `sync` it is on the disk after this."""
        now = time.monotonic()
        due = sync or now - self._synced >= _SYNC_EVERY
        if due and not self._still_there():
            self._begin_anew(now)
        waits = self._refused_since is not None and not self._drain(now, force=sync)
        record: Record = {"v": VERSION, "seq": self.seq + 1, "t": time.time(), "mono": now, "type": type, **fields}
        if waits or not self._write(record):
            self._keep(record)
        if self._dirty and due:
            self.sync()
        return record

    def settle(self) -> None:
        """Call when idle: syncs what is older than a second and retries what the disk refused."""
        now = time.monotonic()
        self._drain(now)
        if self._dirty and now - self._synced >= _SYNC_EVERY:
            self.sync()

    def sync(self) -> None:
        """Bring everything written so far to the disk."""
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            if error.errno not in _REFUSED and error.errno != errno.EINVAL:
                raise
        else:
            self._dirty = False
        self._synced = time.monotonic()

    def close(self, timeout: float = 0.0) -> bool:
        """Sync and close; waits up to `timeout` seconds for a full disk. False when records had to be given up."""
        deadline = time.monotonic() + timeout
        while not (whole := self._drain(time.monotonic(), force=True)) and time.monotonic() < deadline:
            time.sleep(_RETRY_EVERY)
        self.sync()
        os.close(self._fd)
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None
        return whole

    def _still_there(self) -> bool:
        try:
            there = self.path.stat(follow_symlinks=False)
        except OSError:
            return False
        mine = os.fstat(self._fd)
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)

    def _begin_anew(self, now: float) -> None:
        """Somebody has deleted or replaced the file: what comes must not go where nobody can read it."""
        try:
            fd = _open(self.path)
        except OSError:
            return  # the old file is as good as any
        os.close(self._fd)
        self._fd = fd
        self._size = os.fstat(fd).st_size
        self._torn = self._size > 0 and os.pread(fd, 1, self._size - 1) != b"\n"
        self._synced = now
        self.append(
            "warning", what="journal_replaced", message="the journal was deleted or replaced while it was written"
        )

    def _write(self, record: Record) -> bool:
        line = encode(record)
        if self._torn and not self._heal():
            self._refuse(0)
            return False
        try:
            written = os.write(self._fd, line)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            written = 0
        if written != len(line):
            self._refuse(written)
            return False
        self._size += written
        self._dirty = True
        self.seq = record["seq"]
        if self._pipe is not None:
            self._copy(line)
        return True

    def _copy(self, line: bytes) -> None:
        try:
            os.write(self._pipe, line)  # type: ignore[arg-type]  # the caller has looked
        except BlockingIOError:
            pass
        except BrokenPipeError:
            os.close(self._pipe)  # type: ignore[arg-type]  # still open: only here and in close() is it dropped
            self._pipe = None

    def _refuse(self, written: int) -> None:
        now = time.monotonic()
        if self._refused_since is None:
            self._refused_since = now
        self._next_try = now + _RETRY_EVERY
        if written:
            # This process is the only writer and nobody was told of the record: take the half line back.
            try:
                os.ftruncate(self._fd, self._size)
            except OSError:
                self._torn = True

    def _heal(self) -> bool:
        """End an unterminated tail, so that it spoils no record but itself."""
        if not self._torn:
            return True
        try:
            self._torn = os.write(self._fd, b"\n") != 1
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
        self._size = os.fstat(self._fd).st_size
        return not self._torn

    def _keep(self, record: Record) -> None:
        self._backlog.append(record)
        record["seq"] = self.seq + len(self._backlog)
        if len(self._backlog) > _BACKLOG:
            for index, waiting in enumerate(self._backlog):
                if waiting["type"] not in _LIFECYCLE:
                    del self._backlog[index]
                    self.lost += 1
                    break

    def _drain(self, now: float, force: bool = False) -> bool:
        """Write what waits and then, once all of it is there, how long that took and how much was given up.

        False while the disk refuses.
        """
        if self._refused_since is None:
            return True
        if now < self._next_try and not force:
            return False
        while self._backlog:
            # Numbered when written, so that what was given up leaves no gap.
            oldest = self._backlog[0]
            oldest["seq"] = self.seq + 1
            if not self._write(oldest):
                return False
            self._backlog.popleft()
        since = self._refused_since
        told: Record = {"v": VERSION, "seq": self.seq + 1, "t": time.time(), "mono": now, "type": "warning"}
        told |= {"what": "disk_full", "message": "the disk refused the journal for a while"}
        if not self._write(told | {"seconds": round(now - since, 3), "lost": self.lost}):
            return False
        self._refused_since = None
        return True


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
