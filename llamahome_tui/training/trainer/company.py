"""The processes of several ranks: the first starts the others, names one that is gone, and takes them along at its end.

Under torchrun they are there already (RANK and WORLD_SIZE say so); its agent then ends them.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from llamahome_tui.errors import SpecError, TrainingError
from llamahome_tui.jobs import spawn
from llamahome_tui.jobs.child import FIRST_RANK
from llamahome_tui.jobs.store import Run
from llamahome_tui.training.trainer.ranks import ALONE, Ranks

STORE = "ranks"  # a file in the run's folder, in which they find one another; no port is open to other users
LIMIT = timedelta(minutes=30)  # for one exchange of what all have worked out
PATIENCE = timedelta(days=365)  # for the first rank's next order; where it dies, the others do
GONE_S = 5.0  # after a broken connection, for the death behind it to show
LOOK_S = 0.02
_PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class Member:
    """Another rank's process; who did not start it sees its death, and not how it died."""

    rank: int
    pid: int
    process: subprocess.Popen[bytes] | None = None
    pidfd: int = -1

    @property
    def gone(self) -> str:
        """How it ended, as a sentence; empty while it lives."""
        who = f"rank {self.rank} (pid {self.pid})"
        if self.process is None:
            return f"{who} is gone" if select.select([self.pidfd], [], [], 0)[0] else ""
        code = self.process.poll()
        if code is None:
            return ""
        return f"{who} was killed by {signal.Signals(-code).name}" if code < 0 else f"{who} ended with status {code}"


class Company:
    """What the first rank has around it; `join` gives its place once all are there."""

    def __init__(self, run: Run, size: int) -> None:
        self._run = run
        self._size = size
        self._members: list[Member] = []
        self._store: Any = None
        self._ranks = ALONE

    def start(self) -> None:
        """Begin to start the others, who load their libraries while the first prepares the data."""
        if self._size == 1:
            return
        share_threads(self._size)
        if under_torchrun(os.environ):
            return
        path = self._run.dir / STORE
        path.unlink(missing_ok=True)
        self._store = distributed.FileStore(str(path), self._size)
        secret = set(itertools.chain(*spawn.SINK_CREDENTIALS.values()))  # for the first rank's own children
        shown = {key: value for key, value in os.environ.items() if key not in secret}
        for rank in range(1, self._size):
            environ = shown | {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(self._size), FIRST_RANK: str(os.getpid()),
            }  # fmt: skip
            command = spawn.again("llamahome_tui.training.trainer", self._run.dir)
            process = start_process(command, environ)
            self._members.append(Member(rank, process.pid, process))

    def join(self) -> Ranks:
        """Wait until all are there."""
        if self._size == 1:
            return self._ranks
        if self._store is None:
            self._store = torchruns_store()
        until = time.monotonic() + LIMIT.total_seconds()
        while not self._store.check([ready(rank) for rank in range(1, self._size)]):
            self.check()
            if time.monotonic() > until:
                late = [rank for rank in range(1, self._size) if not self._store.check([ready(rank)])]
                raise TrainingError(
                    f"rank {' and '.join(map(str, late))} did not come up in {LIMIT}",
                    hint=f"see what it printed: llamahome --batch runs logs {self._run.id}",
                    code="training.rank_died",
                )
            time.sleep(LOOK_S)
        self._ranks = connect(self._store, 0, self._size, self.check)
        pids = self._ranks.gather(os.getpid())
        if not self._members:
            self._members = [Member(rank, pid, None, os.pidfd_open(pid)) for rank, pid in enumerate(pids) if rank]
        return self._ranks

    def check(self) -> None:
        """Raise TrainingError where a rank is gone."""
        if gone := next(filter(None, (member.gone for member in self._members)), ""):
            raise self._error(gone)

    def explain(self) -> None:
        """The same after an exchange has failed, when a death may not show yet."""
        until = time.monotonic() + GONE_S
        while self._members and time.monotonic() < until:
            self.check()
            time.sleep(LOOK_S)

    def silent(self) -> str:
        """Who hangs, after an exchange has timed out: once the group is gone, all who listen end, and it does not.

        "a rank" where none of them is left, or none has ended.
        """
        self._ranks = ALONE
        distributed.destroy_process_group()
        until = time.monotonic() + GONE_S
        while True:
            living = [member for member in self._members if not member.gone]
            if len(living) <= 1 or time.monotonic() > until:
                break
            time.sleep(LOOK_S)
        few = len(living) == 1 or len(living) < len(self._members)
        return " and ".join(f"rank {one.rank} (pid {one.pid})" for one in living) if few and living else "a rank"

    def _error(self, gone: str) -> TrainingError:
        return TrainingError(
            gone, hint=f"see what it printed: llamahome --batch runs logs {self._run.id}", code="training.rank_died"
        )

    def dismiss(self) -> None:
        """Let the others leave: there is nothing more to do together."""
        with contextlib.suppress(RuntimeError):  # one that is gone already
            self._ranks.tell()
        self._ranks = ALONE

    def close(self) -> None:
        """See that nobody whom we started is left."""
        for member in self._members:
            if member.process is not None:
                member.process.kill()
                member.process.wait()
            else:
                os.close(member.pidfd)
        self._members = []
        (self._run.dir / STORE).unlink(missing_ok=True)


def start_process(command: Sequence[str], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Another rank, which prints where the first one does."""
    return subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL)


@contextlib.contextmanager
def company(run: Run, size: int) -> Iterator[Company]:
    """The other ranks of a run for as long as it trains; an exchange that breaks off names who is gone.

    Raises SpecError where torchrun has started another number of them than the run's spec says.
    """
    started = int(os.environ["WORLD_SIZE"]) if under_torchrun(os.environ) else size
    if started != size:
        raise SpecError(
            f"launch.devices: the spec says {size}, and torchrun has started {started}",
            hint=f"start as many: torchrun --nproc-per-node {size} -m llamahome_tui.training.trainer {run.dir}",
        )
    found = Company(run, size)
    try:
        found.start()
        yield found
    except RuntimeError as error:
        if size == 1:
            raise
        if "timed out" in str(error).lower():
            raise TrainingError(
                f"{found.silent()} did not answer within {LIMIT.total_seconds():.0f} s: {error}",
                hint=f"see what they printed: llamahome --batch runs logs {run.id}",
                code="training.rank_silent",
            ) from error
        found.explain()
        raise
    finally:
        found.close()


def under_torchrun(environ: Mapping[str, str]) -> bool:
    """Whether the ranks' processes are there without us; one of a company of ours is none of these."""
    return "TORCHELASTIC_RUN_ID" in environ and "WORLD_SIZE" in environ and FIRST_RANK not in environ


def enter(run_dir: Path, environ: Mapping[str, str]) -> Ranks:
    """Take one's place as another rank than the first."""
    rank, size = int(environ["RANK"]), int(environ["WORLD_SIZE"])
    store = distributed.FileStore(str(run_dir / STORE), size) if FIRST_RANK in environ else torchruns_store()
    share_threads(size)
    store.set(ready(rank), "1")
    ranks = connect(store, rank, size, lambda: None)
    ranks.gather(os.getpid())
    return ranks


def die_with_parent(environ: Mapping[str, str]) -> None:
    """Be killed when whoever started this process ends, also when that has happened already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if FIRST_RANK in environ and os.getppid() != int(environ[FIRST_RANK]):
        os.kill(os.getpid(), signal.SIGKILL)


def connect(store: Any, rank: int, size: int, check: Any) -> Ranks:
    """The process group, and the rank's place in it."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # one machine: nothing listens to the network
    group = distributed.PrefixStore("group", store)
    distributed.init_process_group("gloo", store=group, rank=rank, world_size=size, timeout=LIMIT)
    orders = distributed.new_group(backend="gloo", timeout=PATIENCE if rank else LIMIT)  # each waits by its own clock
    return Ranks(rank, size, store, check, orders)


def torchruns_store() -> Any:
    """What torchrun's processes find one another by."""
    store, _, _ = next(distributed.rendezvous("env://"))
    return store


def ready(rank: int) -> str:
    """The key by which a rank says that it is there."""
    return f"ready-{rank}"


def share_threads(size: int) -> None:
    """Leave the others their part of the cores, unless whoever started this has settled that."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // size))
