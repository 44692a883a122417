"""TOML read with tomllib, and the line each key stands on, found only when a mistake has to be named."""

from __future__ import annotations

import re
from typing import Any

from llamahome_tui.config.fields import Mistake

MAX_CHARACTERS = 1 << 20
_KEY = re.compile(r"""\s*(?:([A-Za-z0-9_-]+)|"((?:[^"\\\n]|\\.)*)"|'([^'\n]*)')[ \t]*""")
_LINE_IN_MESSAGE = re.compile(r"\(at line (\d+), column \d+\)")


def parse(text: str, source: str) -> tuple[dict[str, Any], Mistake | None]:
    """The tables of `text`, or {} and the one mistake that keeps it from being TOML."""
    import tomllib

    if len(text) > MAX_CHARACTERS:
        return {}, Mistake(source, 0, "", f"it is longer than {MAX_CHARACTERS // 1024} KiB, so this is the wrong file")
    try:
        return tomllib.loads(text), None
    except tomllib.TOMLDecodeError as error:
        said = str(error)
        found = _LINE_IN_MESSAGE.search(said)
        line = int(found[1]) if found else text.count("\n") + 1
        reason = _LINE_IN_MESSAGE.sub("", said).replace("(at end of document)", "").strip()
        return {}, Mistake(source, line, "", f"not TOML: {reason}")
    except RecursionError:
        return {}, Mistake(source, 0, "", "not TOML: it is nested too deep")


def key_lines(text: str) -> dict[str, int]:
    """The line (from 1) of every table header and key by dotted name; `text` must be valid TOML.

    Keys inside an inline table are not listed: they stand on their statement's line.
    """
    lines: dict[str, int] = {}
    table: tuple[str, ...] = ()
    at, line = 0, 1
    while at < len(text):
        character = text[at]
        if character == "\n":
            line += 1
            at += 1
        elif character in " \t\r":
            at += 1
        elif character == "#":
            at = _line_end(text, at)
        elif character == "[":
            while text[at] == "[":
                at += 1
            table, at = _dotted(text, at)
            lines.setdefault(".".join(table), line)
            at = _line_end(text, at)
        else:
            names, at = _dotted(text, at)
            lines.setdefault(".".join(table + names), line)
            for length in range(1, len(names)):
                lines.setdefault(".".join(table + names[:length]), line)
            end = _value_end(text, at)
            line += text.count("\n", at, end)
            at = end
    return lines


def line_of(lines: dict[str, int], key: str) -> int:
    """The line of `key`, or of the nearest table around it, or 0."""
    while key:
        if key in lines:
            return lines[key]
        key = key.rpartition(".")[0]
    return 0


def _dotted(text: str, at: int) -> tuple[tuple[str, ...], int]:
    names: list[str] = []
    while found := _KEY.match(text, at):
        names.append(next(name for name in found.groups() if name is not None))
        at = found.end()
        if not text.startswith(".", at):
            break
        at += 1
    return tuple(names), at + (0 if names else 1)


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _value_end(text: str, at: int) -> int:
    """Where the value that starts at or after `at` ends: the newline outside every string and bracket."""
    depth = 0
    while at < len(text):
        character = text[at]
        if character in "\"'":
            at = _string_end(text, at)
            continue
        if character == "#":
            at = _line_end(text, at)
            continue
        if character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        elif character == "\n" and depth <= 0:
            return at
        at += 1
    return at


def _string_end(text: str, at: int) -> int:
    quote = text[at]
    triple = quote * 3
    if text.startswith(triple, at):
        at += 3
        while at < len(text) and not text.startswith(triple, at):
            at += 2 if quote == '"' and text[at] == "\\" else 1
        at += 3
        while text.startswith(quote, at):  # up to two quotes may stand before the closing three
            at += 1
        return at
    at += 1
    while at < len(text) and text[at] not in (quote, "\n"):
        at += 2 if quote == '"' and text[at] == "\\" else 1
    return at + 1
