"""POSIX record locks that say who is alive; a process never opens and closes a lock file that it holds."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
import time
from functools import lru_cache
from pathlib import Path
from typing import Final

# struct flock of Linux on 64-bit machines: type, whence, start, length, pid (with the C alignment).
_FLOCK: Final = "hhqqi4x"
_POLL: Final = 0.01  # seconds between two tries of a blocking acquire

# A POSIX lock belongs to the process: any close of the file, by any thread, drops it. What this process holds is
# therefore known to the process, and no thread opens a lock file while another takes one.
_held: dict[str, RecordLock] = {}
_guard = threading.Lock()


def _forget_after_fork() -> None:
    """A fork inherits no record lock. Its copies of the descriptors are harmless: locks go by process."""
    global _guard
    _guard = threading.Lock()
    _held.clear()


os.register_at_fork(after_in_child=_forget_after_fork)


class RecordLock:
    """An exclusive lock on one file. It goes with the process, however that ends, and with nothing else."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None
        self._pid = 0

    @property
    def held(self) -> bool:
        """Whether this very object, in this process, has the lock."""
        return self._fd is not None and self._pid == os.getpid()

    def acquire(self, blocking: bool = False, timeout: float | None = None) -> bool:
        """Take the lock; False when another has it, when blocking after `timeout` seconds. OSError when it can't be."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._try():
            if not blocking or (deadline is not None and time.monotonic() >= deadline):
                return False
            time.sleep(_POLL)
        return True

    def _try(self) -> bool:
        key = _key(self.path)
        with _guard:
            if key in _held:
                return False  # another part of this process; opening the file would already be too much
            try:
                fd = _open(self.path)
            except PermissionError:
                if _listed(self.path):
                    return False
                _clear_away(self.path)
                fd = _open(self.path)
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not _stands_at(fd, self.path):  # cleared away meanwhile: nobody else would ever see this lock
                    os.close(fd)
                    return False
            except (BlockingIOError, PermissionError):
                os.close(fd)
                return False
            except BaseException:
                os.close(fd)
                raise
            self._fd, self._pid = fd, os.getpid()
            _held[key] = self
            return True

    def release(self) -> None:
        """Give the lock back; without effect when it is not held here."""
        with _guard:
            if self._fd is None or self._pid != os.getpid():
                return
            _held.pop(_key(self.path), None)
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> RecordLock:
        self.acquire(blocking=True)
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release()


def holder(path: Path) -> int | None:
    """Pid of the process that holds the lock, None when nobody does, 0 when this process cannot see who.

    Inside the holder it answers without touching the file. Who it is cannot be seen from another pid namespace, nor
    where the file may not be opened because another user made it.
    """
    with _guard:
        if _held and _key(path) in _held:
            return os.getpid()
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except PermissionError:
            return 0 if _listed(path) else None
        try:
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _whence, _start, _length, pid = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, asked))
        finally:
            os.close(fd)
    return None if kind == fcntl.F_UNLCK else max(0, pid)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _stands_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False


def _listed(path: Path) -> bool:
    """Whether somebody holds the lock, as the kernel's table says: that needs no right to open the file."""
    try:
        file = path.stat(follow_symlinks=False)
        table = Path("/proc/locks").read_text(encoding="ascii")
    except FileNotFoundError:
        return False
    place = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    return any(place in words and "POSIX" in words for words in map(str.split, table.splitlines()))


def _clear_away(path: Path) -> None:
    """Take a lock file that nobody holds, and another user has left (sudo), out of a folder of one's own.

    Raises PermissionError where file or folder are not like that.
    """
    mine = os.geteuid()
    if path.parent.stat().st_uid != mine or path.stat(follow_symlinks=False).st_uid == mine:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    path.unlink(missing_ok=True)


def _key(path: Path) -> str:
    # The file itself is never a link (O_NOFOLLOW), and its folder is one of very few.
    return os.path.join(_real_folder(os.fspath(path.parent)), path.name)  # noqa: PTH118 (for each run of a list)


@lru_cache(maxsize=64)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)
