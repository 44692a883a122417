"""The process of one sink: reads records from stdin, hands each to the sink once, and says how far it is.

`<name>.json` beside the sink's folder holds the last step that was handed over. So an attempt that trains steps again,
after a kill, does not send them again, and steps never go backwards. Imports nothing but the sink.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from llamahome_tui.plugins import resolve
from llamahome_tui.training.sinks.base import About

_LONGEST = 300  # characters of what went wrong


class Sent:
    """The last step of each kind of record that the sink has: training metrics and evaluations share steps."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError):
            found = {}
        self._steps: dict[str, int] = found if isinstance(found, dict) else {}

    @property
    def any(self) -> bool:
        """Whether an earlier attempt has sent something."""
        return bool(self._steps)

    def has(self, kind: str, step: int) -> bool:
        """Whether this step of that kind has been handed over, or one after it."""
        return step <= self._steps.get(kind, -1)

    def add(self, kind: str, step: int) -> None:
        """Remember it; atomic, so that a kill leaves the old or the new."""
        self._steps[kind] = step
        made = self._path.with_suffix(".tmp")
        made.write_text(json.dumps(self._steps))
        made.replace(self._path)


def kind_of(values: Mapping[str, float]) -> str:
    """Which of the two kinds a record is."""
    return "eval" if any(name.startswith("eval_") for name in values) else "train"


def serve(records: Iterator[bytes], say: BinaryIO) -> None:
    """Open the sink that the first line names, hand it the others, and close it at their end."""
    opening = json.loads(next(records))
    folder = Path(opening["about"]["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    alone = folder.with_suffix(".lock").open("w")
    fcntl.lockf(alone, fcntl.LOCK_EX)  # a killed attempt's sink may still have records to hand over
    sent = Sent(folder.with_suffix(".json"))
    given = opening["about"] | {"folder": folder, "tags": tuple(opening["about"]["tags"]), "resumed": sent.any}
    sink: Any = resolve(opening["opener"])(About(**given))
    newest = -1
    for line in records:
        record = json.loads(line)
        step, values = record["step"], record["values"]
        kind = kind_of(values)
        if not sent.has(kind, step) and step >= newest:
            sink.log(step, values, record["at"])
            sent.add(kind, step)
            newest = step
        say.write(b'{"done":1}\n')
    sink.close()
    alone.close()


def main(fd: int) -> int:
    """Serve stdin, and say on `fd` what is done and what went wrong; gives the exit status."""
    # What ends the trainer closes stdin: then everything is handed over and the sink can close.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    with os.fdopen(fd, "wb", buffering=0) as say:
        try:
            serve(iter(sys.stdin.buffer.readline, b""), say)
        except BrokenPipeError:
            return 1  # the trainer is gone
        except Exception as error:  # noqa: BLE001 - a sink may raise anything; this process is its wall
            said = f"{type(error).__name__}: {error}"[:_LONGEST]
            say.write(json.dumps({"failed": said}).encode() + b"\n")
            return 1
    return 0
