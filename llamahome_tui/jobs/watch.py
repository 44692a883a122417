"""A trainer as its supervisor sees it: alive or dead, growing or silent; training never waits for it."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from llamahome_tui.jobs.identity import Identity
from llamahome_tui.jobs.journal import tail
from llamahome_tui.jobs.retries import Recovery
from llamahome_tui.jobs.status import signal_name, tell
from llamahome_tui.jobs.store import Run


@dataclass
class Trainer:
    """The process that works. An adopted one is not our child: nobody tells us how it ended, and it has no pipe."""

    process: Identity
    attempt: int
    pidfd: int
    pipe: int | None
    parent: bool
    oom_kills: int  # of the whole machine, when this began

    def send(self, number: signal.Signals) -> None:
        """Signal it. The descriptor was opened while it was known to be the trainer: no other can be meant."""
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            pass

    def woken(self) -> bool:
        """Empty the pipe, whose contents only wake; False when nobody can write to it any more."""
        assert self.pipe is not None
        try:
            while data := os.read(self.pipe, 1 << 16):
                if len(data) < 1 << 16:
                    return True
        except BlockingIOError:
            return True
        return False

    def death(self) -> Death:
        """How it ended, without reaping it."""
        if not self.parent:
            return Death()
        info = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOWAIT)
        if info is None:
            return Death()
        if info.si_code == os.CLD_EXITED:
            return Death(code=info.si_status)
        out_of_memory = info.si_status == signal.SIGKILL and oom_kills() > self.oom_kills
        return Death(signal=signal_name(info.si_status), oom=out_of_memory)

    def close(self) -> None:
        """Reap it, if it is ours, and let its descriptors go."""
        if self.parent:
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        os.close(self.pidfd)
        if self.pipe is not None:
            os.close(self.pipe)


@dataclass(frozen=True, slots=True)
class Death:
    """How a trainer ended: exit status or signal, both None when nobody could see it. `oom`: the kernel did it."""

    code: int | None = None
    signal: str | None = None
    oom: bool = False


class Watch:
    """What the supervisor remembers of one trainer between two looks. Times are monotonic seconds."""

    def __init__(self, run: Run, recovery: Recovery) -> None:
        self._path = run.events_path
        self._recovery = recovery
        self._grown_at = time.monotonic()
        # One that is adopted may have said its last word before.
        self._leaving_since = time.monotonic() if tell(run).end is not None else None
        self._said = False
        self.size = _size(self._path)
        self.asked = False
        self.killed = False

    def look(self) -> None:
        """See whether the journal has grown, and whether its last word was `end`."""
        size = _size(self._path)
        if size == self.size:
            return
        self.size = size
        self._grown_at = time.monotonic()
        self._said = False
        newest = tail(self._path, 1, limit_bytes=1 << 16)
        if newest and newest[0]["type"] == "end" and self._leaving_since is None:
            self._leaving_since = time.monotonic()

    def ask(self) -> None:
        """It has been asked to leave: its grace begins."""
        self.asked = True
        self._leaving_since = time.monotonic()

    @property
    def silent_s(self) -> float:
        """Seconds since the journal last grew."""
        return time.monotonic() - self._grown_at

    @property
    def grace_over(self) -> bool:
        """Whether it was asked to leave, or said that it would, too long ago."""
        return self._leaving_since is not None and time.monotonic() - self._leaving_since >= self._recovery.grace_s

    def stalled_now(self) -> bool:
        """True once for each silence that is longer than the spec allows."""
        if self._said or not 0 < self._recovery.stall_s <= self.silent_s:
            return False
        self._said = True
        return True


def oom_kills() -> int:
    """Processes that the kernel has killed for want of memory since boot, those of containers included."""
    try:
        with open("/proc/vmstat", encoding="ascii") as file:  # noqa: PTH123  # never a user's path
            return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
