"""`runs exec`: any command as a run, with the same queue, logs, survival and notification as training."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamahome_tui.config.secrets import holds_token, secret_values
from llamahome_tui.errors import NotFoundError, UsageError
from llamahome_tui.jobs import spawn
from llamahome_tui.jobs.commands.following import ending, environ_of_jobs, stay_with
from llamahome_tui.jobs.status import derive
from llamahome_tui.jobs.submit import submit
from llamahome_tui.outcome import Accepted, Outcome, Result
from llamahome_tui.training.rules import NAME

if TYPE_CHECKING:
    from llamahome_tui.context import Context


def exec_command(
    context: Context, name: str, command: Sequence[str], detach: bool = False, devices: str = "auto"
) -> Iterator[Outcome]:
    """Run a command as a job named `name`, and follow it unless `detach`; Ctrl+C leaves it running.

    The command starts in this folder with this environment, less its secrets. Raises UsageError, NotFoundError when
    there is no such command, BusyError when the name is live, ResourceError when the machine lacks the devices.
    """
    job = {
        "name": _name(name),
        "kind": "exec",
        "command": _command(context, command),
        "cwd": str(context.cwd),
        "umask": _umask(),
        "devices": _devices(devices),
        "recovery": {"retries": 0},
        "notify": {"on_end": context.settings.notify.on_end, "on_fail": context.settings.notify.on_fail},
        "tags": [],
    }
    run = submit(context, job)
    yield Accepted(run.id)
    spawn.launch(run, environ_of_jobs(context))
    if detach:
        after = (f"llamahome --batch runs watch {run.id}",)
        yield Result(ending(run, derive(run)), changed=True, next=after)
        return
    yield from stay_with(context, run, "start", changed=True)


def _name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name[:64]!r} is no name: letters, digits, dots, dashes and underscores, at most 64",
            hint="as in: llamahome --batch runs exec --name my-run -- COMMAND",
        )
    return name


def _refuse_secrets(context: Context, command: Sequence[str]) -> None:
    """A command line is readable by every user of the machine, and it would stand in the run's spec."""
    known = secret_values(context.environ)
    if any(holds_token(word, known) for word in command):
        raise UsageError(
            "the command holds a token, which every user of this machine could read",
            hint="let the program read it from a file of yours; for the Hub: hf auth login",
            code="usage.secret",
        )


def _command(context: Context, command: Sequence[str]) -> list[str]:
    """The command with its program as a path, found as a shell in this folder would find it."""
    if not command or not command[0]:
        raise UsageError(
            "give the command after --", hint="as in: llamahome --batch runs exec --name my-run -- python train.py"
        )
    _refuse_secrets(context, command)
    program = command[0]
    if "/" in program:
        path = context.cwd / program
        found = str(path) if path.is_file() and os.access(path, os.X_OK) else None
    else:
        found = shutil.which(program, path=context.environ.get("PATH", os.defpath))
    if found is None:
        there = Path(context.cwd, program).is_file()
        raise NotFoundError(
            f"{program} is no program" + (": it is a file that may not be executed" if there else " on the PATH"),
            code="exec.not_found",
            hint=f"run it through its interpreter: llamahome --batch runs exec --name NAME -- python {program}"
            if there
            else "name it with its path: llamahome --batch runs exec --name NAME -- ./script.sh",
        )
    return [os.path.join(context.cwd, found), *command[1:]]  # noqa: PTH118 (the link itself, not what it points to)


def _umask() -> int:
    """The caller's; read without setting it, which other threads would notice. -1 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return -1
    return next((int(line.split()[1], 8) for line in lines if line.startswith("Umask:")), -1)


def _devices(text: str) -> Any:
    """`auto`, `cpu`, a number of devices, or a list of their indexes."""
    if text in ("auto", "cpu"):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if (
        isinstance(value, list)
        and value
        and all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in value)
    ):
        return value
    raise UsageError(
        f"--devices {text!r} is neither auto, cpu, a number, nor a list such as [0, 1]",
        hint="as in: llamahome --batch runs exec --name my-run --devices [0,1] -- python train.py",
    )
