"""What a key of ours may hold: one declaration gives the type, the default, the help, the check and the JSON Schema."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["bool", "int", "number", "text", "texts", "ints", "numbers", "table"]

_DEPTH = 20
_NO_NUL = "must not hold a NUL character"  # which no path and no command can
_KIND_NAMES: dict[Kind, str] = {
    "bool": "true or false",
    "int": "a whole number",
    "number": "a number",
    "text": "text in quotes",
    "texts": "a list of texts",
    "ints": "a list of whole numbers",
    "numbers": "a list of numbers",
    "table": "a table (dates in quotes)",
}


@dataclass(frozen=True, slots=True)
class Field:
    """The values a key may hold: any of `kinds`, or one of `words`; limits are inclusive but for `above`."""

    kinds: tuple[Kind, ...]
    help: str = ""
    words: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None

    def problem(self, value: Any) -> str | None:
        """What is wrong with `value`, in words that follow the key's name; None where nothing is."""
        if isinstance(value, str) and self.words and value in self.words:
            return None
        for kind in self.kinds:
            if _is(kind, value):
                return _NO_NUL if _has_nul(value) else self._out_of_range(value)
        if isinstance(value, str) and self.words and "text" not in self.kinds:
            close = _closest(value, self.words, 0.6)
            nearest = f'; did you mean "{close}"?' if close else ""
            return f'must be {self.describe()}, not "{_short(value)}"{nearest}'
        return f"must be {self.describe()}, not {_shown(value)}"

    def describe(self) -> str:
        """The allowed values in words."""
        parts = [f'"{word}"' for word in self.words]
        parts += [_KIND_NAMES[kind] + self._limits(kind) for kind in self.kinds]
        return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " or " + parts[-1]

    def _limits(self, kind: Kind) -> str:
        if kind not in ("int", "number"):
            return ""
        said = []
        if self.above is not None:
            said.append(f"over {_number(self.above)}")
        if self.minimum is not None:
            said.append(f"from {_number(self.minimum)}")
        if self.maximum is not None:
            said.append(f"up to {_number(self.maximum)}")
        return " " + " ".join(said) if said else ""

    def _out_of_range(self, value: Any) -> str | None:
        for number in value if isinstance(value, list | tuple) else (value,):
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            if not math.isfinite(number):
                return "must be a finite number"
            low = self.minimum is not None and number < self.minimum
            low = low or (self.above is not None and number <= self.above)
            if low or (self.maximum is not None and number > self.maximum):
                return f"must be {self.describe()}, not {number}"
        return None

    def json_schema(self, default: Any) -> dict[str, Any]:
        """This field as JSON Schema (2020-12)."""
        choices: list[dict[str, Any]] = [{"enum": list(self.words)}] if self.words else []
        choices += [self._kind_schema(kind) for kind in self.kinds]
        schema = choices[0] if len(choices) == 1 else {"anyOf": choices}
        said = {"description": self.help} if self.help else {}
        return schema | said | {"default": plain(default)}

    def _kind_schema(self, kind: Kind) -> dict[str, Any]:
        names = {"bool": "boolean", "int": "integer", "number": "number", "text": "string", "table": "object"}
        if kind in ("texts", "ints", "numbers"):
            return {"type": "array", "items": {"type": names[kind[:-1]]}}
        limits = {"minimum": self.minimum, "maximum": self.maximum, "exclusiveMinimum": self.above}
        schema: dict[str, Any] = {"type": names[kind]}
        if kind in ("int", "number"):
            schema |= {name: limit for name, limit in limits.items() if limit is not None}
        return schema


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of a schema, with its dotted name and its default."""

    key: str
    field: Field
    default: Any


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong in one file. `line` 0 means that no line is known (an option, the environment, a missing key)."""

    file: str
    line: int
    key: str
    reason: str
    nearest: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        known = f"; the nearest known key is {self.nearest}" if self.nearest else ""
        return f"{place}: {self.key}: {self.reason}{known}" if self.key else f"{place}: {self.reason}{known}"

    def as_dict(self) -> dict[str, Any]:
        """The form it has in an error's `data["errors"]`."""
        return dataclasses.asdict(self)


def option(
    default: Any,
    help: str,
    *kinds: Kind,
    words: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
) -> Any:
    """A dataclass field that carries its own `Field`; without `kinds` only `words` are allowed."""
    declared = Field(kinds, help, words, minimum, maximum, above)
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata={"field": declared})
    return dataclasses.field(default=default, metadata={"field": declared})


def schema_of(cls: type, prefix: str = "") -> dict[str, Entry]:
    """Every option of `cls` and its tables by dotted key, in the order they are declared."""
    entries: dict[str, Entry] = {}
    for one in dataclasses.fields(cls):
        made: Any = one.default_factory
        if isinstance(made, type) and dataclasses.is_dataclass(made):
            entries |= schema_of(made, f"{prefix}{one.name}.")
        elif "field" in one.metadata:
            default = one.default if made is dataclasses.MISSING else made()
            entries[prefix + one.name] = Entry(prefix + one.name, one.metadata["field"], default)
    return entries


def build(cls: type, values: Mapping[str, Any], prefix: str = "") -> Any:
    """An instance of `cls` from dotted keys; what is missing keeps its default, lists become tuples."""
    given: dict[str, Any] = {}
    for one in dataclasses.fields(cls):
        made: Any = one.default_factory
        if isinstance(made, type) and dataclasses.is_dataclass(made):
            given[one.name] = build(made, values, f"{prefix}{one.name}.")
        elif prefix + one.name in values:
            value = values[prefix + one.name]
            given[one.name] = tuple(value) if isinstance(value, list) else value
    return cls(**given)


def flatten(table: Mapping[str, Any], schema: Mapping[str, Entry], prefix: str = "") -> dict[str, Any]:
    """Dotted keys of nested tables; a key the schema knows is not opened further, so that its own table stays whole."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        key = f"{prefix}{name}"
        inside = isinstance(value, Mapping) and key not in schema
        if inside and (value or any(known.startswith(key + ".") for known in schema)):
            flat |= flatten(value, schema, f"{key}.")
        else:
            flat[key] = value
    return flat


def nearest_key(key: str, known: Iterable[str]) -> str:
    """The known key that `key` was most likely meant to be, or ""."""
    names = list(known)
    if close := _closest(key, names, 0.6):
        return close
    # `lr` or `training.lora.r`: compare the last word alone, which finds a right key in a wrong table.
    last = key.rsplit(".", 1)[-1]
    by_last = {name.rsplit(".", 1)[-1]: name for name in reversed(names)}
    close = _closest(last, by_last, 0.75)
    return by_last[close] if close else ""


def _closest(word: str, known: Iterable[str], cutoff: float) -> str:
    import difflib  # only a mistake pays for it

    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)), "")


def plain(value: Any) -> Any:
    """`value` as JSON knows it: tuples become lists."""
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    return value


def json_schema(schema: Mapping[str, Entry], title: str, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """A whole schema as JSON Schema (2020-12), tables as nested objects without further keys."""
    root: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
    for key, entry in schema.items():
        *tables, name = key.split(".")
        at = root
        for table in tables:
            empty = {"type": "object", "properties": {}, "additionalProperties": False}
            at = at["properties"].setdefault(table, empty)
        at["properties"][name] = entry.field.json_schema(entry.default)
        if key in required:
            at.setdefault("required", []).append(name)
            del at["properties"][name]["default"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title} | root


def _is(kind: Kind, value: Any) -> bool:
    if kind in ("texts", "ints", "numbers"):
        inner: Kind = "text" if kind == "texts" else "int" if kind == "ints" else "number"
        return isinstance(value, list | tuple) and all(_is(inner, one) for one in value)
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "text":
        return isinstance(value, str)
    return isinstance(value, Mapping) and _is_plain(value, _DEPTH)


def _is_plain(value: Any, depth: int) -> bool:
    """Whether JSON can hold it: TOML also has dates, times and infinity."""
    if isinstance(value, Mapping):
        return depth > 0 and all(_is_plain(one, depth - 1) for one in value.values())
    if isinstance(value, list | tuple):
        return depth > 0 and all(_is_plain(one, depth - 1) for one in value)
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def _has_nul(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_nul(one) for pair in value.items() for one in pair)
    if isinstance(value, list | tuple):
        return any(_has_nul(one) for one in value)
    return isinstance(value, str) and "\0" in value


def _number(limit: float) -> str:
    return str(int(limit)) if float(limit).is_integer() else f"{limit:g}"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{_short(value)}"'
    return _short(str(plain(value)))
