"""`python -m llamahome_tui.workers.export RUN_DIR`: the process of one export, from the job's folder to its end."""

import os
import sys
from pathlib import Path

from llamahome_tui.workers.export.main import main

if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # every record is written; what libraries would do at exit is not waited for
