"""The models as rows and as details; reading them takes a thread, as each has headers and files to look at."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from textwrap import wrap

from llamahome_tui.config.places import Places
from llamahome_tui.jobs.store import RunStore
from llamahome_tui.models.inventory import File, Model, files_of, list_models
from llamahome_tui.text import clean
from llamahome_tui.tui.widgets.lines import Line
from llamahome_tui.tui.widgets.table import Cell, Column, Row
from llamahome_tui.units import human_bytes, human_count, short_duration

COLUMNS = (
    Column("Model", 20, grow=2),
    Column("Size", 8, "right"),
    Column("Params", 6, "right"),
    Column("Dtype", 6, rank=2),
    Column("Format", 6, rank=3),
    Column("State", 10),
    Column("Runs", 4, "right", rank=1),
    Column("Used", 4, "right", rank=4),
)
_TONES = {"ok": "ok", "incomplete": "warn", "broken": "bad"}
_FRESH_S = 10.0


@dataclass(frozen=True, slots=True)
class Shelf:
    """All models, and the files of the one that is looked at."""

    models: tuple[Model, ...]
    files_of: str | None
    files: tuple[File, ...]


class ModelListing:
    """Reads the models, in the thread of the screen's Poll. `wanted` is the key of the one whose files are shown."""

    def __init__(self, places: Places, clock: Callable[[], float] = time.monotonic) -> None:
        self.wanted: str | None = None
        self._places, self._clock = places, clock
        self._models: tuple[Model, ...] = ()
        self._read_at = -_FRESH_S

    def forget(self) -> None:
        """The next reading looks at the disk again."""
        self._read_at = -_FRESH_S

    def read(self) -> Shelf:
        """The models, read again when the last look is too old; the files of the wanted one in any case."""
        if self._clock() - self._read_at >= _FRESH_S:
            self._models = tuple(list_models(self._places, RunStore(self._places)))
            self._read_at = self._clock()
        wanted = self.wanted
        chosen = next((model for model in self._models if key_of(model) == wanted), None)
        return Shelf(self._models, wanted, tuple(files_of(chosen)) if chosen is not None else ())


def key_of(model: Model) -> str:
    """What tells this model's line from every other: two revisions of one id are two lines."""
    return f"{model.id}@{model.revision or ''}"


def rows(models: Sequence[Model], now: float) -> list[Row]:
    """Table rows of these models; `now` is unix time."""
    twice = {model.id for model in models if sum(other.id == model.id for other in models) > 1}
    return [_row(model, now, model.id in twice) for model in models]


def _row(model: Model, now: float, several: bool) -> Row:
    age = _age(model.last_used, now)
    name = f"{model.id}@{(model.revision or '')[:7]}" if several else model.id
    return Row.of(
        key_of(model),
        Cell(name, "strong" if model.state == "ok" else ""),
        Cell(human_bytes(model.size_bytes), "", model.size_bytes),
        Cell("" if model.parameters is None else human_count(model.parameters), "", model.parameters),
        Cell(model.dtype or "", "dim"),
        Cell(model.format or "?", "dim"),
        Cell(model.state, _TONES.get(model.state, "")),
        Cell(str(len(model.used_by) or ""), "", len(model.used_by)),
        Cell(short_duration(age), "dim", age),
    )


def _age(iso: str | None, now: float) -> float | None:
    if not iso:
        return None
    try:
        return max(0.0, now - datetime.fromisoformat(iso).timestamp())
    except ValueError:
        return None


def details(model: Model, files: Sequence[File], width: int = 80) -> list[Line]:
    """Everything about one model, the runs that use it, its files by size; long values are broken."""
    lines: list[Line] = [(model.id, "accent")]
    if model.state != "ok":
        why = wrap(f"{model.state}: {clean(model.reason)}", max(20, width))
        lines += [(text, _TONES.get(model.state, "")) for text in why]
    parameters = None if model.parameters is None else f"{human_count(model.parameters)} ({model.parameters:,})"
    for name, value in (
        ("revision", model.revision),
        ("type", model.architecture),
        ("parameters", parameters),
        ("dtype", model.dtype),
        ("format", model.format),
        ("context", None if model.context is None else f"{model.context:,} tokens"),
        ("size", human_bytes(model.size_bytes)),
        ("freed", human_bytes(model.freed_bytes) + " if removed" if model.freed_bytes else None),
        ("used", model.last_used),
        ("path", model.path),
    ):
        if value:
            room = max(20, width - 13)
            for start in range(0, len(value), room):
                lines.append((f"{'' if start else name:<11} {value[start : start + room]}", ""))
    if model.used_by:
        lines += [("", ""), (f"runs {len(model.used_by)}", "dim"), *((f"  {run}", "") for run in model.used_by[:50])]
    if files:
        lines += [("", ""), (f"files {len(files)}", "dim")]
        largest = sorted(files, key=lambda file: -file.bytes)
        lines += [(f"  {human_bytes(file.bytes):>9}  {Path(file.name).as_posix()}", "") for file in largest[:200]]
    return lines
