"""The tables that translations are made of: for each key of theirs what becomes of it, in one line that can be read.

`To` carries a value over, `Of` is read by a named function together with others, `Left` says why there is nothing to
carry. A key without a line is named as unknown. `None` means not said, everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from llamahome_tui.config.fields import Mistake, nearest_key
from llamahome_tui.errors import ConfigError
from llamahome_tui.training.imports.book import CHANGES, HARMLESS, Book, Severity, shown
from llamahome_tui.training.imports.reading import Given

_MOST_NEAR: Final = 50  # keys that a known one is looked for: it takes milliseconds each
NOTHING: Final = (None, False, "", 0, "no", "none", "None", "null")  # a switch that is off leaves nothing to say


def whole(value: Any) -> int:
    """A whole number, also from a text or 10.0."""
    number = real(value)
    if not number.is_integer():
        raise ValueError("a whole number")
    return int(number)


def real(value: Any) -> float:
    """A number, also as YAML 1.1 leaves `2e-5`: a text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("a number")
    try:
        return float(value)
    except (ValueError, OverflowError):
        raise ValueError("a number") from None


def switch(value: Any) -> bool:
    """True or false, also as a command line has it."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in ("true", "1", "yes", "on", "t", "y"):
        return True
    if word in ("false", "0", "no", "off", "f", "n"):
        return False
    raise ValueError("true or false")


def text(value: Any) -> str:
    """Text; numbers and switches as they are written."""
    if isinstance(value, str | int | float):
        return shown(value) if isinstance(value, bool) else str(value)
    raise ValueError("text")


def names(value: Any) -> tuple[str, ...]:
    """A list of texts, also written with commas."""
    if isinstance(value, str):
        return tuple(one.strip() for one in value.split(",") if one.strip())
    if isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
        return tuple(str(one) for one in value)
    raise ValueError("a list of texts")


def short(value: float) -> float | int:
    """A number as people write it: 2 instead of 2.0."""
    return int(value) if float(value).is_integer() and abs(value) < 1 << 53 else value


@dataclass(frozen=True, slots=True)
class To:
    """Carried to `key`, read by `read`; `words` are their words and ours (None: the default, not written)."""

    key: str
    read: Callable[[Any], Any]
    words: Mapping[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Of:
    """Read by the function for `what`, together with other keys."""

    what: str


@dataclass(frozen=True, slots=True)
class Left:
    """Not carried. Values in `silent` mean nothing, and nothing is said of them."""

    reason: str
    severity: Severity = CHANGES
    silent: tuple[Any, ...] = NOTHING


Rule: TypeAlias = To | Of | Left
Table: TypeAlias = Mapping[str, Rule]


def harmless(reason: str, *silent: Any) -> Left:
    """Left, and the model that comes out is the same."""
    return Left(reason, HARMLESS, (*NOTHING, *silent))


class Source:
    """The keys of one file, read with their types; what does not read is a mistake of the file, all told at once."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.values = {key: value for key, value in given.values.items() if value is not None}
        self.mistakes: list[Mistake] = []

    def has(self, *keys: str) -> bool:
        """Whether one of them is said."""
        return any(key in self.values for key in keys)

    def first(self, *keys: str) -> str:
        """The first of these keys that is said, or ""."""
        return next((key for key in keys if key in self.values), "")

    def get(self, key: str, read: Callable[[Any], Any], default: Any = None) -> Any:
        """The value of a key as `read` gives it; the default where it is not said or does not read."""
        if key not in self.values:
            return default
        try:
            return read(self.values[key])
        except ValueError as expected:
            self.mistake(key, f"must be {expected}, not {shown(self.values[key])}")
            return default

    def on(self, key: str) -> bool:
        """Whether a switch is said to be on."""
        return bool(self.get(key, switch, False))

    def mistake(self, key: str, reason: str) -> None:
        """Note what is wrong with a key's value."""
        one = Mistake(self.given.source, self.given.lines.get(key, 0), key, reason)
        if one not in self.mistakes:
            self.mistakes.append(one)

    def refuse_mistakes(self) -> None:
        """Raises ConfigError `import.invalid` with every mistake, where there is one."""
        if self.mistakes:
            said = [str(one) for one in self.mistakes]
            raise ConfigError(
                said[0] if len(said) == 1 else f"{len(said)} mistakes in {self.given.source}:\n" + "\n".join(said),
                code="import.invalid",
                hint="mend the file, then: llamahome --batch train init --from FILE",
                data={"errors": [one.as_dict() for one in self.mistakes]},
            )


def follow(table: Table, source: Source, book: Book) -> None:
    """Carry or name every key of the file by its line in the table; keys that functions read are passed over."""
    unknown = 0
    for key, value in source.values.items():
        rule = table.get(key)
        if rule is None:
            unknown += 1
            near = nearest_key(key, table) if unknown <= _MOST_NEAR and len(key) <= 60 else ""
            book.leave(key, value, f"is no key of {book.tool} that is known here" + (f"; near: {near}" if near else ""))
        elif isinstance(rule, To):
            _carry(rule, key, source, book)
        elif isinstance(rule, Left) and not _is_silent(value, rule.silent):
            book.leave(key, value, rule.reason, rule.severity)
    for key, first, second in source.given.twice:
        lines = f", on lines {first} and {second}" if first else ""
        book.leave(key, "", f"stands twice{lines}; the last one counts, as it does there", HARMLESS)


def _carry(rule: To, key: str, source: Source, book: Book) -> None:
    before = len(source.mistakes)
    value = source.get(key, rule.read)
    if len(source.mistakes) > before:
        return
    if rule.words:
        if value not in rule.words:
            book.leave(key, value, f"{rule.key} has no such word")
            return
        value = rule.words[value]
    if value is not None:
        book.set(rule.key, short(value) if isinstance(value, float) else value, key)


def _is_silent(value: Any, silent: Iterable[Any]) -> bool:
    if isinstance(value, list | dict):
        return not value
    return any(value is one or (type(value) is type(one) and value == one) for one in silent) or (
        isinstance(value, str) and value.lower() == "false"
    )


def rows(table: Table) -> Iterator[tuple[str, str, str]]:
    """(key, where it goes, what is said) of each line of a table, for the documentation."""
    for key, rule in sorted(table.items()):
        if isinstance(rule, To):
            words = ", ".join(f"{theirs} is {ours or 'the default'}" for theirs, ours in rule.words.items())
            yield key, f"`{rule.key}`", words
        elif isinstance(rule, Of):
            yield key, rule.what, ""
        else:
            yield key, "left: " + rule.severity.value, rule.reason
