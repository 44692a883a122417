"""Who a process is: its name, its user and the LlamaHome run it belongs to, read from /proc once for each process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

RUN_VARIABLE = b"LLAMAHOME_RUN="
_MAX_ENVIRON = 1 << 20
_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Who:
    """What /proc tells about a process; another user's environment cannot be read, so `run` is None there."""

    name: str | None
    user: str | None
    run: str | None


class ProcessTable:
    """Remembers who is who; a pid that was given to another process is noticed by its start time."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._known: dict[tuple[int, bytes], Who] = {}
        self._users: dict[int, str] = {}

    def who(self, pid: int) -> Who:
        """Name, user and run of `pid`; every field None when it has ended or lives in another pid namespace."""
        folder = self._proc / str(pid)
        try:
            stat = (folder / "stat").read_bytes()
        except OSError:
            return Who(None, None, None)
        # The command may hold spaces and brackets: everything after the last one is numbers; field 22 is the start.
        head, _, tail = stat.rpartition(b")")
        fields = tail.split()
        key = (pid, fields[19] if len(fields) > 19 else b"")
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            name = head.partition(b"(")[2].decode("utf-8", "replace")
            known = self._known[key] = Who(name, self._user(folder), self._run(folder))
        return known

    def _user(self, folder: Path) -> str | None:
        try:
            uid = folder.stat().st_uid
        except OSError:
            return None
        if uid not in self._users:
            import pwd

            try:
                self._users[uid] = pwd.getpwuid(uid).pw_name
            except KeyError:
                self._users[uid] = str(uid)
        return self._users[uid]

    def _run(self, folder: Path) -> str | None:
        try:
            with (folder / "environ").open("rb") as file:
                environ = file.read(_MAX_ENVIRON)
        except OSError:
            return None
        for entry in environ.split(b"\0"):
            if entry.startswith(RUN_VARIABLE):
                return entry[len(RUN_VARIABLE) :].decode("utf-8", "replace") or None
        return None
