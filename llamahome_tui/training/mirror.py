"""Copies of checkpoints in another folder; one counts, there as here, only when what its `complete.json` says is true.

A mirror holds `<run id>/step-<n>/`, so that several runs and several machines can share it. What is read from it is not
trusted: only files that the list names are taken, none leads out of its folder, and each must have its sha256.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llamahome_tui.errors import ConfigError, IntegrityError, ResourceError
from llamahome_tui.jobs import recovery
from llamahome_tui.jobs.store import read_object, sync_folder, write_object

COUNTERS: Final = "counters.json"
RUN: Final = re.compile(r"\d{8}-\d{6}-[a-z0-9][a-z0-9._-]*")
_BEST: Final = re.compile(r"checkpoints/(step-\d{1,12})")
_PIECE: Final = 1 << 20
FETCHED: Final = (
    ".tmp-fetched"  # in a run's checkpoints, until all of it is there; cleared as a killed save's left-overs
)
LARGEST: Final = 16 << 20  # bytes of a list of files or of counters


@dataclass(frozen=True, slots=True)
class Copy:
    """A checkpoint in a mirror that has all its files with their sizes; `best` is the folder of the best before it."""

    run: str
    path: Path
    step: int
    best: str = ""


def copies(root: Path, name: str) -> Iterator[Copy]:
    """What a run of this name could go on from: the newest run first, and of each the last step first.

    A checkpoint whose counters lead anywhere but to a checkpoint beside it is none, and what another user keeps to
    himself, or another machine takes away meanwhile, is passed by. Raises ConfigError where the mirror itself can't be
    read: to begin anew because of that would be a guess.
    """
    try:
        runs = sorted((path for path in root.iterdir() if RUN.fullmatch(path.name)), reverse=True)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise ConfigError(
            f"checkpoint.mirror: {root} can't be read: {error.strerror}",
            code="checkpoint.mirror",
            hint=f"look at it: ls -ld {root}",
        ) from None
    for folder in runs:
        if folder.is_symlink():
            continue
        try:
            found = recovery.checkpoints_in(folder)
        except OSError:
            continue
        for checkpoint in reversed(found):
            notes = read_object(checkpoint.path / COUNTERS, limit=LARGEST) if checkpoint.complete else None
            best = best_of(notes) if notes and at(notes, "spec", "name") == name else None
            if best is not None:
                yield Copy(folder.name, checkpoint.path, checkpoint.step, best)


def fetch(root: Path, name: str, into: Path) -> tuple[Copy | None, list[str]]:
    """Copy the first of `copies` that is whole, with its best, into a run's checkpoints; and why others were passed.

    Nothing of one that was passed over stays. Raises ResourceError where there is no room for it here, which is not
    the mirror's fault.
    """
    passed: list[str] = []
    for found in copies(root, name):
        if take_in(found, into, copy, passed):
            return found, passed
    return None, passed


def steps_of(found: Copy) -> list[str]:
    """The folders that it takes to go on from a copy: the best before it, and its own."""
    return list(dict.fromkeys(filter(None, (found.best, found.path.name))))


def take_in(found: Copy, into: Path, get: Callable[[Path, Path], object], passed: list[str]) -> bool:
    """Whether all steps of a copy are in `into` now; if not, none is, and `passed` says why.

    `get` copies one, from where it is to where it is told. They get their names together: a best one that stayed
    alone, after a stop or a kill, would be the newest checkpoint of the run, and all that came after it lost.
    """
    beside, steps, what = into / FETCHED, steps_of(found), f"{found.run}/{found.path.name}"
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(mode=0o700)
        for step in steps:
            get(found.path.with_name(step), beside / step)
        for step in steps:
            (beside / step).rename(into / step)
        sync_folder(into)
    except (OSError, IntegrityError) as error:
        for step in steps:
            shutil.rmtree(into / step, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(
                f"there is no room for {what} of the mirror in {into}",
                code="disk.full",
                hint="see what takes space: llamahome --batch cache usage",
            ) from None
        said = error.message if isinstance(error, IntegrityError) else error
        passed.append(f"{what} in the mirror is passed over: {said}")
        return False
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return True


def copy(source: Path, target: Path) -> bool:
    """Copy a checkpoint so that `target` is there whole or not at all; False when it was there already.

    Every file is read again at the other side and must have its sha256; the list of them goes last. Raises OSError, and
    IntegrityError where the source is not what its list says.
    """
    manifest = read_object(source / recovery.COMPLETE, limit=LARGEST)
    files = files_of(source, manifest)
    if read_object(target / recovery.COMPLETE, limit=LARGEST) == manifest and not recovery.verify(target):
        return False
    temporary, doomed = target.with_name(f".tmp-{target.name}"), target.with_name(f".old-{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    try:
        for name, entry in files.items():
            _copy_file(source / name, temporary / name, entry["bytes"])
            if recovery.sha256_of(temporary / name) != entry.get("sha256"):
                raise IntegrityError(f"{name} is not what was written: its sha256 differs")
        assert manifest is not None
        write_object(temporary / recovery.COMPLETE, manifest)
        if target.exists():
            shutil.rmtree(doomed, ignore_errors=True)
            target.rename(doomed)
        temporary.rename(target)
        sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(doomed, ignore_errors=True)
    return True


def files_of(source: Path, manifest: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The files that the list names; a checkpoint has no folders in it."""
    files = manifest.get("files") if manifest is not None and manifest.get("v") == 1 else None
    if manifest is None or not isinstance(files, dict) or not files:
        raise IntegrityError(f"{source.name} has no list of its files")
    if source.name != f"step-{manifest.get('step')}":
        raise IntegrityError(f"{source.name} is the checkpoint of another step")
    for name, entry in files.items():
        if name in ("", ".", "..", recovery.COMPLETE) or "/" in name or "\0" in name:
            raise IntegrityError(f"{source.name} names a file that leads out of it")
        if not isinstance(entry, dict) or not isinstance(entry.get("bytes"), int):
            raise IntegrityError(f"{source.name} has no size for one of its files")
    return files


def _copy_file(source: Path, target: Path, size: int) -> None:
    """Copy a regular file of so many bytes, and sync it; neither a link is followed nor a pipe waited for."""
    with os.fdopen(os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            raise IntegrityError(f"{source.name} has {status.st_size} bytes, {size} were written")
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as out:
            shutil.copyfileobj(file, out, _PIECE)
            out.flush()
            os.fsync(out.fileno())


def best_of(notes: Mapping[str, Any]) -> str | None:
    """The folder of the best checkpoint, "" where there is none yet, None where the counters are not ours."""
    counters = notes.get("counters")
    if not isinstance(counters, dict):
        return None
    best = counters.get("best")
    if best is None:
        return ""
    path = best.get("path") if isinstance(best, dict) else None
    match = _BEST.fullmatch(path) if isinstance(path, str) else None
    return match[1] if match else None


def at(values: Mapping[str, Any], table: str, key: str) -> object:
    """The value of a key in a table, None where either is not there."""
    inner = values.get(table)
    return inner.get(key) if isinstance(inner, dict) else None
