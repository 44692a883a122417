"""Remembers summaries of runs that have ended; one counts only while every file it was made from is untouched.

A cache and no record of status: without it, or with a broken one, the same answers are made from the journals.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from llamahome_tui import __version__
from llamahome_tui.config.places import make_private
from llamahome_tui.jobs.identity import boot_id
from llamahome_tui.jobs.store import Run

Fingerprint: TypeAlias = list[list[int] | None]

_FORM: Final = 1
_LARGEST: Final = 64 << 20  # bytes
_SETTLED_NS: Final = 2_000_000_000  # two changes within one tick of a file system's clock look like one
# All that a summary of an ended run depends on. Whatever brings a run back to life first leaves a request in control/
# or a record in a journal.
_INPUTS: Final = ("spec.json", "events.jsonl", "supervisor.jsonl", "labels.json", "control", "artifacts", "checkpoints")


class Index:
    """Summaries by run id, in one file that is replaced whole; whoever writes last wins, and no harm is in that."""

    def __init__(self, path: Path, runs: Path) -> None:
        self._path = path
        self._runs = runs
        # What an older version, another machine or an earlier boot has seen does not count here.
        self._seen_by = f"{_FORM} {__version__} {os.uname().nodename} {boot_id()}"
        self._known = self._load()
        self._used: dict[str, Any] = {}
        self._changed = False

    def get(self, run: Run) -> tuple[dict[str, Any] | None, Fingerprint]:
        """The summary of a run that is known to have ended, else None; and the state of its files, for `put`."""
        now = fingerprint(os.fspath(run.dir))
        entry = self._known.get(run.id)
        if not isinstance(entry, list) or len(entry) != 3 or entry[0] != now:
            return None, now
        self._used[run.id] = entry
        summary, last = entry[1], entry[2]
        return {**summary, "age_s": None if last is None else max(0.0, time.time() - last)}, now

    def put(self, run: Run, before: Fingerprint, summary: Mapping[str, Any], last: float | None) -> None:
        """Remember an ended run whose files were in this state before they were read; `last`: its newest time."""
        newest = max((one[2] for one in before if one is not None), default=0)
        if time.time_ns() - newest > _SETTLED_NS:
            self._used[run.id] = [before, dict(summary), last]
            self._changed = True

    def save(self) -> None:
        """Write what was used or learnt since `Index()`; runs that nobody asked for stay, removed ones go."""
        gone = [run_id for run_id in self._known if run_id not in self._used and not (self._runs / run_id).is_dir()]
        if not self._changed and not gone:
            return
        kept = {run_id: entry for run_id, entry in self._known.items() if run_id not in gone}
        data = json.dumps({"seen_by": self._seen_by, "runs": {**kept, **self._used}}, separators=(",", ":"))
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            make_private(self._path.parent)
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(fd, "w", encoding="ascii") as file:
                file.write(data)
            temporary.replace(self._path)
        except OSError:
            temporary.unlink(missing_ok=True)  # a full or read-only disk: it is only a cache

    def _load(self) -> dict[str, Any]:
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return {}
        with os.fdopen(fd, "rb") as file:
            data = file.read(_LARGEST + 1)
        try:
            value = json.loads(data) if len(data) <= _LARGEST else None
        except (ValueError, RecursionError):
            return {}
        if not isinstance(value, dict) or value.get("seen_by") != self._seen_by:
            return {}
        runs = value.get("runs")
        return runs if isinstance(runs, dict) else {}


def fingerprint(folder: str) -> Fingerprint:
    """Inode, size and time of change (ns, which nobody can set) of everything a run's summary is made from."""
    found: Fingerprint = []
    for name in _INPUTS:
        try:
            status = os.lstat(f"{folder}/{name}")
        except OSError:
            found.append(None)
        else:
            found.append([status.st_ino, status.st_size, status.st_ctime_ns])
    return found
