"""The spec as a commented file: each value with the key that it comes from, then all that is not as it was."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final

from llamahome_tui.config.fields import plain
from llamahome_tui.text import clean
from llamahome_tui.training.imports.book import Book, Fetch, Severity, Told
from llamahome_tui.training.shape import SCHEMA

_COLUMN: Final = 42
_WIDTH: Final = 100
_HEAD: Final = """\
# A training spec made from {source}, which is {a} {tool} configuration.
# What is not here has LlamaHome's defaults: llamahome --batch train init shows them all.
# Relative paths start at this file's folder. See what it would do:  llamahome --batch train plan THIS_FILE"""


def write(book: Book, source: str) -> str:
    """The spec's text; `source` is the name of the file that it is made from."""
    a = "an" if book.tool[0] in "AEIOU" else "a"
    lines = [_HEAD.format(source=clean(source, limit=200), tool=book.tool, a=a)]
    table = ""
    if "name" in book.values:
        lines.append("")
    for key in SCHEMA:
        if key not in book.values:
            continue
        above, _, name = key.rpartition(".")
        if above != table:
            table = above
            lines.append(f"\n[{table}]")
        if key == "data.train":
            lines += _fetched(book.fetches)
        written = f"{name} = {toml(plain(book.values[key]))}"
        origin = f"from {book.origins[key]}"
        beside = f"{written:<{_COLUMN}}# {origin}"
        lines += [beside] if len(beside) <= 118 and len(written) < _COLUMN else [f"# {origin}", written]
    for title, told in (
        ("Carried over with another meaning:", book.changed),
        ("Left out, and training is another one without it:", [t for t in book.left if t.severity is Severity.CHANGES]),
        ("Left out, and nothing is lost:", [t for t in book.left if t.severity is Severity.HARMLESS]),
    ):
        if told:
            lines += ["", f"# {title}", *(line for one in told for line in _told(one))]
    return "\n".join(lines) + "\n"


def _told(one: Told) -> list[str]:
    said = f"{one.key} = {one.value}" if one.value else one.key
    return [
        f"#{'   ' if at else ' - '}{line}" for at, line in enumerate(textwrap.wrap(f"{said}: {one.reason}", _WIDTH))
    ]


def _fetched(fetches: Sequence[Fetch]) -> list[str]:
    lines: list[str] = []
    for one in fetches:
        lines.append(
            f"# {one.id} is a data set of the Hub. Make its file beside this one" + (":" if one.command else ".")
        )
        if one.command:
            lines.append(f"#   {one.command}")
    return lines


def toml(value: Any) -> str:
    """A value as TOML, on one line; `${` is kept from being read as a variable."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(re.sub(r"\$(?=\$*\{)", "$$$$", value) if "${" in value else value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(one) for one in value) + "]"
    if isinstance(value, Mapping):
        if not value:
            return "{}"
        return "{ " + ", ".join(f"{_name(str(name))} = {toml(one)}" for name, one in value.items()) + " }"
    if isinstance(value, float):
        text = repr(value)
        return text if "." in text or "e" not in text else text.replace("e", ".0e")
    return str(value)


def _name(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)
