"""Fields of a row, read with the type they must have; what is wrong names the field down to its last index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llamahome_tui.data.json_values import NotJson, decoded, kind_of, unusable


class RowError(Exception):
    """Why a row is no sample of its format. `field` is a path such as messages[2].content."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason


def text_of(value: Mapping[str, Any], field: str, *, at: str = "", optional: bool = False) -> str:
    """A text. `at` is the path to name where it is not the field itself; an optional one that is missing is ""."""
    found = value.get(field)
    if isinstance(found, str):
        return found
    if found is None and optional:
        return ""
    raise RowError(at or field, "is missing" if found is None else f"is no text but {kind_of(found)}")


def list_of(value: Mapping[str, Any], field: str) -> list[Any]:
    """A list with something in it; one written as JSON text, as CSV has to, counts."""
    found = value.get(field)
    if isinstance(found, str) and found.lstrip()[:1] == "[":
        found = json_of(found, field)
    if not isinstance(found, list):
        raise RowError(field, "is missing" if found is None else f"is no list but {kind_of(found)}")
    if not found:
        raise RowError(field, "is empty")
    return found


def json_of(text: str, field: str) -> Any:
    """A value that a row holds as JSON text: tools, calls, lists in CSV. Held to the same limits as the row."""
    try:
        value = decoded(text)
    except NotJson as broken:
        raise RowError(field, str(broken)) from None
    if reason := unusable(value):
        raise RowError(field, reason)
    return value


def yes_or_no(found: Any, field: str) -> bool:
    """true or false, also as 0, 1 or a text."""
    if isinstance(found, str):
        found = {"true": True, "false": False, "1": True, "0": False}.get(found.strip().lower())
    if isinstance(found, bool | int | float) and found in (0, 1):
        return bool(found)
    raise RowError(field, "must be true or false")
