"""The trainer's process: takes the run's lock first, imports torch after, and ends with an event whatever happens."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

from llamahome_tui.errors import BusyError, LlamaHomeError
from llamahome_tui.jobs.child import Child


def main(run_dir: Path) -> int:
    """Train the run in this folder; gives the exit status. Works in a process forked from one that has torch loaded."""
    try:
        child = Child.enter(run_dir)
    except BusyError as error:
        os.write(2, f"{error.message}\n".encode())
        return error.exit
    try:
        from llamahome_tui.config.places import Places
        from llamahome_tui.training.trainer.recipe import train

        return train(child, Places.from_environ(os.environ))
    except LlamaHomeError as error:
        return child.fail(error.error_code, error.message, exception=type(error).__name__, hint=error.hint)
    except Exception as error:  # noqa: BLE001  # the wall of this process: every end is journalled
        traceback.print_exc()  # into out.log
        return child.fail(
            "training.crashed",
            f"{type(error).__name__}: {error}",
            exception=type(error).__name__,
            hint=f"see what it printed: llamahome --batch runs logs {child.run.id}",
        )
