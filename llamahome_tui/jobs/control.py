"""What people ask of a live run: small files that are never edited, answered by a `control` event in a journal."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llamahome_tui.jobs.journal import JournalReader, tail, tail_offset
from llamahome_tui.jobs.store import Run, sync_folder

OPS: Final = frozenset({"stop", "pause", "resume", "save", "eval", "sample", "lr"})
LARGEST_RATE: Final = 10.0  # learning rates from here on are a slip of the hand
_NAME: Final = re.compile(r"(\d{13,15})-[0-9a-f]{32}\.json")
_LARGEST: Final = 64 << 10  # bytes of a request file
_SETTLED: Final = 0.1  # seconds after which a folder's modification time can be trusted to have moved on a change


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it stands on disk. `t` is when it was made (unix time); `fault` says why it may not be obeyed."""

    id: str
    op: str
    value: Any
    uid: int
    t: float
    fault: str = ""

    def same(self, other: Request) -> bool:
        """Whether both ask for the same thing."""
        return (self.op, self.value) == (other.op, other.value)


class Inbox:
    """The requests for one run, read again only when the folder has changed: one stat while nothing happens."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._looked_at = -1
        self._requests: list[Request] = []

    def look(self) -> list[Request]:
        """Every request, oldest first, answered or not."""
        try:
            changed = self._run.control_dir.stat().st_mtime_ns
        except FileNotFoundError:
            return []
        if changed != self._looked_at:
            # Two changes in one tick of the file system's clock look like one: a young time is looked at again.
            young = abs(time.time() - changed / 1e9) < _SETTLED
            self._looked_at = -1 if young else changed
            self._requests = requests(self._run)
        return self._requests


def drop(run: Run, op: str, value: Any = None) -> str:
    """Leave a request for the run and give back its id; whoever looks after the run answers it. OSError when it can't.

    Requests are ordered by name. A name is later than every one before it, even when the clock was put back.
    """
    if op not in OPS:
        raise ValueError(f"no such request: {op}")
    newest = max((int(name[: name.index("-")]) for name in _names(run.control_dir)), default=0)
    request_id = f"{max(int(time.time() * 1000), newest + 1)}-{os.urandom(16).hex()}"
    data = json.dumps({"v": 1, "op": op, "value": value, "uid": os.getuid()}).encode() + b"\n"
    if len(data) > _LARGEST:
        raise ValueError("a request is at most 64 KiB")
    temporary = run.control_dir / f".{request_id}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(run.control_dir / f"{request_id}.json")
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(run.control_dir)
    return request_id


def requests(run: Run, ops: Iterable[str] | None = None) -> list[Request]:
    """Every request ever left for the run, oldest first, answered or not. One that may not be obeyed has a `fault`."""
    wanted = None if ops is None else frozenset(ops)
    owner = -1
    found = []
    for name in sorted(_names(run.control_dir)):
        if owner < 0:
            owner = run.dir.stat().st_uid
        request = _read(run.control_dir / name, owner)
        if request is not None and (wanted is None or request.op in wanted):
            found.append(request)
    return found


def pending(run: Run) -> list[Request]:
    """The requests that no `control` event has answered yet, oldest first."""
    open_requests = requests(run)
    if not open_requests:
        return []
    done = answered(run)
    return [request for request in open_requests if request.id not in done]


def answered(run: Run, *, by_trainer: bool = True) -> set[str]:
    """Ids of the requests that a `control` event has answered; the trainer's journal, which is long, only if asked."""
    done: set[str] = set()
    for path in (run.supervisor_path, run.events_path) if by_trainer else (run.supervisor_path,):
        done.update(str(record.get("request", "")) for record in tail(path, 1 << 30, {"control"}))
    return done


class Answers:
    """The same for who looks often: after the first look only what has been written since is read."""

    def __init__(self, run: Run) -> None:
        # Before the first look: what is written during it is read twice, and nothing never.
        paths = (run.events_path, run.supervisor_path)
        self._readers = [JournalReader(path, tail_offset(path, 0)) for path in paths]
        self._ids = answered(run)

    def look(self) -> set[str]:
        """Every answered request, now."""
        for reader in self._readers:
            while records := reader.poll():
                self._ids.update(str(record.get("request", "")) for record in records if record["type"] == "control")
        return self._ids


def stop_requested(run: Run) -> Request | None:
    """The request that says this run shall not go on: the newest stop, unless a resume came after it."""
    return next(iter(stops_in(requests(run))), None)


def stops_in(found: Iterable[Request]) -> list[Request]:
    """Of these requests, in their order, the stops that no resume came after; newest first."""
    stops: list[Request] = []
    for request in found:
        if request.op == "resume" and not request.fault:
            stops = []
        elif request.op == "stop" and not request.fault:
            stops.insert(0, request)
    return stops


def resume_in(found: Iterable[Request]) -> Request | None:
    """Of these requests, in their order, the resume that nothing about leaving came after."""
    newest = None
    for request in found:
        if not request.fault and request.op in ("stop", "resume"):
            newest = request
    return newest if newest is not None and newest.op == "resume" else None


def rate_of(value: Any) -> float | None:
    """The learning rate that a request names, None for what is none."""
    try:
        rate = float(value)
    except (TypeError, ValueError):
        return None
    return rate if 0 < rate < LARGEST_RATE else None


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if _NAME.fullmatch(entry.name)]
    except FileNotFoundError:
        return []


def _read(path: Path, owner: int) -> Request | None:
    request_id = path.name.removesuffix(".json")
    made = int(request_id[: request_id.index("-")]) / 1000
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Request(request_id, "", None, -1, made, f"can't be read: {error.strerror}")
    with os.fdopen(fd, "rb") as file:
        uid = os.fstat(file.fileno()).st_uid
        try:
            data = file.read(_LARGEST + 1)
        except OSError as error:
            return Request(request_id, "", None, uid, made, f"can't be read: {error.strerror}")
    # The owner of the file counts, never what is written in it alone.
    if uid != owner:
        return Request(request_id, "", None, uid, made, f"made by user {uid}, the run belongs to user {owner}")
    try:
        value = json.loads(data) if len(data) <= _LARGEST else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or value.get("op") not in OPS:
        return Request(request_id, "", None, uid, made, "not a request that this version knows")
    if value.get("uid") != uid:
        return Request(request_id, str(value["op"]), None, uid, made, "the user in it is not the owner of the file")
    return Request(request_id, str(value["op"]), value.get("value"), uid, made)
