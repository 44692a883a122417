"""A row as it stands in a file, and one that cannot be used: both say where they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from llamahome_tui.data.json_values import kind_of, unusable
from llamahome_tui.data.limits import MAX_DEPTH

WAYS_OUT = "; ways out: "  # in a reason, before what would make the row usable


@dataclass(frozen=True, slots=True)
class Row:
    """One row by its columns and where it starts: a line, or the row's number where rows share lines or have none."""

    file: str
    line: int
    value: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Bad:
    """A row that cannot be used; `field` is "" where the row as a whole is broken, `line` 0 where the file is."""

    file: str
    line: int
    field: str
    reason: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.field}: {self.reason}" if self.field else f"{place}: {self.reason}"

    def as_dict(self) -> dict[str, Any]:
        """The form it has in `data["bad"]`."""
        return {"file": self.file, "line": self.line, "field": self.field, "reason": self.reason}


Read: TypeAlias = Row | Bad


def row_of(value: Any, name: str, line: int, *, look: bool = True) -> Read:
    """A decoded value as a row. `look`: it may hold what a tokenizer does not take."""
    if not isinstance(value, dict):
        return Bad(name, line, "", f"is no object but {kind_of(value)}")
    if look:
        for field, one in value.items():
            if reason := unusable(one, MAX_DEPTH) or unusable(field, 1):
                return Bad(name, line, field[:80].encode(errors="replace").decode(), reason)
    return Row(name, line, value)
