"""`train init`: a commented spec made from the schema; read back, it holds the defaults and starts as it is."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from llamahome_tui.outcome import Outcome, Result
from llamahome_tui.training.spec import SCHEMA
from llamahome_tui.training.support import LIMITS

if TYPE_CHECKING:
    from llamahome_tui.context import Context

# What has no default of its own: an example that runs.
_EXAMPLES: dict[str, Any] = {"name": "first", "model.id": "demo", "data.train": ("demo",)}
# Writing these is consent, even to the default: they stand as comments.
_SAID_IS_MEANT = ("data.long",)
_HEAD = """\
# A training spec. Start it:  llamahome --batch train start THIS_FILE
# Everything but model.id and data.train may be left out; what stands here are the defaults.
# Relative paths start at this file's folder; ${VAR} is replaced from the environment."""
_COLUMN = 42


def init(context: Context, method: str = "sft") -> Iterator[Outcome]:
    """A commented spec for a method, as the result's `text`."""
    text = spec_text()
    yield Result({"method": method, "text": text})


def spec_text() -> str:
    """A spec with every key that has an effect in this version, its default, and what it means."""
    lines = [_HEAD]
    table = ""
    for key, entry in SCHEMA.items():
        if key in LIMITS and len(LIMITS[key][0]) == 1 and key != "method.kind":
            continue  # there is nothing to choose yet
        *tables, name = key.split(".")
        if tables and tables[0] != table:
            table = tables[0]
            lines.append(f"\n[{table}]")
        elif not tables and len(lines) == 1:
            lines.append("")
        allowed = LIMITS[key][0] if key in LIMITS else ()
        told = " | ".join(str(one) for one in allowed) if allowed else entry.field.help
        mark = "# " if key in _SAID_IS_MEANT else ""
        lines += _line(f"{mark}{name} = {_toml(_EXAMPLES.get(key, entry.default))}", told)
    return "\n".join(lines) + "\n"


def _line(written: str, told: str) -> list[str]:
    """A key with its help behind it, or above it where that is long."""
    beside = f"{written:<{_COLUMN}}# {told}"
    if len(beside) <= 118 and len(written) <= _COLUMN:
        return [beside]
    return [*(f"# {one}" for one in textwrap.wrap(told, 100)), written]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    return "{}" if isinstance(value, dict) else str(value)
