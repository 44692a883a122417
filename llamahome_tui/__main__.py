"""The command `llamahome`; it hands over to cli.py and imports nothing else."""

from __future__ import annotations

import sys

from llamahome_tui.cli import main

if __name__ == "__main__":
    sys.exit(main())
