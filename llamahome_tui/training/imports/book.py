"""What a translation has come to: the spec's values with where each comes from, and what did not come along.

A value that the spec's schema refuses never gets into it; it is named with the rest that was left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, Final

from llamahome_tui.config.fields import plain
from llamahome_tui.config.secrets import REDACTED, is_secret_name, redact
from llamahome_tui.text import clean
from llamahome_tui.training.shape import SCHEMA

_SHOWN: Final = 120  # characters of a value that is only told
_WORDS_OF_A_TOKENIZER: Final = ("bos_token", "eos_token", "pad_token", "unk_token", "tokens", "special_tokens")


class Severity(str, Enum):
    """Whether the model that comes out can be another one for it."""

    HARMLESS = "harmless"
    CHANGES = "changes training"


HARMLESS: Final = Severity.HARMLESS
CHANGES: Final = Severity.CHANGES


@dataclass(frozen=True, slots=True)
class Told:
    """A key of theirs that the spec does not hold as it was, what it said, and why."""

    key: str
    value: str
    reason: str
    severity: Severity

    def to_dict(self) -> dict[str, str]:
        """Plain JSON."""
        return asdict(self) | {"severity": self.severity.value}


@dataclass(frozen=True, slots=True)
class Fetch:
    """A data set of the Hub, the file that the spec names for it, and what makes that file ("" where none is known)."""

    id: str
    file: str
    command: str

    def to_dict(self) -> dict[str, str]:
        """Plain JSON."""
        return asdict(self)


@dataclass(slots=True)
class Book:
    """One translation while it is made: `values` by dotted keys of the spec, `origins` their keys behind each."""

    tool: str
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    left: list[Told] = field(default_factory=list)
    changed: list[Told] = field(default_factory=list)
    fetches: list[Fetch] = field(default_factory=list)

    def set(self, key: str, value: Any, origin: str) -> None:
        """Put a value into the spec. `origin` is their key, or the words `default of TOOL`."""
        problem = SCHEMA[key].field.problem(plain(value))
        if problem:
            self.leave(origin, value, f"{key} {problem}")
            return
        self.values[key] = value
        self.origins[key] = clean(origin, limit=_SHOWN)

    def default(self, key: str, value: Any, *, theirs: str = "") -> None:
        """What their tool does where nothing is said, unless the spec has something for that key already."""
        if key not in self.values:
            self.set(key, value, f"{self.tool}'s default" + (f" of {theirs}" if theirs else ""))

    def leave(self, key: str, value: Any, reason: str, severity: Severity = CHANGES) -> None:
        """Name what the spec does not hold."""
        self._tell(self.left, key, value, reason, severity)

    def change(self, key: str, value: Any, reason: str, severity: Severity = CHANGES) -> None:
        """Name what the spec holds with another meaning."""
        self._tell(self.changed, key, value, reason, severity)

    def drop(self, key: str, reason: str) -> bool:
        """Take a key out again because the spec as a whole can't have it; whether it was there."""
        if key not in self.values:
            return False
        self.leave(self.origins.pop(key), self.values.pop(key), f"{key} {reason}")
        return True

    def _tell(self, told: list[Told], key: str, value: Any, reason: str, severity: Severity) -> None:
        one = Told(clean(key, limit=_SHOWN), _without_secrets(key, value), clean(reason, limit=600), severity)
        if one not in told:
            told.append(one)


def _without_secrets(key: str, value: Any) -> str:
    """The value as it is told; a spec is kept and shown, so that a token of the file must not get into it."""
    last = key.rpartition(".")[2]
    if last in _WORDS_OF_A_TOKENIZER:
        return shown(value)
    if isinstance(value, str) and is_secret_name(last):
        return REDACTED
    return redact(shown(value))


def shown(value: Any) -> str:
    """A value of theirs in one short line, as their file would have it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return clean("[" + ", ".join(shown(one) for one in value[:20]) + "]", limit=_SHOWN)
    if isinstance(value, Mapping):
        pairs = list(value.items())[:20]
        return clean("{" + ", ".join(f"{shown(name)}: {shown(one)}" for name, one in pairs) + "}", limit=_SHOWN)
    return clean(str(value), limit=_SHOWN)
