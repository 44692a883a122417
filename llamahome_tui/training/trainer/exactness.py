"""What arithmetic depends on besides spec and data, read from this process: host, versions, threads, device."""

from __future__ import annotations

import socket
from typing import Any

import torch

from llamahome_tui.training.sameness import versions


def surroundings(device: Any, ranks: int = 1) -> dict[str, Any]:
    """Host, versions, threads, device and how many there are: what arithmetic depends on besides spec and data."""
    return {
        "host": socket.gethostname(),
        "versions": versions(),
        "threads": torch.get_num_threads(),
        "device": device_name(device),
        "ranks": ranks,
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def device_name(device: Any) -> str:
    """`cpu`, or the GPU's name."""
    return str(torch.cuda.get_device_name(device)) if device.type == "cuda" else "cpu"
