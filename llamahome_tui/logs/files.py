"""The four log files: one line is one write, rotation is safe among processes, and no log makes an operation fail."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llamahome_tui.config.places import make_private
from llamahome_tui.units import utc

if TYPE_CHECKING:
    from llamahome_tui.config.settings import Settings

ERROR = "app/error.log"
ACCESS = "app/access.log"
TRAINING = "models/training.log"
PERFORMANCE = "system/performance.log"
NAMES = (ERROR, ACCESS, TRAINING, PERFORMANCE)

LEVELS = ("debug", "info", "warning", "error")
LONGEST_ENTRY = 256 * 1024  # bytes; a traceback fits, a runaway message does not fill the disk


@dataclass(frozen=True, slots=True)
class Limits:
    """When a log is rotated, how many old ones stay, and what is too quiet to be written."""

    rotate_bytes: int = 10 * 1024 * 1024
    keep: int = 5
    level: str = "info"
    tracebacks: bool = False  # whole call stacks in error.log, not only from where a fault was caught

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """The limits that the settings ask for."""
        return cls(
            settings.logs.rotate_mib * 1024 * 1024, settings.logs.keep, settings.logs.level, settings.logs.tracebacks
        )


def write(logs: Path, name: str, level: str, text: str, limits: Limits | None = None) -> None:
    """Append `text` to the log `name` (one of NAMES) under the folder `logs`, with time and level in front, redacted.

    Safe from many processes at once. A log that cannot be written is passed over: what it reports matters more.
    """
    limits = limits or Limits()
    if LEVELS.index(level) < LEVELS.index(limits.level):
        return
    from llamahome_tui.config.secrets import redact

    entry = redact(f"{utc(time.time())} {level.upper():<7} {text.rstrip()}").encode("utf-8", "backslashreplace")
    append(logs / name, entry[: LONGEST_ENTRY - 1] + b"\n", limits)


def append(path: Path, entry: bytes, limits: Limits) -> None:
    """Write one whole entry to the end of `path`; a file that would grow too large is rotated first."""
    with contextlib.suppress(OSError):
        handle = _open(path)
        try:
            size = os.fstat(handle).st_size
            if size > 0 and size + len(entry) > limits.rotate_bytes:
                _rotate(path, size, limits)
                os.close(handle)
                handle = _open(path)
            if stat.S_ISREG(os.fstat(handle).st_mode):
                os.write(handle, entry)
        finally:
            os.close(handle)


def _open(path: Path) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        make_private(path.parent)
        return os.open(path, flags, 0o600)


def _rotate(path: Path, full: int, limits: Limits) -> None:
    """Move error.log to error.log.1 and so on. A writer that still has the old file open loses nothing.

    `full` is the size that was too large: a smaller file, or none, means that another process was first.
    """
    lock = os.open(path.parent / ".rotate", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if path.stat().st_size < full:
                return
        except FileNotFoundError:
            return  # rotated, and nobody has written since
        old = sorted((n for n in (_number(p, path) for p in path.parent.iterdir()) if n), reverse=True)
        for number in old:
            source = path.with_name(f"{path.name}.{number}")
            if number >= limits.keep:
                source.unlink()
            else:
                source.rename(path.with_name(f"{path.name}.{number + 1}"))
        if limits.keep:
            path.rename(path.with_name(f"{path.name}.1"))
        else:
            path.unlink()
    finally:
        os.close(lock)


def _number(candidate: Path, path: Path) -> int:
    suffix = candidate.name.removeprefix(path.name + ".")
    return int(suffix) if suffix != candidate.name and suffix.isdecimal() else 0
