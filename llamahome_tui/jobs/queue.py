"""Who may have which device, and who waits in what order; queue.jsonl is only ever replaced whole, under its lock.

A job holds its devices as long as its supervisor or its trainer lives: what the file says of the dead is ignored and
cleaned away by whoever looks next, so no device is lost to a crash.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from llamahome_tui.errors import BusyError, UsageError
from llamahome_tui.jobs import devices
from llamahome_tui.jobs.identity import boot_id
from llamahome_tui.jobs.locks import RecordLock, holder
from llamahome_tui.jobs.store import Run

_GRACE_S: Final = 15.0  # a job that was just submitted may be without a supervisor for so long
_LOCK_S: Final = 10.0
_LARGEST: Final = 4 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One job in the queue, waiting while `granted` is empty. `mono` and `boot` say when it came, by any clock."""

    run: str
    name: str
    candidates: tuple[str, ...]
    need: int
    host: str
    boot: str
    mono: float
    t: float
    granted: tuple[str, ...] = ()
    gpus: bool = False  # whether the machine had GPUs when it was asked


@dataclass(frozen=True, slots=True)
class Turn:
    """The devices a job has now, and what its children's environment gets for that."""

    devices: tuple[str, ...]
    environ: Mapping[str, str]


class Queue:
    """The queue of one state folder. Every change happens inside `locked()`."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._file = state / "queue.jsonl"
        self._lock = state / "locks" / "queue"
        self._host = os.uname().nodename

    def entries(self) -> list[Entry]:
        """Everything in the file, in order, the dead included; needs no lock, because the file is replaced whole."""
        return _read(self._file)

    def waiting(self) -> list[Entry]:
        """Who waits on this machine, next first."""
        return [e for e in self.entries() if not e.granted and self._here(e) and self._alive(e)]

    def position(self, run_id: str) -> int | None:
        """Place in the line, 1 is next; None when it does not wait."""
        return next((place for place, e in enumerate(self.waiting(), 1) if e.run == run_id), None)

    @contextmanager
    def locked(self) -> Iterator[Locked]:
        """The queue to oneself; what was changed is written at the end. Raises BusyError after ten seconds."""
        lock = RecordLock(self._lock)
        if not lock.acquire(blocking=True, timeout=_LOCK_S):
            raise BusyError(
                "the queue is held by another process",
                code="queue.locked",
                hint="try again; see what runs: llamahome --batch runs list",
            )
        try:
            before = _read(self._file)
            opened = Locked([e for e in before if not self._here(e) or self._alive(e)], self._host)
            yield opened
            if opened.entries != before:
                _write(self._file, opened.entries)
        finally:
            lock.release()

    def _here(self, entry: Entry) -> bool:
        return entry.host == self._host

    def _alive(self, entry: Entry) -> bool:
        locks = self._state / "locks"
        if holder(locks / f"{entry.run}.supervisor") is not None or holder(locks / f"{entry.run}.trainer") is not None:
            return True
        young = entry.boot == boot_id() and time.monotonic() - entry.mono < _GRACE_S
        return young and not entry.granted and (self._state / "runs" / entry.run).is_dir()


class Locked:
    """The queue while its lock is held: the living entries in order."""

    def __init__(self, entries: list[Entry], host: str) -> None:
        self.entries = entries
        self._host = host

    def named(self, name: str) -> list[str]:
        """Ids of the jobs of this name that run or wait here."""
        return [e.run for e in self.entries if e.name == name]

    def free_for(self, claim: devices.Claim) -> bool:
        """Whether a job with this claim would start at once, behind everybody who waits."""
        return bool(self._grants("", claim))

    def add(self, run: Run, claim: devices.Claim, gpus: bool) -> None:
        """Put a job at the end of the line."""
        self.entries.append(
            Entry(
                run=run.id, name=run.name, candidates=claim.candidates, need=claim.need, host=self._host,
                boot=boot_id(), mono=time.monotonic(), t=time.time(), gpus=gpus,
            )
        )  # fmt: skip

    def find(self, run_id: str) -> Entry | None:
        return next((e for e in self.entries if e.run == run_id), None)

    def remove(self, run_id: str) -> None:
        self.entries = [e for e in self.entries if e.run != run_id]

    def grant(self, run_id: str) -> Entry | None:
        """The job's entry with devices, if it is its turn or it has them already."""
        entry = self.find(run_id)
        if entry is None or entry.granted:
            return entry
        granted = self._grants(run_id, None)
        if not granted:
            return None
        given = replace(entry, granted=granted)
        self.entries = [given if e.run == run_id else e for e in self.entries]
        return given

    def move(self, run_id: str, position: int) -> int:
        """Put a waiting job at this place (1 is next); gives the place it got, at most the last one."""
        waiting = [e for e in self.entries if not e.granted and e.host == self._host]
        entry = next((e for e in waiting if e.run == run_id), None)
        if entry is None:
            raise UsageError(
                f"{run_id} is not waiting in the queue",
                code="run.not_waiting",
                hint="see who waits: llamahome --batch runs list --status queued",
                data={"candidates": [e.run for e in waiting]},
            )
        waiting.remove(entry)
        place = min(max(1, position), len(waiting) + 1)
        waiting.insert(place - 1, entry)
        self.entries = [e for e in self.entries if e not in waiting] + waiting
        return place

    def _grants(self, run_id: str, newcomer: devices.Claim | None) -> tuple[str, ...]:
        """The devices that `run_id`, or a newcomer at the end of the line, would get now; none while it must wait.

        Those in front keep back the devices they wait for: a job that needs many is not passed by small ones for ever.
        """
        taken = {device for e in self.entries if e.host == self._host for device in e.granted}
        for entry in self.entries:
            if entry.granted or entry.host != self._host:
                continue
            chosen = _choose(entry.candidates, entry.need, taken)
            if entry.run == run_id:
                return chosen
            taken |= set(chosen) or set(entry.candidates)
        return _choose(newcomer.candidates, newcomer.need, taken) if newcomer is not None else ()


def turn(run: Run) -> Turn | None:
    """The job's devices once it is its turn, else None; asked again it answers the same. For its supervisor only."""
    queue = Queue(run.state)
    try:
        with queue.locked() as opened:
            if opened.find(run.id) is None:
                present = devices.gpus_present()
                job = run.effective_job()
                kind, shared = str(job.get("kind", "train")), devices.share_the_cpu(job)
                wanted = devices.claim(devices.asked(job), kind, os.environ, present, shared=shared)
                opened.add(run, wanted, bool(present))
            entry = opened.grant(run.id)
    except BusyError:
        return None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return None  # a full disk: nothing begins before there is room
    if entry is None:
        return None
    return Turn(entry.granted, devices.environ_for(entry.granted, entry.gpus))


def leave(run: Run) -> None:
    """Give the job's devices, or its place in the line, back."""
    try:
        with Queue(run.state).locked() as opened:
            opened.remove(run.id)
    except (BusyError, OSError):
        return  # its supervisor goes now, and the next one to look cleans up


def _choose(candidates: Sequence[str], need: int, taken: set[str]) -> tuple[str, ...]:
    free = [device for device in candidates if device not in taken]
    return tuple(free[:need]) if len(free) >= need else ()


def _read(path: Path) -> list[Entry]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return []
    with os.fdopen(fd, "rb") as file:
        data = file.read(_LARGEST)
    found: list[Entry] = []
    for line in data.split(b"\n"):
        try:
            value = json.loads(line)
            found.append(
                Entry(
                    run=str(value["run"]), name=str(value["name"]), candidates=tuple(map(str, value["candidates"])),
                    need=int(value["need"]), host=str(value["host"]), boot=str(value["boot"]),
                    mono=float(value["mono"]), t=float(value["t"]), gpus=bool(value["gpus"]),
                    granted=tuple(map(str, value["granted"])),
                )
            )  # fmt: skip
        except (ValueError, KeyError, TypeError):
            continue  # a damaged line is a job that will put itself in again
    return found


def _write(path: Path, entries: Sequence[Entry]) -> None:
    # No fsync: after a power cut nobody of these lives any more.
    temporary = path.with_name(f".queue.{os.getpid()}")
    lines = "".join(json.dumps({"v": 1, **asdict(entry)}, separators=(",", ":")) + "\n" for entry in entries)
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(lines)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
