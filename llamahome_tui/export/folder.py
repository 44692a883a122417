"""The folder of an export: filled beside its place under another name, file by file, and renamed when all is proved.

What is finished stands in `progress.json` with its sha256: an export that was interrupted keeps those files.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llamahome_tui.errors import BusyError, ResourceError, UsageError
from llamahome_tui.export.tensors import free_bytes
from llamahome_tui.jobs.exports import MANIFEST as MANIFEST
from llamahome_tui.jobs.recovery import sha256_of
from llamahome_tui.jobs.store import read_object, sync_folder, write_object
from llamahome_tui.units import human_bytes

PROGRESS: Final = "progress.json"
_BESIDE: Final = 1 << 20  # bytes of small files and of what a file system takes for itself
_MANY: Final = 16 << 20


def partial_of(place: Path) -> Path:
    """Where an export is made before it has its name."""
    return place.with_name(f".{place.name}.partial")


def refused_of(place: Path) -> Path:
    """Where one lies whose proof has failed."""
    return place.with_name(f"{place.name}.refused")


def standing(place: Path, key: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The manifest of this very export, where it is published already; None where nothing is there.

    Raises UsageError for anything else that lies there: it is never overwritten.
    """
    if not os.path.lexists(place):
        return None
    manifest = read_object(place / MANIFEST, _MANY) if place.is_dir() and not place.is_symlink() else None
    if manifest is not None and manifest.get("key") == dict(key):
        return manifest
    what = "another export" if manifest is not None else "something that is no export of this run"
    raise UsageError(
        f"{place} is there already: {what}",
        code="export.taken",
        hint="name another place: llamahome --batch runs export RUN --to FOLDER",
        data={"path": str(place)},
    )


def require_room(place: Path, needed: int, present: int = 0) -> None:
    """Raises ResourceError (exit 5) where `needed` bytes, less those that are there, do not fit."""
    free = free_bytes(place)
    needed = max(0, needed - present) + _BESIDE
    if free is not None and free < needed:
        raise no_room(place, needed, free)


def no_room(place: Path, needed: int, free: int | None) -> ResourceError:
    """The error of a full disk."""
    told = f": {human_bytes(needed)} are needed and {human_bytes(free or 0)} are free" if needed else ""
    return ResourceError(
        f"no room for the export in {place.parent}{told}",
        code="disk.full",
        hint="make room and give the same line again, or choose another disk: "
        "llamahome --batch runs export RUN --to FOLDER",
        data={"needed_bytes": needed or None, "free_bytes": free, "path": str(place)},
    )


@dataclass(frozen=True, slots=True)
class Finished:
    """A file of the export that is whole on the disk."""

    bytes: int
    sha256: str


class Partial:
    """An export on its way. One process fills it: the one that holds the job's lock."""

    def __init__(self, place: Path, key: Mapping[str, Any]) -> None:
        """Take up what an earlier attempt at the same export has left; what another one left is removed."""
        self.place = place
        self.path = partial_of(place)
        self._key = dict(key)
        self._files: dict[str, Finished] = {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.is_symlink():
            raise BusyError(f"{self.path} is a link: it is left alone", code="export.taken", hint=f"rm {self.path}")
        told = read_object(self.path / PROGRESS, _MANY)
        if told is None or told.get("key") != self._key:
            shutil.rmtree(self.path, ignore_errors=True)
            self.path.mkdir(mode=0o755)
            return
        for name, entry in dict(told.get("files") or {}).items():
            file = self.path / name
            if file.is_file() and file.stat().st_size == entry["bytes"] and sha256_of(file) == entry["sha256"]:
                self._files[name] = Finished(entry["bytes"], entry["sha256"])

    @property
    def bytes(self) -> int:
        """What its finished files take."""
        return sum(one.bytes for one in self._files.values())

    def has(self, name: str) -> bool:
        """Whether this file was finished before, by its hash."""
        return name in self._files

    def add(self, name: str, write: Callable[[Path], None]) -> None:
        """Have a file written under another name, make it durable, give it its name and note its hash."""
        if self.has(name):
            return
        temporary = self.path / f".writing-{name}"
        temporary.unlink(missing_ok=True)
        try:
            write(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            found = Finished(temporary.stat().st_size, sha256_of(temporary))
            temporary.replace(self.path / name)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._files[name] = found
        sync_folder(self.path)
        write_object(self.path / PROGRESS, {"v": 1, "key": self._key, "files": self._told()})

    def publish(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Write the manifest and give the folder its name; gives the manifest."""
        standing(self.place, self._key)
        manifest = {"v": 1, "key": self._key, "files": self._told(), **about}
        write_object(self.path / MANIFEST, manifest)
        for stray in [one for one in self.path.iterdir() if one.name not in {MANIFEST, *self._files}]:
            stray.unlink()
        self._rename(self.place)
        return manifest

    def refuse(self) -> Path:
        """Keep it aside under a name that nobody takes for an export; gives that."""
        aside = refused_of(self.place)
        if aside.exists():
            aside = aside.with_name(f"{aside.name}-{os.urandom(3).hex()}")
        self._rename(aside)
        return aside

    def _rename(self, target: Path) -> None:
        for file in self.path.iterdir():
            file.chmod(0o644)
        self.path.chmod(0o755)
        sync_folder(self.path)
        self.path.rename(target)
        sync_folder(target.parent)

    def _told(self) -> dict[str, Any]:
        return {name: {"bytes": one.bytes, "sha256": one.sha256} for name, one in self._files.items()}
