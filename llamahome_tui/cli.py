"""The command line: words to a screen of the terminal application or to one operation; standard library only at import."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run `llamahome` with these words (default: the process's own); gives the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    from llamahome_tui.batch.main import run

    return run(words)
