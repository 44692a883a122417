"""CPU, memory and disk of this machine by psutil; what a container or a Slurm job may use counts."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llamahome_tui.resources.snapshot import Cpu, Disk, Memory

_FIRST_LOOK_S = 0.1


class CpuReader:
    """CPU load since the reading before; the first one watches for a tenth of a second."""

    def __init__(self) -> None:
        self._before: Any = None

    def read(self) -> Cpu:
        """Load of the whole machine in percent, cores this process may use, load averages."""
        import psutil

        if self._before is None:
            self._before = psutil.cpu_times()
            time.sleep(_FIRST_LOOK_S)
        now = psutil.cpu_times()
        percent = _busy(self._before, now)
        if percent is not None:
            self._before = now
        try:
            load: tuple[float, float, float] | None = os.getloadavg()
        except OSError:
            load = None
        return Cpu(percent, len(os.sched_getaffinity(0)), load)


def _busy(before: Any, after: Any) -> float | None:
    """Share of time in percent that was not idle between two readings; None when no time has passed."""
    # guest time is part of user time already (proc(5)); counting it again would give more than 100%.
    fields = [name for name in after._fields if name not in {"guest", "guest_nice"}]
    deltas: dict[str, float] = {name: max(0.0, getattr(after, name) - getattr(before, name)) for name in fields}
    total = sum(deltas.values())
    if total <= 0:
        return None
    idle = deltas.get("idle", 0.0) + deltas.get("iowait", 0.0)
    return round(100 * (total - idle) / total, 1)


def read_memory(cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Memory:
    """Memory of the machine, cut down to the control group's limit when that is smaller (cgroup v2)."""
    import psutil

    machine = psutil.virtual_memory()
    swap = psutil.swap_memory()
    total, available = int(machine.total), int(machine.available)
    limit, used = group_memory(cgroups, own)
    limited = limit is not None and limit < total
    if limited and limit is not None and used is not None:
        total, available = limit, min(available, max(0, limit - used))
    return Memory(total, total - available, available, limited, int(swap.total), int(swap.used))


def group_memory(
    cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> tuple[int | None, int | None]:
    """The tightest limit on the way from this process's group up, and what that group uses without file cache."""
    try:
        line = next(x for x in own.read_text(encoding="utf-8").splitlines() if x.startswith("0::"))
    except (OSError, StopIteration, UnicodeDecodeError):
        return None, None
    tightest: tuple[int | None, int | None] = (None, None)
    inner = Path(line[3:].lstrip("/"))
    for part in (inner, *inner.parents):
        folder = cgroups / part
        try:
            limit = int((folder / "memory.max").read_text())  # "max" (no limit) is no number
            used = int((folder / "memory.current").read_text())
            cached = _field(folder / "memory.stat", "inactive_file")
        except (OSError, ValueError):
            continue
        if tightest[0] is None or limit < tightest[0]:
            tightest = (limit, max(0, used - cached))
    return tightest


def _field(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def read_disks(folders: Sequence[tuple[str, Path]]) -> tuple[Disk, ...]:
    """The file systems under `folders` (purpose, path), each once; a folder that is missing counts by its parent."""
    found: dict[int, Disk] = {}
    for purpose, path in folders:
        place = path
        while not place.exists() and place != place.parent:
            place = place.parent
        try:
            device = place.stat().st_dev
            space = os.statvfs(place)
        except OSError:
            found[-len(found) - 1] = Disk(purpose, str(path), None, None, None)
            continue
        if device in found:
            found[device] = replace(found[device], purpose=f"{found[device].purpose}+{purpose}")
            continue
        # Free is what this user may fill; the reserve of root is neither free nor used (as df counts it).
        found[device] = Disk(
            purpose,
            str(path),
            space.f_frsize * space.f_blocks,
            space.f_frsize * (space.f_blocks - space.f_bfree),
            space.f_frsize * space.f_bavail,
        )
    return tuple(found.values())
