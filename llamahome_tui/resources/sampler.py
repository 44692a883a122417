"""One sampler for both faces: GPUs, host and disks are asked in threads of their own, so that no caller waits long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llamahome_tui.resources.gpus import GpuReader, Reading
from llamahome_tui.resources.host import CpuReader, read_disks, read_memory
from llamahome_tui.resources.patience import Patience
from llamahome_tui.resources.snapshot import Cpu, Disk, Gpu, GpuState, Memory, Snapshot
from llamahome_tui.units import human_duration

if TYPE_CHECKING:
    from llamahome_tui.config.places import Places

# A driver without persistence mode takes seconds to wake eight GPUs; once awake it answers in milliseconds.
FIRST_ANSWER_S = 15.0
NEXT_ANSWER_S = 3.0


class Sampler:
    """Takes snapshots: when asked (`sample`), or every `interval` seconds in the background (`start`, `latest`)."""

    def __init__(
        self,
        interval: float = 1.0,
        *,
        folders: Sequence[tuple[str, Path]] = (),
        gpus: Callable[[], Reading] | None = None,
        first_answer_s: float = FIRST_ANSWER_S,
        next_answer_s: float = NEXT_ANSWER_S,
        on_sample: Callable[[Snapshot], None] | None = None,
    ) -> None:
        self.interval = max(0.1, interval)
        self._first_answer_s = first_answer_s
        self._next_answer_s = next_answer_s
        self._on_sample = on_sample
        cpu = CpuReader()
        self._gpus: Patience[Reading] = Patience(gpus or GpuReader().read, "llamahome-gpus")
        self._host: Patience[tuple[Cpu, Memory]] = Patience(lambda: (cpu.read(), read_memory()), "llamahome-host")
        self._disks: Patience[tuple[Disk, ...]] = Patience(lambda: read_disks(folders), "llamahome-disks")
        self._folders = tuple(folders)
        self._last: Reading | None = None
        self._latest: Snapshot | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def of(cls, places: Places, interval: float = 1.0, on_sample: Callable[[Snapshot], None] | None = None) -> Sampler:
        """A sampler that looks at the disks under the models and under LlamaHome's own state."""
        return cls(interval, folders=(("models", places.hub_cache), ("state", places.state)), on_sample=on_sample)

    @property
    def latest(self) -> Snapshot | None:
        """The newest snapshot of the background thread; None until the first one."""
        return self._latest

    def sample(self, wait_s: float | None = None) -> Snapshot:
        """A snapshot now, at the latest after `wait_s` seconds (default: as long as a healthy driver may take)."""
        patience_s = self._first_answer_s if self._last is None else self._next_answer_s
        deadline = time.monotonic() + (patience_s if wait_s is None else wait_s)
        # Put all three questions first; then they are answered side by side.
        for question in (self._gpus, self._host, self._disks):
            question.ask(0.0)
        host = self._host.ask(_left(deadline, 1.0))
        disks = self._disks.ask(_left(deadline, 1.0))
        reading = self._reading(self._gpus.ask(_left(deadline)))
        if disks is None:
            disks = tuple(Disk(purpose, str(path), None, None, None) for purpose, path in self._folders)
        cpu, memory = host or (None, None)
        return Snapshot(time.time(), reading.state, reading.gpus, cpu, memory, disks, reading.driver, reading.problem)

    def start(self) -> None:
        """Sample every `interval` seconds until `stop`; the thread is a daemon and delays no exit."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="llamahome-sampler", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the background thread without waiting for it."""
        self._stop.set()
        for question in (self._gpus, self._host, self._disks):
            question.close()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            # Wait little: a slow driver must not hold back the CPU and memory that are known already.
            self._latest = self.sample(min(0.5, self.interval))
            if self._on_sample is not None and not self._stop.is_set():
                self._on_sample(self._latest)
            due = max(due + self.interval, time.monotonic())
            self._stop.wait(due - time.monotonic())

    def _reading(self, answer: Reading | None) -> Reading:
        if answer is not None:
            self._last = answer
            return answer
        waiting = self._gpus.waiting_s()
        if self._last is None and waiting < self._first_answer_s:
            return Reading(GpuState.PENDING, problem="reading GPUs")
        if self._last is not None and waiting < self._next_answer_s:
            return self._last  # a little late is no news
        problem = f"the NVIDIA driver does not answer for {human_duration(round(waiting))}"
        last = self._last or Reading(GpuState.HUNG)
        return Reading(GpuState.HUNG, tuple(_forget(gpu) for gpu in last.gpus), last.driver, problem)


def _left(deadline: float, most: float = float("inf")) -> float:
    return max(0.0, min(most, deadline - time.monotonic()))


def _forget(gpu: Gpu) -> Gpu:
    """The GPU without what may have changed: a stale number would be read as the present one."""
    return replace(
        gpu,
        memory_used_bytes=None,
        utilization=None,
        temperature_c=None,
        power_w=None,
        processes=(),
        instances=tuple(_forget(part) for part in gpu.instances),
    )
