"""The files of a data set: entries and globs made into paths, and the hash that says what was trained on."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Sequence
from pathlib import Path

from llamahome_tui.demo.paths import demo_eval_file, demo_train_file
from llamahome_tui.errors import NotFoundError

_WILD = set("*?[")


def expand(entries: Sequence[str], folder: Path) -> list[Path]:
    """The files behind `data.train`: files, globs (sorted), or "demo"; relative ones start at `folder`, none twice.

    Raises NotFoundError `data.not_found` for an entry that is no file or matches none.
    """
    found: dict[Path, None] = {}
    for entry in entries:
        if entry == "demo":
            found[demo_train_file()] = None
            continue
        path = folder / entry
        matches = [path]
        if not path.exists() and _WILD & set(entry):
            matches = sorted(Path(name) for name in glob.glob(str(path), recursive=True))  # noqa: PTH207 - absolute
            matches = [match for match in matches if match.is_file()]
        if not matches or not all(match.is_file() for match in matches):
            raise _not_found("data.train", entry, path)
        found |= dict.fromkeys(matches)
    return list(found)


def eval_file(entry: float | str, train: Sequence[str], folder: Path) -> Path | None:
    """The file of held-out rows, or None where rows are held out of the training files (or none are).

    "auto" with nothing but the demo's chats to train on takes the demo's own held-out chats.
    """
    if entry == "demo" or (entry == "auto" and list(train) == ["demo"]):
        return demo_eval_file()
    if not isinstance(entry, str) or entry == "auto":
        return None
    path = folder / entry
    if not path.is_file():
        raise _not_found("data.eval", entry, path)
    return path


def sha256_of(path: Path) -> str:
    """The hash of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _not_found(key: str, entry: str, path: Path) -> NotFoundError:
    what = "is a folder, not a file" if path.is_dir() else "is not there"
    if _WILD & set(entry):
        what = "matches no file"
    return NotFoundError(
        f"{key}: {path} {what}",
        code="data.not_found",
        hint=f"look what is there: ls {path.parent}",
        data={"key": key, "path": str(path)},
    )
