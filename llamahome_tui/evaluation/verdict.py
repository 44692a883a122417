"""A user's command as the judge of an answer: JSON on its stdin, no shell, a time limit, and never left behind."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llamahome_tui.config.secrets import redact, strip_secrets
from llamahome_tui.errors import ConfigError
from llamahome_tui.text import clean

_LOOK_S = 0.25
_READ = 4096  # bytes of its output that are looked at


class Failed(Exception):
    """The command gave no verdict; says why."""


def words_of(command: str, folder: Path, environ: Mapping[str, str]) -> list[str]:
    """The words of a command whose program is there. Raises ConfigError."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise _wrong(command, f"a quote is open: {error}") from None
    if not words:
        raise _wrong(command, "is empty")
    name = str(folder / words[0]) if "/" in words[0] else words[0]
    program = shutil.which(name, path=environ.get("PATH"))
    if program is None:
        raise _wrong(command, f"there is no program {words[0]}")
    return [program, *words[1:]]


def judge(
    words: list[str],
    row: Mapping[str, Any],
    folder: Path,
    environ: Mapping[str, str],
    timeout_s: float,
    alive: Callable[[], None] = lambda: None,
) -> float:
    """The score (0 to 1) that the command gives a row; raises Failed where it gives none.

    A number on the last line of its stdout is the score; without one, exit 0 is right. Exit 1 is wrong, any other
    a failure. However this is left, the command and what it started are gone. `alive` is called while it is waited
    for, and may raise.
    """
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as printed:
        told.write(json.dumps(row).encode() + b"\n")
        told.seek(0)
        try:
            process = subprocess.Popen(
                words, stdin=told, stdout=printed, stderr=printed, cwd=folder, env=strip_secrets(environ),
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise Failed(f"does not start: {error.strerror}") from None
        try:
            status = _waited(process, timeout_s, alive)
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        printed.seek(max(0, printed.seek(0, os.SEEK_END) - _READ))
        lines = printed.read().decode("utf-8", "replace").strip().splitlines()
    return _score(status, lines[-1] if lines else "")


def _waited(process: subprocess.Popen[bytes], timeout_s: float, alive: Callable[[], None]) -> int:
    end = time.monotonic() + timeout_s
    while True:
        left = end - time.monotonic()
        try:
            return process.wait(max(0.0, min(_LOOK_S, left)))
        except subprocess.TimeoutExpired:
            if left <= 0:
                raise Failed(f"was killed after {timeout_s:g} s") from None
        alive()


def _score(status: int, last: str) -> float:
    if status == 1:
        return 0.0
    if status != 0:
        said = f": {clean(redact(last), limit=200)}" if last else ""
        raise Failed((f"ended by signal {-status}" if status < 0 else f"ended with exit code {status}") + said)
    try:
        score = float(last)
    except ValueError:
        return 1.0
    if not 0 <= score <= 1:
        raise Failed(f"printed {clean(last, limit=40)}, and a score is from 0 to 1")
    return score


def _wrong(command: str, reason: str) -> ConfigError:
    return ConfigError(
        f"--command {redact(command)}: {reason}",
        code="evaluate.command",
        hint="it reads a row as JSON on stdin: llamahome --batch evaluate --help",
    )
