"""Finds all that takes disk, LlamaHome's and the Hugging Face cache's; it only looks, and counts each file once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamahome_tui.cache.disk import Scale, children

if TYPE_CHECKING:
    from llamahome_tui.config.places import Places
    from llamahome_tui.jobs.store import Run, RunStore


class Category(StrEnum):
    """What a piece of disk is there for."""

    MODELS = "models"
    TRAINING = "training"
    SYSTEM = "system"
    BYTECODE = "bytecode"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that takes disk. `bytes` is what it takes on disk, `used` unix time of its last use, 0 when unknown.

    `in_use` names the live runs that hold it, so that nobody deletes it under them.
    """

    category: Category
    kind: str
    name: str
    path: Path
    bytes: int
    files: int
    used: float
    in_use: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `last_used` is ISO 8601 UTC or null."""
        fields = asdict(self)
        used = fields.pop("used")
        moment = datetime.fromtimestamp(used, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if used else None
        return fields | {
            "category": self.category.value, "path": str(self.path), "last_used": moment, "in_use": list(self.in_use),
        }  # fmt: skip


def scan(places: Places, store: RunStore | None = None) -> list[Entry]:
    """Every entry, largest first. A file that two of them share counts in the first one found."""
    scale = Scale()
    runs = [] if store is None else store.list()
    live = [run for run in runs if run.live]
    found = [*_hub(places, scale, live), *_runs(runs, live, scale), *_own(places, scale), *_bytecode(scale)]
    return sorted(found, key=lambda entry: (-entry.bytes, entry.name))


def totals(entries: list[Entry]) -> dict[str, int]:
    """Bytes per category, every category named, and `total`."""
    sums = {category.value: 0 for category in Category}
    for entry in entries:
        sums[entry.category.value] += entry.bytes
    return sums | {"total": sum(sums.values())}


def _hub(places: Places, scale: Scale, live: list[Run]) -> Iterator[Entry]:
    users: dict[str, list[str]] = {}
    for run in live:
        users.setdefault(_model_of(run), []).append(run.id)
    for path in children(places.hub_cache):
        kind, separator, rest = path.name.partition("--")
        name = rest.replace("--", "/") if separator else path.name
        kind = kind.removesuffix("s") if separator and kind in {"models", "datasets", "spaces"} else "hub"
        yield _entry(Category.MODELS, kind, name, path, scale, tuple(users.get(name, ()) if kind == "model" else ()))


def _runs(runs: list[Run], live: list[Run], scale: Scale) -> Iterator[Entry]:
    alive = {run.id for run in live}
    for run in runs:
        yield _entry(Category.TRAINING, "run", run.id, run.dir, scale, (run.id,) if run.id in alive else ())


def _own(places: Places, scale: Scale) -> Iterator[Entry]:
    for folder, category, kind in (
        (places.prepared, Category.TRAINING, "prepared"),
        (places.exports, Category.TRAINING, "export"),
        (places.indexes, Category.SYSTEM, "index"),
        (places.logs, Category.SYSTEM, "log"),
    ):
        for path in children(folder):
            yield _entry(category, kind, path.name, path, scale)
    for path in children(places.cache):
        if path not in (places.prepared, places.indexes):
            yield _entry(Category.SYSTEM, "cache", path.name, path, scale)


def _bytecode(scale: Scale) -> Iterator[Entry]:
    """Python's compiled files of this program; with PYTHONPYCACHEPREFIX they lie elsewhere and are not ours to name.

    One entry for all: its `path` is the package, of which only the `__pycache__` folders are counted.
    """
    package = Path(__file__).resolve().parent.parent
    total, files, used = 0, 0, 0.0
    for folder, names, _ in os.walk(package):
        if "__pycache__" in names:
            weight = scale.weigh(Path(folder) / "__pycache__")
            total, files, used = total + weight.bytes, files + weight.files, max(used, weight.used)
            names.remove("__pycache__")
    if files:
        yield Entry(Category.BYTECODE, "bytecode", "llamahome_tui", package, total, files, used)


def _entry(category: Category, kind: str, name: str, path: Path, scale: Scale, in_use: tuple[str, ...] = ()) -> Entry:
    weight = scale.weigh(path)
    return Entry(category, kind, name, path, weight.bytes, weight.files, weight.used, in_use)


def _model_of(run: Run) -> str:
    from llamahome_tui.errors import LlamaHomeError

    try:
        spec = run.job.get("spec")
    except LlamaHomeError:
        return ""
    model = spec.get("model") if isinstance(spec, dict) else None
    return str(model.get("id") or "").partition("@")[0] if isinstance(model, dict) else ""
