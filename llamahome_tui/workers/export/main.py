"""The export's process: takes the job's lock first and imports torch after, like a trainer's."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Final

from llamahome_tui.errors import BusyError, LlamaHomeError
from llamahome_tui.jobs.child import Child
from llamahome_tui.training.trainer.main import within_walls

_MMAP_THRESHOLD: Final = -3  # of mallopt(3)
_LARGE: Final = 1 << 20  # bytes


def give_back_at_once() -> None:
    """Let each tensor's memory go back when it is freed: glibc keeps blocks of up to 32 MiB, and holes between them."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_MMAP_THRESHOLD, _LARGE)


def main(run_dir: Path) -> int:
    """Do the export of this job's folder; gives the exit status."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    give_back_at_once()
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
