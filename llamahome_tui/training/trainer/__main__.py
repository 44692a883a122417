"""`python -m llamahome_tui.training.trainer RUN_DIR`: what a supervisor starts."""

from __future__ import annotations

import sys
from pathlib import Path

from llamahome_tui.training.trainer.main import main

if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
