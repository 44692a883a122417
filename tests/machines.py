"""Snapshots of machines that tests show in the terminal application: a full box, MIG, faults, none at all."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from llamahome_tui.resources.snapshot import Cpu, Disk, Gpu, GpuProcess, GpuState, Memory, Snapshot

GIB = 1024**3


def box(count: int = 8, state: GpuState = GpuState.OK, problem: str | None = None) -> Snapshot:
    """A machine with so many GPUs; the first is used by a run, the fourth by another user."""
    gpus = []
    for i in range(count):
        users: tuple[GpuProcess, ...] = ()
        if i == 0:
            users = (GpuProcess(4242, "python", "ada", 9 * GIB, "20261123-101500-gsm8k-lora"),)
        if i == 3:
            users = (GpuProcess(777, "python3", "bob", 60 * GIB, None),)
        used, load, heat = (4 + 10 * i) * GIB, float((13 * i) % 101), 40.0 + 7 * i
        gpus.append(
            Gpu(i, "NVIDIA H100 80GB HBM3", f"GPU-{i}", used, 80 * GIB, load, heat, 90.0 + 80 * i, 700.0, users)
        )
    disk = Disk("models+state", "/home/ada/hub", 4000 * GIB, 2800 * GIB, 1200 * GIB)
    memory = Memory(252 * GIB, 45 * GIB, 207 * GIB)
    driver = "575.57" if count else None
    return Snapshot(1.0, state, tuple(gpus), Cpu(23.0, 64, (3.2, 2.0, 1.0)), memory, (disk,), driver, problem)


def faulty() -> Snapshot:
    """One GPU split by MIG, one lost, one well."""
    seen = box(3)
    parts = (Gpu(0, "MIG 3g", None, 7 * GIB, 40 * GIB), Gpu(1, "MIG 3g", None, 1 * GIB, 40 * GIB))
    split = replace(seen.gpus[0], utilization=None, mig=True, instances=parts)
    return replace(seen, gpus=(split, Gpu(1, None, None, problem="GPU is lost"), seen.gpus[2]))


def hung() -> Snapshot:
    """A driver that answered once and then no more."""
    seen = box(2, GpuState.HUNG, "the NVIDIA driver does not answer for 12 s")
    unknown = {"memory_used_bytes": None, "utilization": None, "temperature_c": None, "power_w": None, "processes": ()}
    return replace(seen, gpus=tuple(replace(gpu, **unknown) for gpu in seen.gpus))


def bare() -> Snapshot:
    """A machine without a driver."""
    return box(0, GpuState.ABSENT, "no NVIDIA driver")


def sampler(snapshot: Snapshot | None) -> Any:
    """What `app.sampler` is to be for this machine to be shown."""
    return SimpleNamespace(latest=snapshot)
