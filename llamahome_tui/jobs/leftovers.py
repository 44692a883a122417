"""Processes that a dead trainer left behind, found by LLAMAHOME_RUN in their environment; nobody else is touched."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Final

from llamahome_tui.jobs.identity import Identity, group_of, processes, send_signal, session_of, start_ticks
from llamahome_tui.jobs.store import Run

RUN: Final = "LLAMAHOME_RUN"
RUN_DIR: Final = "LLAMAHOME_RUN_DIR"  # ids are unique in one state folder only


def marks(run: Run) -> dict[str, str]:
    """What every process of the run carries in its environment."""
    return {RUN: run.id, RUN_DIR: str(run.dir.resolve())}


def marked() -> Iterator[tuple[str, str, Identity]]:
    """Every process in sight that belongs to a run: the run's id, its folder, the process. Not the calling one."""
    for pid in processes():
        if pid == os.getpid():
            continue
        before = Identity.of(pid)
        found = _environ(pid)
        # The same process before and after reading: else the environment belongs to whoever has the pid now.
        if before is not None and found is not None and start_ticks(pid) == before.start_ticks:
            yield found[0], found[1], before


def workers_of(run: Run) -> list[Identity]:
    """The processes of one run, its trainer included while that lives."""
    own = str(run.dir.resolve())
    return [process for run_id, folder, process in marked() if run_id == run.id and folder == own]


def session_members(leader: int) -> list[Identity]:
    """The living processes of the session or process group that `leader` made.

    Only while `leader` lives or has not been reaped: afterwards its number may come to mean another session.
    """
    members = []
    for pid in processes():
        if pid not in (leader, os.getpid()) and leader in (session_of(pid), group_of(pid)):
            identity = Identity.of(pid)
            if identity is not None and leader in (session_of(pid), group_of(pid)):
                members.append(identity)
    return members


def sweep(run: Run, *, session: int | None = None, timeout: float = 1.0) -> list[int]:
    """SIGKILL what the run has left behind and wait until it is gone; gives the pids.

    Only for the run's supervisor, once the trainer is dead. `session` as in `session_members`.
    """
    swept: set[int] = set()
    deadline = time.monotonic() + timeout
    while True:
        found = {process.pid: process for process in workers_of(run)}
        if session is not None:
            found.update((process.pid, process) for process in session_members(session))
        for process in found.values():
            if send_signal(process, signal.SIGKILL):
                swept.add(process.pid)
        if not found or time.monotonic() >= deadline:
            return sorted(swept)
        time.sleep(0.01)


def _environ(pid: int) -> tuple[str, str] | None:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123  # never a user's path
            data = file.read(1 << 20)
    except OSError:
        return None
    if RUN.encode() not in data:
        return None
    found = dict(entry.partition(b"=")[::2] for entry in data.split(b"\0"))
    run_id = os.fsdecode(found.get(RUN.encode(), b""))
    return (run_id, os.fsdecode(found.get(RUN_DIR.encode(), b""))) if run_id else None
