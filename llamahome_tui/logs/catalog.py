"""Which logs there are: LlamaHome's own four and what each run printed; a name never leads outside their folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llamahome_tui.errors import NotFoundError, UsageError
from llamahome_tui.logs.files import NAMES

if TYPE_CHECKING:
    from llamahome_tui.config.places import Places


@dataclass(frozen=True, slots=True)
class LogFile:
    """One log; `name` is what `logs show` takes."""

    name: str
    path: Path
    size_bytes: int
    modified: float  # Unix time
    kind: str  # "app" | "run"


def catalog(places: Places) -> list[LogFile]:
    """Every log that exists: the own ones first, rotated ones after each, then runs, newest first."""
    found: list[LogFile] = []
    for name in NAMES:
        path = places.logs / name
        rotated = sorted(path.parent.glob(path.name + ".*"), key=_number) if path.parent.is_dir() else []
        for file in (path, *(r for r in rotated if _number(r))):
            short = file.name.replace(".log", "", 1)
            found += _log(short, file, "app")
    for folder in sorted(places.runs.iterdir(), reverse=True) if places.runs.is_dir() else []:
        if not folder.name.startswith("."):
            found += _log(folder.name, folder / "out.log", "run")
    return found


def resolve(places: Places, name: str) -> LogFile:
    """The log of that name: `error`, `app/error.log`, a run id, a unique prefix of one, or latest.

    Raises NotFoundError, or UsageError where a prefix fits several runs.
    """
    logs = catalog(places)
    for log in logs:
        if name in (log.name, f"{log.path.parent.name}/{log.path.name}") and log.kind == "app":
            return log
    known = {path.rsplit("/", 1)[1].removesuffix(".log"): path for path in NAMES}
    if name in known or name in NAMES:
        path = places.logs / known.get(name, name)
        return LogFile(name, path, 0, 0.0, "app")  # nothing written yet: an empty log, no mistake
    runs = [log for log in logs if log.kind == "run"]
    if name == "latest" and runs:
        return runs[0]
    exact = [log for log in runs if log.name == name]
    fitting = exact or [log for log in runs if log.name.startswith(name)]
    if len(fitting) > 1:
        raise UsageError(
            f"{name!r} fits {len(fitting)} logs",
            code="log.ambiguous",
            hint="give more of the name; see: llamahome --batch logs list",
            data={"candidates": [log.name for log in fitting]},
        )
    if not fitting:
        raise NotFoundError(
            f"there is no log {name!r}", code="log.not_found", hint="see what there is: llamahome --batch logs list"
        )
    return fitting[0]


def _log(name: str, path: Path, kind: str) -> list[LogFile]:
    try:
        facts = path.lstat()
    except OSError:
        return []
    if path.is_symlink() or not path.is_file():
        return []  # a link planted here may lead anywhere
    return [LogFile(name, path, facts.st_size, facts.st_mtime, kind)]


def _number(path: Path) -> int:
    suffix = path.suffix.removeprefix(".")
    return int(suffix) if suffix.isdecimal() else 0
