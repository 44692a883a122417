"""Which process is meant, beyond doubt; a signal goes only to the process that still holds the job's lock."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from llamahome_tui.errors import LlamaHomeError
from llamahome_tui.jobs.locks import holder


@dataclass(frozen=True, slots=True)
class Identity:
    """A process, for all time: pids are given out again, this is not.

    `start_ticks` is the kernel's start time of the process (clock ticks since boot), `pidns` its pid namespace.
    """

    host: str
    boot_id: str
    pid: int
    start_ticks: int
    pidns: str

    @classmethod
    def mine(cls) -> Identity:
        """The calling process."""
        return cls(os.uname().nodename, boot_id(), os.getpid(), start_ticks(os.getpid()) or 0, pid_namespace())

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """The process that has this pid now, None when none has (a zombie is none)."""
        ticks = start_ticks(pid)
        return None if ticks is None else cls(os.uname().nodename, boot_id(), pid, ticks, pid_namespace())

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Identity | None:
        """The process that a journal record names, None when the record names none."""
        host, boot, pid, ticks = (record.get(key) for key in ("host", "boot_id", "pid", "start_ticks"))
        if not (isinstance(host, str) and isinstance(boot, str) and isinstance(pid, int) and isinstance(ticks, int)):
            return None
        return cls(host, boot, pid, ticks, str(record.get("pidns", "")))

    def fields(self) -> dict[str, Any]:
        """The same as fields of a journal record."""
        return {
            "host": self.host,
            "boot_id": self.boot_id,
            "pid": self.pid,
            "start_ticks": self.start_ticks,
            "pidns": self.pidns,
        }

    @property
    def here(self) -> bool:
        """Whether it lived on this machine, in this boot and pid namespace, so that its pid means something here."""
        return (self.host, self.boot_id, self.pidns) == (os.uname().nodename, boot_id(), pid_namespace())

    @property
    def alive(self) -> bool:
        """Whether exactly this process runs now; False for one that this process can't see."""
        return self.here and start_ticks(self.pid) == self.start_ticks


@lru_cache(maxsize=1)
def boot_id() -> str:
    """A name for the time since this machine was last switched on."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


@lru_cache(maxsize=1)
def pid_namespace() -> str:
    """The pid namespace of this process, such as `pid:[4026531836]`."""
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115  # a link whose target is a name, not a path
    except OSError:
        return ""


def start_ticks(pid: int) -> int | None:
    """Start time of a living process in clock ticks since boot; None when there is none, or a zombie."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in (b"Z", b"X") else int(fields[19])


def session_of(pid: int) -> int | None:
    """The session a living process belongs to."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in (b"Z", b"X") else int(fields[3])


def group_of(pid: int) -> int | None:
    """The process group a living process belongs to."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in (b"Z", b"X") else int(fields[2])


def _stat(pid: int) -> list[bytes] | None:
    """/proc/PID/stat after the command's name, which may itself hold spaces and parentheses."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123  # read very often, and never a user's path
            return file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def processes() -> Iterator[int]:
    """Every pid in sight."""
    with os.scandir("/proc") as entries:
        pids = [int(entry.name) for entry in entries if entry.name.isdigit()]
    return iter(pids)


def require_pidfds() -> None:
    """Raises LlamaHomeError where no process could be signalled safely."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        raise LlamaHomeError(
            f"this system does not permit pidfd_open ({error.strerror}): no process could be signalled safely",
            code="system.unsupported",
            hint="it needs Linux 5.4 and, in a container, a newer runtime; see: llamahome --batch system doctor",
        ) from error


def send_signal(process: Identity, number: signal.Signals) -> bool:
    """Signal exactly this process; False when it is gone, whoever has its pid now."""
    return process.here and _send(process.pid, number, lambda: start_ticks(process.pid) == process.start_ticks)


def send_signal_to_holder(lock: Path, process: Identity | None, number: signal.Signals) -> bool:
    """Signal the process that holds `lock`, if it still does and is the one that the journal names.

    With `process` None the holder is whoever holds it now. False when nobody was signalled.
    """
    pid = holder(lock)
    if not pid or (process is not None and (process.pid != pid or not process.here)):
        return False

    def is_meant() -> bool:
        return holder(lock) == pid and (process is None or start_ticks(pid) == process.start_ticks)

    return _send(pid, number, is_meant)


def _send(pid: int, number: signal.Signals, is_meant: Callable[[], bool]) -> bool:
    """Signal whoever has this pid if it is the one that is meant; False when nobody was signalled."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        # From here on the pid can't change its meaning behind the descriptor.
        if not is_meant():
            return False
        signal.pidfd_send_signal(fd, number)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(fd)
    return True
