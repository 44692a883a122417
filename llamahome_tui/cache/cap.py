"""Keeps LlamaHome's own caches under their cap: the least recently used goes first, and never what is in use.

Own caches are prepared data and indexes: both can be made again. Models, runs and logs are never touched here.
Standard library only: the trainer calls it too, maybe in an interpreter that has nothing else of ours.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from llamahome_tui.cache.disk import Scale, children

MIB = 1024 * 1024
#: Seconds for which something stays after its last use, whatever the cap: another process may be about to open it.
GRACE_S = 120.0


@dataclass(frozen=True, slots=True)
class Removal:
    """One cached thing that goes, with the bytes that come free."""

    path: Path
    bytes: int
    used: float


@dataclass(frozen=True, slots=True)
class CapPlan:
    """What has to go for the caches to fit: `total_bytes` is before, `over_bytes` what stays above the cap."""

    cap_bytes: int
    total_bytes: int
    removals: tuple[Removal, ...]
    over_bytes: int


def of_environ(environ: Mapping[str, str]) -> int | None:
    """The cap in bytes that `cache.size_mib` set for a child process; None where there is none to keep to."""
    size = environ.get("LLAMAHOME_CACHE_SIZE", "").strip()
    return int(size) * MIB if size.isdecimal() and len(size) < 12 else None


def touch(path: Path) -> None:
    """Mark a cached thing as used now, so that it is among the last to go. A file that is gone is no error."""
    try:
        os.utime(path)
    except OSError:
        pass


def plan(
    cache: Path, cap_bytes: int, *, keep: Collection[Path] = (), now: float | None = None, grace_s: float = GRACE_S
) -> CapPlan:
    """What would go from `<cache>/prepared` and `<cache>/indexes`; a cap of 0 keeps nothing that is not in use.

    Never planned: what stands in `keep`, what a process of this machine has open, what was used within `grace_s`.
    """
    moment = time.time() if now is None else now
    scale = Scale()
    items = [
        Removal(path, weight.bytes, max(weight.used, _changed(path)))
        for folder in (cache / "prepared", cache / "indexes")
        for path in children(folder)
        for weight in (scale.weigh(path),)
    ]
    total = sum(item.bytes for item in items)
    excess = total - max(cap_bytes, 0)
    removals: list[Removal] = []
    if excess > 0:
        kept = {os.path.realpath(path) for path in keep}
        opened = _open_files(os.path.realpath(cache))
        for item in sorted(items, key=lambda item: item.used):
            real = os.path.realpath(item.path)
            if excess <= 0:
                break
            if item.used > moment - grace_s or _within(kept, real) or _within(opened, real):
                continue
            removals.append(item)
            excess -= item.bytes
    return CapPlan(cap_bytes, total, tuple(removals), max(excess, 0))


def enforce(
    cache: Path, cap_bytes: int, *, keep: Collection[Path] = (), now: float | None = None, grace_s: float = GRACE_S
) -> CapPlan:
    """Plan and do it. Gives the plan; what cannot be removed stays and is no error. Links are removed, not followed."""
    made = plan(cache, cap_bytes, keep=keep, now=now, grace_s=grace_s)
    for removal in made.removals:
        if removal.path.is_dir() and not removal.path.is_symlink():
            shutil.rmtree(removal.path, ignore_errors=True)
        else:
            try:
                removal.path.unlink(missing_ok=True)
            except OSError:
                continue
    return made


def _changed(path: Path) -> float:
    """When `touch` was last called for it: a folder's own time, which the walk over its files does not see."""
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _within(paths: Collection[str], folder: str) -> bool:
    return any(path == folder or path.startswith(folder + os.sep) for path in paths)


def _open_files(folder: str) -> set[str]:
    """Files below `folder` that processes we may look into have open or mapped into memory."""
    found: set[str] = set()
    prefix = folder + os.sep
    for process in Path("/proc").glob("[0-9]*"):
        try:
            with os.scandir(process / "fd") as entries:
                for entry in entries:
                    try:
                        target = os.readlink(entry.path)  # noqa: PTH115 - thousands of them
                    except OSError:
                        continue
                    if target.startswith(prefix):
                        found.add(target)
            with (process / "maps").open(encoding="utf-8", errors="replace") as lines:
                found.update(line.rstrip("\n")[at:] for line in lines if (at := line.find(prefix)) >= 0)
        except OSError:
            continue  # another user's process, or one that has just ended
    return found
