"""Writes docs/parity.md from the registry: each operation with its command, and whether it changes something."""

from __future__ import annotations

import sys
from pathlib import Path

from llamahome_tui.operations import NOUNS, OPERATIONS, Argument, Operation, verbs

PAGE = Path(__file__).resolve().parents[1] / "docs" / "parity.md"


def page() -> str:
    """The text of docs/parity.md."""
    lines = [
        "# Both faces",
        "",
        "Made from the registry by `make docs`; do not edit. Each operation runs as `llamahome --batch ...` in a",
        "script, and in the terminal application from the palette (`:` or ctrl+p) under the same words. Both go",
        "through one function, one access log line and the same errors.",
        "",
        f"{len(OPERATIONS)} operations.",
    ]
    for noun, meaning in NOUNS.items():
        lines += ["", f"## {noun}", "", f"{meaning[:1].upper()}{meaning[1:]}.", ""]
        lines += ["| command | what it does | changes something |", "| --- | --- | --- |"]
        for operation in verbs(noun):
            changes = "asks first" if operation.destructive else "yes" if operation.changes else ""
            lines.append(f"| `{_escaped(usage(operation))}` | {_escaped(operation.help)} | {changes} |")
    return "\n".join(lines) + "\n"


def usage(operation: Operation) -> str:
    """`runs list [--status STATUS] [--limit LIMIT]`."""
    return " ".join([operation.name, *(_word(a) for a in operation.arguments)])


def _word(argument: Argument) -> str:
    value = argument.metavar or ("|".join(argument.choices) if argument.choices else argument.name.upper())
    if argument.shape == "rest":
        return f"-- {value}..."
    if argument.shape == "positional":
        word = value + ("..." if argument.many else "")
    elif argument.shape == "flag":
        word = argument.flag
    else:
        word = f"{argument.flag} {value}" + ("..." if argument.greedy else "")
    word = word if argument.required else f"[{word}]"
    return word + ("..." if argument.many and argument.shape == "option" and not argument.greedy else "")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
