"""What a person's stdout can show: how wide it is, and how text can be marked on it; plain where it is no terminal."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO


@dataclass(frozen=True, slots=True)
class Paper:
    """`marks` whether escape sequences may underline, `colour` whether they may colour too, `symbols` whether letters
    beyond ASCII show."""

    columns: int = 80
    marks: bool = False
    colour: bool = False
    symbols: bool = True

    def learned(self, text: str) -> str:
        """Text that is learned: underlined, and green where colour is wanted."""
        if not self.marks or not text:
            return text
        return f"\x1b[{'4;32' if self.colour else '4'}m{text}\x1b[0m"

    def faint(self, text: str) -> str:
        """Text that only helps reading."""
        return f"\x1b[2m{text}\x1b[0m" if self.marks and text else text


def paper_of(stdout: TextIO, environ: Mapping[str, str]) -> Paper:
    """What this stdout can show. NO_COLOR (https://no-color.org) takes the colour and leaves the underline."""
    symbols = (getattr(stdout, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"
    if not stdout.isatty():
        return Paper(symbols=symbols)
    try:
        columns = os.get_terminal_size(stdout.fileno()).columns or 80
    except (OSError, ValueError):
        columns = 80
    marks = environ.get("TERM", "") not in ("", "dumb")
    return Paper(columns, marks, marks and not environ.get("NO_COLOR"), symbols)
