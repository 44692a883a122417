"""The export's process: takes the job's lock first and imports torch after, like a trainer's."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from llamahome_tui.errors import BusyError, LlamaHomeError
from llamahome_tui.jobs.child import Child
from llamahome_tui.training.trainer.main import within_walls


def main(run_dir: Path) -> int:
    """Do the export of this job's folder; gives the exit status."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    try:
        child = Child.enter(run_dir)
    except BusyError as error:
        os.write(2, f"{error.message}\n".encode())
        return error.exit
    return within_walls(child, _export)


def _export(child: Child) -> int:
    try:
        from llamahome_tui.workers.export.stages import export
    except ModuleNotFoundError as error:
        raise LlamaHomeError(
            f"{error.name} is not installed for {sys.executable}",
            hint="install what exports need: pip install 'llamahome-tui[train]'",
            code="training.not_installed",
            exit_code=3,
        ) from error
    return export(child)
