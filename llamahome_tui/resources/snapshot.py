"""What the machine looked like at one moment; plain frozen values, and what a device does not tell is None, never 0."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from llamahome_tui.units import utc


class GpuState(StrEnum):
    """How the question "which GPUs are there?" was answered."""

    OK = "ok"
    ABSENT = "absent"  # no NVIDIA driver, or it sees no GPU
    PENDING = "pending"  # asked for the first time, no answer yet
    HUNG = "hung"  # the driver does not answer
    FAILED = "failed"  # the driver answered with an error


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that holds GPU memory; `run` is the LlamaHome run it belongs to, None for a stranger's."""

    pid: int
    name: str | None
    user: str | None
    memory_bytes: int | None
    run: str | None


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, or one MIG instance of it.

    `utilization` is the percentage of the last sample period in which a kernel ran (0-100). A GPU split by MIG has
    none of its own; its parts are in `instances`, whose `index` counts within the parent.
    """

    index: int
    name: str | None
    uuid: str | None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    utilization: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    processes: tuple[GpuProcess, ...] = ()
    mig: bool = False
    instances: tuple[Gpu, ...] = ()
    problem: str | None = None

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs that use this GPU, each once."""
        return tuple(dict.fromkeys(p.run for p in self.processes if p.run))


@dataclass(frozen=True, slots=True)
class Cpu:
    """Load of all cores this process may use: `percent` 0-100 over the time since the sample before."""

    percent: float | None
    cores: int
    load: tuple[float, float, float] | None


@dataclass(frozen=True, slots=True)
class Memory:
    """Main memory in bytes, the smaller of the machine's and of the control group's (containers, Slurm jobs)."""

    total_bytes: int
    used_bytes: int
    available_bytes: int
    limited: bool = False
    swap_total_bytes: int = 0
    swap_used_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system under one of LlamaHome's folders; None where it does not answer (a dead network mount)."""

    purpose: str
    path: str
    total_bytes: int | None
    used_bytes: int | None
    free_bytes: int | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at once. `t` is Unix time; `problem` says in words why GPUs are missing or stale."""

    t: float
    state: GpuState
    gpus: tuple[Gpu, ...]
    cpu: Cpu | None
    memory: Memory | None
    disk: tuple[Disk, ...]
    driver: str | None
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form of `system show` (CONTRACT: Results that scripts lean on)."""
        record = asdict(self)
        record["state"] = self.state.value
        record["t"] = utc(self.t)
        return record
