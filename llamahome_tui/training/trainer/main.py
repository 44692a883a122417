"""The trainer's process: takes the run's lock first, imports torch after, and ends with an event whatever happens."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from llamahome_tui.errors import BusyError, LlamaHomeError
from llamahome_tui.jobs.child import FIRST_RANK, Child

FINAL = (2, 3, 4, 8)  # exit codes of errors that another attempt would only meet again


def main(run_dir: Path) -> int:
    """Train the run in this folder; gives the exit status. Works in a process forked from one that has torch loaded.

    With RANK in the environment, as this program or torchrun sets it, it is one of several, of which the first holds
    the run and the others help.
    """
    # Threads that spin at every barrier make a step 6 times slower as soon as another process wants a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if os.environ.get("RANK", "0") != "0" and os.environ.keys() & {FIRST_RANK, "TORCHELASTIC_RUN_ID"}:
        from llamahome_tui.training.trainer.follow import follow

        return follow(run_dir)
    try:
        child = Child.enter(run_dir)
    except BusyError as error:
        os.write(2, f"{error.message}\n".encode())
        return error.exit
    return within_walls(child, _train)


def within_walls(child: Child, work: Callable[[Child], int]) -> int:
    """Do a job's work; whatever it raises is journalled, and the job has failed."""
    try:
        return work(child)
    except LlamaHomeError as error:
        return _failed(child, error)
    except Exception as error:  # noqa: BLE001 - the wall of this process: every end is journalled
        traceback.print_exc()  # into out.log
        return _failed(
            child,
            LlamaHomeError(
                f"{type(error).__name__}: {error}",
                hint=f"see what it printed: llamahome --batch runs logs {child.run.id}",
                code="training.crashed",
            ),
            type(error).__name__,
        )


def _train(child: Child) -> int:
    from llamahome_tui.config.places import Places

    try:
        from llamahome_tui.training.trainer.recipe import train
    except ModuleNotFoundError as error:
        raise LlamaHomeError(
            f"{error.name} is not installed for {sys.executable}",
            hint="install what training needs: pip install 'llamahome-tui[train]'",
            code="training.not_installed",
            exit_code=3,
        ) from error
    return train(child, Places.from_environ(os.environ))


def _failed(child: Child, error: LlamaHomeError, exception: str = "") -> int:
    return child.fail(
        error.error_code,
        error.message,
        exception=exception or type(error).__name__,
        hint=error.hint,
        step=error.data.get("step"),
        retry=error.exit not in FINAL,
        exit=error.exit,
    )
