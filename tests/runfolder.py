"""Run folders as a real trainer leaves them, written by the real journal writer on a clock that the test holds.

A live run's locks are held by a small process of its own (`hold`), because a lock says nothing to its own holder.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from llamahome_tui.jobs.identity import Identity
from llamahome_tui.jobs.journal import JournalWriter
from llamahome_tui.jobs.store import Run

EPOCH = 1_790_000_000.0  # 2026-09-21 14:13:20 UTC: when the runs of these tests began


# The monotonic clock of these journals lies ahead of any real one, so that nothing counts down while a test looks.
MONO = 4_000_000_000.0


class Writer:
    """Appends records at times the caller gives: the journal's own `t` and `mono` follow the given clock."""

    def __init__(self, path: Path, begun: float) -> None:
        self.now = begun
        self._begun = begun
        self._journal = JournalWriter(path)

    def at(self, after: float, type: str, **fields: Any) -> None:
        """One record `after` seconds after the run began."""
        self.now = self._begun + after
        with mock.patch("time.time", lambda: self.now), mock.patch("time.monotonic", lambda: MONO + after):
            self._journal.append(type, **fields)

    def close(self) -> None:
        self._journal.close()


def make_run(
    state: Path,
    name: str,
    *,
    begun: float = EPOCH,
    steps: int = 400,
    done: int = 400,
    end: str = "completed",
    model: str = "demo",
    tags: tuple[str, ...] = (),
    kind: str = "train",
    command: tuple[str, ...] = (),
    identity: Identity | None = None,
    extra: tuple[tuple[str, dict[str, Any]], ...] = (),
    printed: str = "",
) -> Run:
    """A run of `steps` steps that came to step `done`; `end` empty leaves its journals open."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(begun))
    folder = state / "runs" / f"{stamp}-{name}"
    for sub in ("control", "checkpoints", "artifacts"):
        (folder / sub).mkdir(parents=True)
    (state / "locks").mkdir(parents=True, exist_ok=True)
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begun))
    job: dict[str, Any] = {
        "v": 1,
        "id": folder.name,
        "name": name,
        "kind": kind,
        "created_at": created,
        "tags": list(tags),
    }
    job |= (
        {"command": list(command)} if kind == "exec" else {"spec": {"model": {"id": model}, "method": {"kind": "sft"}}}
    )
    (folder / "spec.json").write_text(json.dumps(job))
    (folder / "out.log").write_text(printed)
    who = (identity or replace(Identity.mine(), pid=4242, start_ticks=1)).fields()
    supervisor, trainer = Writer(folder / "supervisor.jsonl", begun), Writer(folder / "events.jsonl", begun)
    supervisor.at(0.1, "spawn", attempt=1, **who)
    trainer.at(1, "start", attempt=1, from_step=0, exact=True, reason="", steps=steps, **who)
    trainer.at(1.2, "phase", phase="data")
    trainer.at(2, "phase", phase="model")
    trainer.at(4, "phase", phase="train")
    for step in range(0, done + 1, 10):
        t = 5 + step * 0.5
        if step:
            trainer.at(
                t,
                "progress",
                step=step,
                steps=steps,
                epoch=step / steps,
                tokens=step * 2048,
                eta_s=(steps - step) * 0.5,
            )
            trainer.at(t, "metrics", step=step, **_metrics(step, steps))
        if step % 100 == 0:
            trainer.at(t + 0.1, "metrics", step=step, eval_loss=0.35 + 2.4 * math.exp(-step / 120))
        if step and step % 200 == 0:
            trainer.at(t + 0.2, "checkpoint", step=step, path=f"checkpoints/step-{step}", bytes=5_400_000, seconds=0.2)
    last = 6 + done * 0.5
    for type_, fields in extra:
        trainer.at(last, type_, **fields)
    if end:
        if end == "completed":
            trainer.at(last + 1, "artifact", kind="adapter", path="artifacts/adapter", bytes=412_000, sha256="0" * 64)
        trainer.at(last + 2, "end", reason=end, totals={"steps": done, "seconds": last})
        code = 1 if end == "failed" else 0
        supervisor.at(last + 2.5, "exit", attempt=1, code=code, signal=None, status=end)
    trainer.close()
    supervisor.close()
    return Run(folder.name, folder)


def _metrics(step: int, steps: int) -> dict[str, float]:
    warm = min(1.0, step / 40)
    wave = math.sin(step * 12.9898) * 0.5
    return {
        "loss": 0.3 + 2.5 * math.exp(-step / 120) + 0.12 * wave,
        "lr": 2e-4 * warm * (0.5 + 0.5 * math.cos(math.pi * step / steps)),
        "grad_norm": 1.0 + 0.3 * wave,
        "tokens_per_s": 12_400 + 600 * wave,
        "memory_peak_bytes": 11_811_160_064.0,
    }


_HOLD = """
import sys
from pathlib import Path
from llamahome_tui.jobs.locks import RecordLock
locks = [RecordLock(Path(path)) for path in sys.argv[1:]]
assert all(lock.acquire() for lock in locks)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def live_run(state: Path, name: str, *, supervised: bool = True, **more: Any) -> Iterator[Run]:
    """A run whose processes are alive: another process holds its locks and is named in its journals."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(more.get("begun", EPOCH)))
    (state / "locks").mkdir(parents=True, exist_ok=True)
    locks = [state / "locks" / f"{stamp}-{name}.{kind}" for kind in ("trainer", "supervisor")[: 2 if supervised else 1]]
    with hold(*locks) as identity:
        yield make_run(state, name, end="", identity=identity, **more)


@contextmanager
def hold(*locks: Path) -> Iterator[Identity]:
    """Have these locks held by another process for a while; gives that process."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, *map(str, locks)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        identity = Identity.of(process.pid)
        assert identity is not None
        yield identity
    finally:
        process.kill()
        process.wait()
