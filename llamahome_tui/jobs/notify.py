"""Runs the user's command when a run has ended, with the result as JSON on its stdin; it can delay or break nothing."""

from __future__ import annotations

import json
import os
import select
import shlex
import signal
import subprocess
import time
from typing import Any, Final

from llamahome_tui.config.secrets import redact, strip_secrets
from llamahome_tui.jobs.status import Status
from llamahome_tui.jobs.store import Run

TIMEOUT_S: Final = 60.0
_FAILED: Final = frozenset({Status.FAILED, Status.LOST, Status.INTERRUPTED})
_KEPT: Final = 2000  # bytes of the command's output that are reported


def command_for(run: Run, status: Status) -> str:
    """The command that this end asks for: `on_fail` for a failure where one is set, else `on_end`; "" for none."""
    job = run.effective_job()
    spec = job.get("spec")
    # The spec speaks first, and with what a resume has changed in it; then the settings of whoever submitted the run.
    places = [spec.get("notify") if isinstance(spec, dict) else None, job.get("notify")]

    def said(key: str) -> str:
        return next((str(place[key]) for place in places if isinstance(place, dict) and place.get(key)), "")

    return (said("on_fail") if status in _FAILED else "") or said("on_end")


def notify(run: Run, status: Status, *, timeout_s: float = TIMEOUT_S) -> dict[str, Any] | None:
    """Run the command and report how it went, as fields of a `notify` record; None when there is none. Never raises.

    No shell reads the command. It gets no secrets from the environment, and is killed with its children after
    `timeout_s` seconds.
    """
    command = command_for(run, status)
    if not command:
        return None
    begun = time.monotonic()
    outcome: dict[str, Any] = {"command": redact(command), "code": None, "problem": ""}
    try:
        words = shlex.split(command)
        if not words:
            return None
        code, printed = _run(
            words, _result(run, status), strip_secrets(os.environ) | {"LLAMAHOME_RUN_ID": run.id}, timeout_s
        )
    except (OSError, ValueError) as error:
        outcome["problem"] = f"it could not be run: {error}"
    except subprocess.TimeoutExpired:
        outcome["problem"] = f"it was killed after {timeout_s:g} s"
    else:
        outcome["code"] = code
        if code != 0:
            outcome["problem"] = f"it ended with exit code {code}"
            outcome["printed"] = redact(printed)
    outcome["seconds"] = round(time.monotonic() - begun, 3)
    return outcome


def _run(words: list[str], stdin: bytes, environ: dict[str, str], timeout_s: float) -> tuple[int, str]:
    # The result lies in memory, so that a command that never reads it holds nobody up.
    told = os.memfd_create("result")
    try:
        os.write(told, stdin)
        os.lseek(told, 0, os.SEEK_SET)
        process = subprocess.Popen(
            words, stdin=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=environ, start_new_session=True, close_fds=True,
        )  # fmt: skip
    finally:
        os.close(told)
    with process:
        try:
            printed = _last_words(process, time.monotonic() + timeout_s)
        except BaseException:
            # Its whole session: a grandchild that keeps the pipe open would hold us just as long.
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            raise
    return process.returncode, printed.decode("utf-8", "replace")


def _last_words(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """The end of what it prints, once it has ended, however much that is. Raises TimeoutExpired."""
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    printed = b""
    ready = select.poll()
    ready.register(pipe, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not ready.poll(left * 1000):
            raise subprocess.TimeoutExpired(process.args, left)
        data = os.read(pipe, 1 << 16)
        if not data:
            process.wait(max(0.0, deadline - time.monotonic()))
            return printed
        printed = (printed + data)[-_KEPT:]


def _result(run: Run, status: Status) -> bytes:
    from llamahome_tui.jobs.view import summarise

    view = summarise(run, full=True).to_dict()
    # Decided by who calls: a moment later the same files say the same, but its own lock is still held now.
    view["status"] = status.value
    return json.dumps(view, allow_nan=False).encode() + b"\n"
