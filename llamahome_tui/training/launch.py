"""How many processes train a run, and on what: what `[launch]` devices and strategy say together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llamahome_tui.training.shape import Spec


def count(devices: Any) -> int:
    """Devices that `launch.devices` names; "auto" is one."""
    if isinstance(devices, list | tuple):
        return len(devices)
    return devices if isinstance(devices, int) else 1


def processes(spec: Spec) -> int:
    """One process for each device."""
    return count(spec.launch.devices)


def problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, reason) where the number of devices and the strategy contradict one another."""
    devices, strategy = count(values["launch.devices"]), values["launch.strategy"]
    if strategy == "single" and devices > 1:
        yield "launch.strategy", f'is "single", and launch.devices names {devices}: write "ddp", or one device'
    if strategy == "ddp" and devices < 2:
        yield "launch.devices", 'names one device, and launch.strategy = "ddp" is for several: write 2 or more'
    rows = values["training.global_batch"]
    if devices > rows:
        yield "training.global_batch", f"is {rows}, and each of the {devices} devices needs a row of its own in a step"
