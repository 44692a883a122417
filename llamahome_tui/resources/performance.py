"""What the terminal application keeps of its samples: one line a minute in performance.log."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from llamahome_tui.logs.files import PERFORMANCE, Limits, write
from llamahome_tui.resources.snapshot import Gpu, GpuState, Snapshot

if TYPE_CHECKING:
    from llamahome_tui.context import Context

LOG_EVERY_S = 60.0


def recorder(context: Context, clock: Callable[[], float] = time.monotonic) -> Callable[[Snapshot], None]:
    """What a sampler calls with each snapshot (`on_sample`); the first of each minute is logged."""
    limits = Limits.of(context.settings)
    due = clock()

    def record(snapshot: Snapshot) -> None:
        nonlocal due
        if clock() < due or snapshot.state is GpuState.PENDING:
            return
        due = clock() + LOG_EVERY_S
        level = "warning" if snapshot.state in (GpuState.HUNG, GpuState.FAILED) else "info"
        write(context.places.logs, PERFORMANCE, level, line(snapshot), limits)

    return record


def line(snapshot: Snapshot) -> str:
    """A snapshot as `name=value` words; what is unknown is left out."""
    words: list[str] = []
    if snapshot.cpu is not None:
        words.append(_word("cpu_percent", snapshot.cpu.percent))
        if snapshot.cpu.load is not None:
            words.append(f"load={snapshot.cpu.load[0]:.2f}")
    if snapshot.memory is not None:
        words += [f"memory_used={snapshot.memory.used_bytes}", f"memory_total={snapshot.memory.total_bytes}"]
    words += [_word(f"disk_free_{disk.purpose}", disk.free_bytes) for disk in snapshot.disk]
    for gpu in snapshot.gpus:
        words += _gpu(f"gpu{gpu.index}", gpu)
        for part in gpu.instances:
            words += _gpu(f"gpu{gpu.index}.mig{part.index}", part)
    if snapshot.problem:
        words.append(f'problem="{snapshot.problem}"')
    return " ".join(word for word in words if word)


def _gpu(name: str, gpu: Gpu) -> list[str]:
    return [
        _word(f"{name}_percent", gpu.utilization),
        _word(f"{name}_used", gpu.memory_used_bytes),
        _word(f"{name}_celsius", gpu.temperature_c),
        _word(f"{name}_watts", gpu.power_w),
        f"{name}_runs={','.join(gpu.runs)}" if gpu.runs else "",
        f'{name}_problem="{gpu.problem}"' if gpu.problem else "",
    ]


def _word(name: str, value: float | None) -> str:
    return "" if value is None else f"{name}={value:.15g}"
