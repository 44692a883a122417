"""Snapshots and findings in words for people; names from outside are cleaned here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llamahome_tui.text import clean
from llamahome_tui.units import human_bytes

UNKNOWN = "n/a"


def percent(value: float | None) -> str:
    """`87%`, or n/a."""
    return UNKNOWN if value is None else f"{value:.0f}%"


def of_total(used: int | None, total: int | None) -> str:
    """`61.2/80.0 GiB` in one unit, or n/a for what is unknown."""
    if total is None:
        return UNKNOWN
    if used is None:
        return f"{UNKNOWN}/{human_bytes(total)}"
    shown = human_bytes(total)
    number, _, unit = shown.partition(" ")
    scale = 1024 ** ("B", "KiB", "MiB", "GiB", "TiB").index(unit)
    return f"{used / scale:.0f}/{number} {unit}" if "." not in number else f"{used / scale:.1f}/{number} {unit}"


def degrees(value: float | None) -> str:
    """`64°C`, or n/a."""
    return UNKNOWN if value is None else f"{value:.0f}°C"


def watts(value: float | None) -> str:
    """`312 W`, or n/a."""
    return UNKNOWN if value is None else f"{value:.0f} W"


def system_lines(record: Mapping[str, Any]) -> Iterator[str]:
    """The result of `system show` (a snapshot's `to_dict`) as lines."""
    if record["problem"]:
        yield f"{'GPU':<8}{clean(record['problem'])}"
    elif record["driver"]:
        yield f"{'driver':<8}{clean(record['driver'])}"
    for gpu in record["gpus"]:
        yield from _gpu_lines(gpu)
    if cpu := record["cpu"]:
        load = "  load " + " ".join(f"{x:.2f}" for x in cpu["load"]) if cpu["load"] else ""
        yield f"{'CPU':<8}{percent(cpu['percent']):>4}  {cpu['cores']} cores{load}"
    if memory := record["memory"]:
        limited = "  (limit of the control group)" if memory["limited"] else ""
        yield f"{'memory':<8}{of_total(memory['used_bytes'], memory['total_bytes'])} used{limited}"
    for disk in record["disk"]:
        free, total = human_bytes(disk["free_bytes"]), human_bytes(disk["total_bytes"])
        yield f"{'disk':<8}{free} free of {total}  {disk['purpose']}: {clean(disk['path'])}"


def doctor_lines(record: Mapping[str, Any]) -> Iterator[str]:
    """The result of `system doctor` as lines: what was found, and under it the command that helps."""
    for check in record["checks"]:
        yield f"{check['state']:<6}{check['name']:<10}{check['message']}"
        if check["command"]:
            yield f"{'':16}{check['command']}"


def _gpu_lines(gpu: Mapping[str, Any]) -> Iterator[str]:
    title = f"GPU {gpu['index']}"
    name = clean(gpu["name"] or "unknown GPU")
    if gpu["problem"]:
        yield f"{title:<8}{name}: {clean(gpu['problem'])}"
        return
    yield (
        f"{title:<8}{percent(gpu['utilization']):>4}  {of_total(gpu['memory_used_bytes'], gpu['memory_total_bytes'])}"
        f"  {degrees(gpu['temperature_c'])}  {watts(gpu['power_w'])}  {name}{' (split by MIG)' if gpu['mig'] else ''}"
    )
    for part in gpu["instances"]:
        memory = of_total(part["memory_used_bytes"], part["memory_total_bytes"])
        yield f"  MIG {part['index']} {percent(part['utilization']):>4}  {memory}  {clean(part['name'] or '')}".rstrip()
        yield from _process_lines(part)
    yield from _process_lines(gpu)


def _process_lines(gpu: Mapping[str, Any]) -> Iterator[str]:
    for process in gpu["processes"]:
        owner = f"run {clean(process['run'])}" if process["run"] else clean(process["user"] or "unknown user")
        memory = human_bytes(process["memory_bytes"])
        yield f"{'':8}pid {process['pid']}  {memory}  {clean(process['name'] or UNKNOWN)}  {owner}"
