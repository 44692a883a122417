"""The files of a data set: entries and globs made into paths, and the hash that says what was trained on."""

from __future__ import annotations

import glob
import hashlib
import shlex
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from llamahome_tui.demo.paths import demo_eval_file, demo_train_file
from llamahome_tui.errors import DataError, NotFoundError

_WILD = set("*?[")

Stamp: TypeAlias = tuple[int, int, int, int] | None


def expand(entries: Sequence[str], folder: Path) -> list[Path]:
    """The files behind `data.train`: files, globs (sorted), or "demo"; relative ones start at `folder`, none twice.

    Raises NotFoundError `data.not_found` for an entry that is no file or matches none, DataError for a folder, a pipe
    or a file that may not be looked at.
    """
    found: dict[Path, None] = {}
    for entry in entries:
        found |= dict.fromkeys(files_of(entry, folder))
    return list(found)


def files_of(entry: str, folder: Path) -> list[Path]:
    """The files behind one entry of `data.train`; raises as `expand`."""
    if entry == "demo":
        return [demo_train_file()]
    path = folder / entry
    if _is_file("data.train", path):
        return [path]
    matches: list[Path] = []
    if _WILD & set(entry):
        matches = sorted(Path(name) for name in glob.glob(str(path), recursive=True))  # noqa: PTH207 - absolute
        matches = [match for match in matches if not match.is_dir() and _is_file("data.train", match)]
    if not matches:
        raise _not_found("data.train", entry, path)
    return matches


def weights_by_file(entries: Sequence[str], weights: Sequence[float], folder: Path) -> Mapping[Path, float]:
    """How often the rows of each file count: as the entry says that names it first; 1 where no weights are set."""
    found: dict[Path, float] = {}
    for at, entry in enumerate(entries):
        for path in files_of(entry, folder):
            found.setdefault(path, weights[at] if weights else 1.0)
    return found


def eval_file(entry: float | str, train: Sequence[str], folder: Path) -> Path | None:
    """The file of held-out rows, or None where rows are held out of the training files (or none are).

    "auto" with nothing but the demo's chats to train on takes the demo's own held-out chats. Raises as `expand`.
    """
    if entry == "demo" or (entry == "auto" and list(train) == ["demo"]):
        return demo_eval_file()
    if not isinstance(entry, str) or entry == "auto":
        return None
    path = folder / entry
    if not _is_file("data.eval", path):
        raise _not_found("data.eval", entry, path)
    return path


def sha256_of(path: Path, on_part: Callable[[], None] | None = None) -> str:
    """The hash of a file's bytes. `on_part` is called every few milliseconds.

    Raises DataError where the file cannot be read.
    """
    found = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while part := stream.read(1 << 22):
                found.update(part)
                if on_part:
                    on_part()
        return found.hexdigest()
    except OSError as error:
        raise _unusable("", path, f"cannot be read: {error.strerror or error}") from None


def stamp_of(path: Path) -> Stamp:
    """What differs once a file is written to or replaced; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _is_file(key: str, path: Path) -> bool:
    """Whether there is a file to read; False where there is nothing. Raises DataError for what is there and is none."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        raise _unusable(key, path, f"cannot be read: {error.strerror or error}") from None
    if stat.S_ISDIR(mode):
        raise _unusable(key, path, f"is a folder: name its files, as {path}/*.jsonl")
    if not stat.S_ISREG(mode):
        raise _unusable(key, path, "is a pipe, a socket or a device: write its rows to a file first")
    return True


def _unusable(key: str, path: Path, reason: str) -> DataError:
    return DataError(
        f"{key}: {path} {reason}" if key else f"{path} {reason}",
        hint=f"look what is there: ls -l {shlex.quote(str(path.parent))}",
        data={"key": key, "bad": [{"file": str(path), "line": 0, "field": "", "reason": reason}], "bad_count": 1},
    )


def _not_found(key: str, entry: str, path: Path) -> NotFoundError:
    what = "matches no file" if _WILD & set(entry) else "is not there"
    return NotFoundError(
        f"{key}: {path} {what}",
        code="data.not_found",
        hint=f"look what is there: ls {shlex.quote(str(path.parent))}",
        data={"key": key, "path": str(path)},
    )
