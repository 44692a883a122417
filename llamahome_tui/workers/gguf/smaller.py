"""Has llama-quantize make a smaller file of one that was written here, and reads back what it has made."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import gguf

from llamahome_tui.errors import TrainingError
from llamahome_tui.export.gguf.smaller import SMALLER, TOOL
from llamahome_tui.export.tensors import free_bytes

LOOK_EVERY_S: Final = 0.1
FULL: Final = 1 << 20  # bytes free, below which a failure is the disk's
KEPT: Final = ("PATH", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "SYSTEMROOT")  # no credentials
FILE_TYPES: Final = {"q4_k_m": gguf.LlamaFileType.MOSTLY_Q4_K_M}
# A killed export leaves no child behind that goes on writing.
START: Final = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None)
hasattr(libc, "prctl") and libc.prctl(1, signal.SIGKILL, 0, 0, 0)
os.getppid() == int(sys.argv[1]) or os.kill(os.getpid(), signal.SIGKILL)
os.execv(sys.argv[2], sys.argv[2:])
"""


def quantise(tool: str, source: Path, target: Path, kind: str, wait: Callable[[], None]) -> None:
    """Make `target` of `source`; what the tool prints goes to the job's log.

    `wait` is called again and again and may raise to leave: the tool is killed. Raises OSError for a full disk,
    TrainingError where the tool fails or leaves something else than the model.
    """
    command = [tool, str(source), str(target), SMALLER[kind]]
    environ = {key: os.environ[key] for key in KEPT if key in os.environ}
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", START, str(os.getpid()), *command], stdin=subprocess.DEVNULL, env=environ
    )
    try:
        while process.poll() is None:
            wait()
            time.sleep(LOOK_EVERY_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if code := process.returncode:
        free = free_bytes(target)
        if free is not None and free < FULL:
            raise OSError(errno.ENOSPC, f"{TOOL} has filled the disk", str(target))
        raise _failed(f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}")
    _check(source, target, kind)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _check(source: Path, target: Path, kind: str) -> None:
    """Hold names, shapes and metadata against the source's; the numbers are the loss proof's."""
    if not target.is_file():
        raise _failed("ended well and wrote nothing")
    meant = gguf.GGUFReader(source)
    try:
        found = gguf.GGUFReader(target)
        said = {name: field.contents() for name, field in found.fields.items()}
    # What a reader meets in a file that is none: wrong magic, lengths past its end, text that is no text.
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise _failed(f"wrote something that is no GGUF file: {error}") from error
    if _shapes(found) != _shapes(meant):
        raise _failed("wrote other tensors than the model's")
    for name, field in meant.fields.items():
        if name.startswith("GGUF.") or name == "general.file_type":
            continue
        if said.get(name) != field.contents():
            raise _failed(f"has changed {name}")
    if said.get("general.file_type") != FILE_TYPES[kind]:
        raise _failed(f"wrote another type than {SMALLER[kind]}")


def _shapes(reader: Any) -> dict[str, list[int]]:
    return {one.name: one.shape.tolist() for one in reader.tensors}


def _failed(what: str) -> TrainingError:
    return TrainingError(
        f"{TOOL} {what}",
        code="export.llama_quantize",
        hint="see what it printed: llamahome --batch runs logs latest; "
        "without it: llamahome --batch runs export RUN --format gguf --type q8_0",
    )
