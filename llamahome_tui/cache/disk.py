"""Measures folders with os.scandir: bytes on disk, each file counted once, no link followed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

Inode = tuple[int, int]


@dataclass(slots=True)
class Measured:
    """What a walk has found: bytes allocated, files, and the newest use or change (unix time, 0 for nothing)."""

    bytes: int = 0
    files: int = 0
    used: float = 0.0


@dataclass(slots=True)
class Scale:
    """Measures one folder after another; a file that two of them share weighs in the first one only."""

    seen: set[Inode] = field(default_factory=set)

    def weigh(self, path: Path) -> Measured:
        """A file or a whole folder. What vanishes or cannot be read while it is measured weighs nothing."""
        total = Measured()
        try:
            stat = os.lstat(path)
        except OSError:
            return total
        if not os.path.isdir(path) or os.path.islink(path):  # noqa: PTH112, PTH114 - beside the lstat above
            self._add(stat, total)
            return total
        folders = [os.fspath(path)]
        while folders:
            try:
                with os.scandir(folders.pop()) as entries:
                    for entry in entries:
                        try:
                            if entry.is_dir(follow_symlinks=False):
                                folders.append(entry.path)
                            else:
                                self._add(entry.stat(follow_symlinks=False), total)
                        except OSError:
                            continue
            except OSError:
                continue
        return total

    def _add(self, stat: os.stat_result, total: Measured) -> None:
        total.used = max(total.used, stat.st_mtime, stat.st_atime)
        total.files += 1
        inode = (stat.st_dev, stat.st_ino)
        if inode in self.seen:
            return
        self.seen.add(inode)
        total.bytes += stat.st_blocks * 512


def children(folder: Path) -> list[Path]:
    """What lies directly in a folder, by name; nothing where there is no folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries)
    except OSError:
        return []
