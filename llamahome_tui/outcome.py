"""What an operation yields while it works; both faces render these and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias


class Level(str, Enum):
    """How loud a note is."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job exists from here on; it is always the first thing a job's operation yields."""

    id: str


@dataclass(frozen=True, slots=True)
class Record:
    """One journal record of a run, as it stands in the journal."""

    run: str
    source: str  # "trainer" | "supervisor"
    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Progress:
    """The latest state of something long that is not a run; `total` 0 means unknown."""

    label: str
    done: float
    total: float = 0.0
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """A line for a person: stderr in batch, a toast in the terminal application."""

    text: str
    level: Level = Level.INFO


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of streamed output (generated text, a log line) that belongs on stdout as it is, newline included."""

    text: str


@dataclass(frozen=True, slots=True)
class Item:
    """One JSON object of an endless answer (`system watch`, `runs events --follow`), printed as a line of its own."""

    type: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """The last thing an operation yields. `data` is JSON-ready; `exit_code` is 0 unless the contract says otherwise."""

    data: Any
    changed: bool = False
    exit_code: int = 0
    hint: str = ""
    next: tuple[str, ...] = field(default=())


Outcome: TypeAlias = Accepted | Record | Progress | Note | Text | Item | Result
