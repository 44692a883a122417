"""The first frame: one write to the terminal before anything heavy is imported; standard library only.

It goes to the alternate screen, where the application paints over it; `clear` leaves that screen again when the
application could not start.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

_LLAMA = (
    "   ▄  ▄      ",
    "   █▄▄█      ",
    "   █▀▀██     ",
    "   ▀█▄█▀     ",
    "    ███▄▄▄▄▄▖",
    "    ████████▌",
    "    ▐█▌  ▐█▌ ",
    "    ▐█▌  ▐█▌ ",
)
_NAME = "L l a m a H o m e"
_ASCII = ("LlamaHome",)


def plain(environ: Mapping[str, str], encoding: str | None) -> bool:
    """Whether only ASCII may be drawn: a dumb terminal, or a locale that is not UTF-8."""
    poor = environ.get("TERM", "") in ("", "dumb") or c_locale(environ)
    return poor or (encoding or "").lower().replace("-", "") != "utf8"


def c_locale(environ: Mapping[str, str]) -> bool:
    """Whether the user says by hand that there is no UTF-8; Python calls it UTF-8 all the same."""
    return environ.get("LC_ALL", "") in ("C", "POSIX")


def frame(columns: int, rows: int, ascii_only: bool, colour: bool) -> str:
    """The frame for a terminal of this size; a terminal that is too small gets the name alone."""
    art = _ASCII if ascii_only or rows < 14 or columns < 24 else (*_LLAMA, "", _NAME)
    top = max(1, (rows - len(art)) // 2)
    parts = ["\x1b[?1049h\x1b[?25l\x1b[2J"]
    width = max(len(line) for line in art)
    for offset, line in enumerate(art):
        left = max(1, (columns - width) // 2 + 1) if line != _NAME else max(1, (columns - len(line)) // 2 + 1)
        parts.append(f"\x1b[{top + offset};{left}H{line}")
    if colour:
        parts.insert(1, "\x1b[38;5;215m")
        parts.append("\x1b[0m")
    return "".join(parts)


def draw() -> None:
    """Write the frame; a terminal that refuses it is left to the application."""
    try:
        columns, rows = os.get_terminal_size(1)
        text = frame(columns, rows, plain(os.environ, sys.stdout.encoding), "NO_COLOR" not in os.environ)
        os.write(1, text.encode("ascii" if plain(os.environ, sys.stdout.encoding) else "utf-8", "replace"))
    except OSError:
        return


def clear() -> None:
    """Give the terminal back as it was, for a start that failed after the splash."""
    try:
        os.write(1, b"\x1b[?1049l\x1b[?25h\x1b[0m")
    except OSError:
        return
