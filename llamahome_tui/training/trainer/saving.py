"""When a checkpoint is due, and its way to the disk beside training: one at a time, announced when it is whole."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llamahome_tui.jobs.child import Child
from llamahome_tui.training.trainer import checkpoint, memory
from llamahome_tui.training.trainer.checkpoint import Written
from llamahome_tui.training.trainer.mirroring import mirroring_of
from llamahome_tui.training.trainer.snapshot import Snapshot

if TYPE_CHECKING:
    from llamahome_tui.training.spec import Spec

SAVE_AGAIN_S = 30.0  # after a save that found the disk full
MIRROR_WAITS_S = 60.0  # at the end, for the last copy; at most a quarter of the grace
COPIES = 2  # of what a checkpoint holds, in main memory: the snapshot, and what its files are made from


@dataclass(frozen=True, slots=True)
class Begun:
    """A save that is on its way."""

    step: int
    best: dict[str, Any] | None
    why: str  # for the warning, should it find no room
    again_s: float
    quiet: bool
    started: float  # by perf_counter
    paused_s: float  # training stood still for so long
    written: Future[Written]


class Saving:
    """The checkpoints of one attempt. Its journal records are written by the thread that trains, and by no other."""

    def __init__(
        self,
        child: Child,
        spec: Spec,
        step: int,
        best: str,
        lost: Callable[[int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`best` is the folder of the best checkpoint so far; `lost` is told the step of a save that found no room."""
        self._child = child
        self._folder = child.run.checkpoints_dir
        self._wanted = spec.checkpoint
        self._mirror_waits_s = min(MIRROR_WAITS_S, spec.recovery.grace_s / 4)
        self._lost = lost
        self._clock = clock
        self.at_step = step or -1  # what is whole on the disk
        self._since = clock()
        self._owed = False  # a save found no room
        self._again_at = -math.inf
        self._begun: Begun | None = None
        self._rotating: Future[None] | None = None
        self._spared: tuple[str, ...] = ()  # the best one, when rotation has left out what the mirror was copying
        # Its thread starts now: when memory is short, there may be no room for one.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writer.submit(int).result()
        self._mirror = mirroring_of(child, spec)
        if self._mirror and step:
            self._mirror.offer(f"step-{step}", best)

    def is_due(self, step: int) -> bool:
        """Whether steps, time, or a save that found no room want one after this step."""
        if step in (0, self.at_step) or (self._begun and self._begun.step == step) or self._clock() < self._again_at:
            return False
        wanted = self._wanted
        by_steps = wanted.every_steps > 0 and step % wanted.every_steps == 0
        by_time = wanted.every_minutes > 0 and self._clock() - self._since >= 60 * wanted.every_minutes
        return self._owed or by_steps or by_time

    def forget(self) -> None:
        """What was saved last is out of date, though no step was taken."""
        self.settle(wait=True)
        self.at_step = -1

    def begin(
        self, snapshot: Snapshot, step: int, best: dict[str, Any] | None, why: str, again_s: float | None, quiet: bool
    ) -> None:
        """Save beside training; where memory has no room for a copy of the state, or the disk for it, this says so now.

        The save before must be settled. One that does not fit on the disk is not begun.
        """
        assert self._begun is None
        started = time.perf_counter()
        self._since = self._clock()
        found = self._start(snapshot, step)
        paused = time.perf_counter() - started
        again = SAVE_AGAIN_S if again_s is None else again_s
        self._begun = Begun(step, best, why, again, quiet, started, paused, found)
        if found.done():
            self.settle()

    def _start(self, snapshot: Snapshot, step: int) -> Future[Written]:
        found: Future[Written] = Future()
        try:
            checkpoint.has_room(self._folder, snapshot.bytes)
        except OSError as full:
            found.set_exception(full)
            return found
        free = memory.free_bytes(torch.device("cpu"))
        try:
            beside = free == 0 or COPIES * snapshot.bytes < free
            given = snapshot.copied() if beside else snapshot
        except (RuntimeError, MemoryError) as error:
            if not memory.is_exhausted(error):
                raise
            beside, given = False, snapshot
        found = self._writer.submit(checkpoint.write, self._folder, step, given)
        if not beside:
            found.exception()  # training waits, as what is written is what it changes
        return found

    def settle(self, *, wait: bool = False) -> None:
        """Say how the save on its way has ended, if it has; with `wait` it has, and nothing of it goes on.

        Raises what a save failed with that is no full disk.
        """
        if (begun := self._begun) is not None and (wait or begun.written.done()):
            try:
                written = begun.written.result()
            except (OSError, RuntimeError) as error:
                self._begun = None
                if not checkpoint.is_disk_full(error):
                    raise
                self._no_room(begun, error)
            else:
                self._begun = None
                self._is_whole(begun, written)
        if self._rotating and (wait or self._rotating.done()):
            rotating, self._rotating = self._rotating, None
            rotating.result()

    def _is_whole(self, begun: Begun, written: Written) -> None:
        self.at_step, self._owed = begun.step, False
        self._child.emit(
            "checkpoint",
            sync=True,
            step=begun.step,
            path=f"checkpoints/{written.path.name}",
            bytes=written.bytes,
            seconds=round(time.perf_counter() - begun.started, 3),
            pause_seconds=round(begun.paused_s, 3),
            best=begun.best,
        )
        best = Path(begun.best["path"]).name if begun.best else ""
        if self._mirror:
            self._mirror.offer(written.path.name, best)
        in_use = self._mirror.in_work if self._mirror else ""
        self._rotating = self._writer.submit(checkpoint.rotate, self._folder, self._wanted.keep, best, in_use)
        self._spared = (best,) if in_use else ()

    def _no_room(self, begun: Begun, error: BaseException) -> None:
        self._owed, self._again_at = True, self._clock() + begun.again_s
        self._lost(begun.step)
        reason = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
        if begun.quiet:  # of many tries in a row the first one says it
            return
        self._child.emit(
            "warning",
            step=begun.step,
            message=f"no room for a checkpoint{' ' + begun.why if begun.why else ''}{reason}; "
            f"the earlier one stays, the save is tried again in {begun.again_s:.0f} s",
        )

    def tell_of_mirror(self) -> None:
        """Warn of what the mirror has to say."""
        for said in self._mirror.words() if self._mirror else ():
            self._child.emit("warning", step=self._child.step, message=said)

    def finish(self) -> None:
        """Let the save on its way end, and the last copy, for a while that the grace of a stop has room for."""
        try:
            self.settle(wait=True)
        finally:
            self._writer.shutdown()
            if self._mirror:
                self._mirror.finish(self._mirror_waits_s)
                self.tell_of_mirror()
                for best in self._spared:
                    checkpoint.rotate(self._folder, self._wanted.keep, best, self._mirror.in_work)
