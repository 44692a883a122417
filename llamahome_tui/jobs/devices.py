"""Which devices a job may have: GPU indexes as `system show` numbers them, or the one device "cpu" where none is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llamahome_tui.errors import ResourceError

CPU: Final = "cpu"
DISK: Final = "disk"  # what exports take: one at a time, beside whatever trains
_PATIENCE_S: Final = 3.0  # a driver that does not answer for so long is asked no further
_UUID_BYTES: Final = 96
_DRIVER_LISTING: Final = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True, slots=True)
class Claim:
    """`need` devices out of `candidates`, in order of preference."""

    candidates: tuple[str, ...]
    need: int


def claim(
    devices: Any, kind: str, environ: Mapping[str, str], present: Sequence[str] | None = None, *, shared: bool = False
) -> Claim:
    """The devices a job asks for with `devices` = "auto", a number, or a list of indexes.

    "auto" is one device for training, which is what the trainer uses, and for a wrapped command every device it
    would see by itself. `present` are the UUIDs of this machine's GPUs by index (default: ask the driver). Raises
    ResourceError when this machine, or CUDA_VISIBLE_DEVICES, does not have them; with `shared` a number of processes
    shares the CPU where there is no GPU.
    """
    if devices == DISK:
        return Claim((DISK,), 1)
    found = gpus_present() if present is None else present
    seen = visible(environ.get("CUDA_VISIBLE_DEVICES"), found)
    if isinstance(devices, str) and devices.strip().isdigit():
        devices = int(devices)
    key = "launch.devices" if kind == "train" else "devices"
    if not seen:
        if devices in ("auto", "", CPU, 0, 1, None, []) or (shared and _fits_the_cpu(devices)):
            return Claim((CPU,), 1)
        raise _lacking(key, devices, seen, found, shared=shared)
    if devices == CPU or devices == 0:
        return Claim((CPU,), 1)
    if isinstance(devices, list | tuple) and devices:
        wanted = tuple(dict.fromkeys(str(device) for device in devices))
        if not set(wanted) <= set(seen):
            raise _lacking(key, devices, seen, found, shared=shared)
        return Claim(wanted, len(wanted))
    if isinstance(devices, int):
        if devices > len(seen):
            raise _lacking(key, devices, seen, found, shared=shared)
        return Claim(seen, devices)
    return Claim(seen, len(seen) if kind == "exec" else 1)


def asked(job: Mapping[str, Any]) -> Any:
    """What a job asks for: as its spec says, which a resume may have changed; else as it was submitted."""
    spec = job.get("spec")
    launch = spec.get("launch") if isinstance(spec, dict) else None
    said = launch.get("devices") if isinstance(launch, dict) else None
    return job.get("devices", "auto") if said is None else said


def _fits_the_cpu(processes: object) -> bool:
    return isinstance(processes, int) and processes in range(1, _most_on_the_cpu() + 1)


def _most_on_the_cpu() -> int:
    return max(2, len(os.sched_getaffinity(0)))


def share_the_cpu(job: Mapping[str, Any], changes: Mapping[str, Any] | None = None) -> bool:
    """Whether a job's spec asks for several processes by name, which a machine without GPUs can give it too."""
    spec = job.get("spec")
    launch = spec.get("launch") if isinstance(spec, dict) else None
    said = launch.get("strategy") if isinstance(launch, dict) else None
    return bool((changes or {}).get("launch.strategy", said) == "ddp")


def environ_for(granted: Sequence[str], present_gpus: bool) -> dict[str, str]:
    """What a child's environment gets so that it sees the granted devices and no others."""
    if list(granted) in ([CPU], [DISK]):
        # On a machine with GPUs a job that asked for none must not see them; without GPUs nothing needs saying.
        return {"CUDA_VISIBLE_DEVICES": ""} if present_gpus else {}
    return {"CUDA_VISIBLE_DEVICES": ",".join(granted), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def visible(setting: str | None, present: Sequence[str]) -> tuple[str, ...]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, as indexes; as CUDA reads it, an unknown entry ends the list.

    MIG instances have no index of their own and stay under their UUID.
    """
    everything = tuple(str(index) for index in range(len(present)))
    if setting is None:
        return everything
    seen: list[str] = []
    for word in (part.strip() for part in setting.split(",")):
        if word.isdigit() and int(word) < len(present):
            name = str(int(word))
        elif word.startswith("MIG-") and present:
            name = word
        elif word.startswith("GPU-"):
            name = next((str(i) for i, uuid in enumerate(present) if uuid.startswith(word)), "")
        else:
            name = ""
        if not name or name in seen:
            break
        seen.append(name)
    return tuple(seen)


def gpus_present(patience_s: float = _PATIENCE_S) -> tuple[str, ...]:
    """UUIDs of this machine's GPUs by index, in PCI order; empty without a driver.

    A driver that hangs is left alone after `patience_s`; the kernel's own listing then says how many there are.
    """
    import threading

    answer: list[tuple[str, ...]] = []
    asking = threading.Thread(target=lambda: answer.append(_ask_nvml()), name="nvml", daemon=True)
    asking.start()
    asking.join(patience_s)
    if answer:
        return answer[0]
    try:
        return tuple("" for _ in _DRIVER_LISTING.iterdir())
    except OSError:
        return ()


def _ask_nvml() -> tuple[str, ...]:
    import ctypes

    # NVML by hand: nvitop would cost each supervisor tens of milliseconds and megabytes for these four calls.
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        if nvml.nvmlInit_v2() != 0:
            return ()
        count = ctypes.c_uint(0)
        if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return ()
        uuids: list[str] = []
        for index in range(count.value):
            handle = ctypes.c_void_p()
            text = ctypes.create_string_buffer(_UUID_BYTES)
            known = nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)) == 0
            known = known and nvml.nvmlDeviceGetUUID(handle, text, ctypes.c_uint(_UUID_BYTES)) == 0
            uuids.append(text.value.decode("ascii", "replace") if known else "")
    except (OSError, AttributeError):
        return ()
    return tuple(uuids)


def _lacking(
    key: str, devices: Any, seen: Sequence[str], present: Sequence[str], *, shared: bool = False
) -> ResourceError:
    if not present:
        have = "this machine has no GPU" + (f", and {_most_on_the_cpu()} processes at most share its CPU" * shared)
    elif len(seen) < len(present):
        have = f"CUDA_VISIBLE_DEVICES leaves {', '.join(seen) or 'none'} of {len(present)}"
    else:
        have = (
            f"this machine has {len(present)} (0 to {len(present) - 1})"
            if len(present) > 1
            else "this machine has one (0)"
        )
    return ResourceError(
        f"{key} = {devices} cannot be had: {have}",
        code="resource.devices",
        hint="see the devices: llamahome --batch system show",
        data={"wanted": devices, "visible": list(seen), "present": len(present)},
    )
