"""Which checkpoint a run goes on from; one counts only when `complete.json` stands in it and what it says is true."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llamahome_tui.jobs.store import Run, read_object, sync_folder, write_object

COMPLETE: Final = "complete.json"
_FOLDER: Final = re.compile(r"step-(\d{1,12})")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint folder. `bytes` is what its files take; `t` when it was finished (unix time, 0 when it is not)."""

    step: int
    path: Path
    bytes: int
    complete: bool
    t: float


def checkpoints(run: Run) -> list[Checkpoint]:
    """Every checkpoint folder, oldest step first. Complete means here: every file is there with its right size."""
    return checkpoints_in(run.checkpoints_dir)


def checkpoints_in(folder: Path) -> list[Checkpoint]:
    """The same of any folder that holds checkpoints."""
    found = []
    try:
        with os.scandir(folder) as entries:
            folders = [(entry.name, Path(entry.path)) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    for name, path in folders:
        match = _FOLDER.fullmatch(name)
        if match is None:
            continue
        manifest = _manifest(path)
        whole = manifest is not None and not _wrong_sizes(path, manifest)
        try:
            size = sum(_size(file) for file in path.rglob("*"))
            finished = (path / COMPLETE).stat().st_mtime if whole else 0.0
        except FileNotFoundError:
            continue  # rotated away while it was looked at
        found.append(Checkpoint(int(match[1]), path, size, whole, finished))
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def newest_complete_checkpoint(run: Run, *, hashes: bool = False) -> Checkpoint | None:
    """The checkpoint to resume from, None when there is none; with `hashes` every byte of it is checked too."""
    for checkpoint in reversed(checkpoints(run)):
        if checkpoint.complete and not (hashes and verify(checkpoint.path)):
            return checkpoint
    return None


def verify(folder: Path) -> list[str]:
    """What is wrong with a checkpoint, a sentence for each fault; empty when every file is as it was written."""
    manifest = _manifest(folder)
    if manifest is None:
        return [f"{COMPLETE} is missing or can't be read"]
    wrong = _wrong_sizes(folder, manifest)
    for name, entry in manifest.items():
        if not wrong and sha256_of(folder / name) != entry.get("sha256"):
            wrong.append(f"{name} is not what was written: its sha256 differs")
    return wrong


def set_aside_partials(run: Run, *, hashes: bool = False) -> list[Path]:
    """Rename what does not count to `*.partial`, so that nothing takes it for a checkpoint; gives the new names.

    Only for the holder of the trainer's lock, or its supervisor while no trainer lives. With `hashes` the newest
    checkpoint must also match its hashes; one that does not is set aside, and the one before it is looked at.
    """
    aside = []
    for checkpoint in reversed(checkpoints(run)):
        if checkpoint.complete and not (hashes and verify(checkpoint.path)):
            hashes = False  # the newest good one is what counts; older ones are read when they are needed
            continue
        target = checkpoint.path.with_name(f"{checkpoint.path.name}.partial")
        if target.exists():
            target = checkpoint.path.with_name(f"{checkpoint.path.name}-{os.urandom(3).hex()}.partial")
        checkpoint.path.rename(target)
        aside.append(target)
    if aside:
        sync_folder(run.checkpoints_dir)
    return aside


def write_complete(folder: Path, step: int) -> int:
    """Finish a checkpoint: sync and hash every file in it, then write `complete.json` last. Gives its bytes.

    Everything else must be written before. After this call the checkpoint survives a power cut. OSError when not.
    """
    files: dict[str, dict[str, Any]] = {}
    folders = {folder}
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            folders.add(path)
        elif path.is_file() and path.name != COMPLETE:
            _sync_file(path)
            files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    for inner in folders:
        sync_folder(inner)
    write_object(folder / COMPLETE, {"v": 1, "step": step, "files": files})
    sync_folder(folder.parent)
    return sum(int(entry["bytes"]) for entry in files.values())


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest(folder: Path) -> Mapping[str, Mapping[str, Any]] | None:
    value = read_object(folder / COMPLETE, limit=16 << 20)
    files = value.get("files") if value is not None and value.get("v") == 1 else None
    if not isinstance(files, dict) or not files:
        return None
    for name, entry in files.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("bytes"), int):
            return None
        if name.startswith("/") or ".." in name.split("/"):
            return None
    return files


def _wrong_sizes(folder: Path, manifest: Mapping[str, Mapping[str, Any]]) -> list[str]:
    wrong = []
    for name, entry in manifest.items():
        path = folder / name
        try:
            size = path.stat(follow_symlinks=False).st_size
        except OSError:
            wrong.append(f"{name} is missing")
            continue
        if path.is_symlink() or size != entry["bytes"]:
            wrong.append(f"{name} has {size} bytes, {entry['bytes']} were written")
    return wrong


def _size(path: Path) -> int:
    try:
        status = path.stat(follow_symlinks=False)
    except OSError:
        return 0
    return 0 if path.is_dir() else status.st_size


def _sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
