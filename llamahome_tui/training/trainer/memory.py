"""Memory a run takes: its peak, what is free, and whether an error means that there was too little."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import torch

from llamahome_tui.resources import host

_SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


def peak_bytes(device: Any) -> int:
    """The most memory the run has held: of the GPU by torch's allocator, else resident memory of the process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return _proc_kib("/proc/self/status", "VmHWM:") * 1024


def free_bytes(device: Any) -> int:
    """Memory that is free now on the device, within the limit of a container or a Slurm job; 0 where nothing tells."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = _proc_kib("/proc/meminfo", "MemAvailable:") * 1024
    limit, used = host.group_memory()
    return free if limit is None or used is None else min(free, max(1, limit - used))


def is_exhausted(error: BaseException) -> bool:
    """Whether an error says that memory ran out; torch has an own class for GPUs and plain RuntimeError for CPUs."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def release() -> None:
    """Give back what failed work left behind."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _proc_kib(path: str, key: str) -> int:
    try:
        lines = Path(path).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(key)), 0)
