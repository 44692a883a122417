"""The child of a wrapped command: it holds the job's lock and journal, and the command never notices.

The command writes straight to out.log, not into a pipe of ours: it lives on when this process dies. We read along in
the file, and what looks like a trainer's log line or progress bar becomes an event of the run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from llamahome_tui.errors import LlamaHomeError
from llamahome_tui.jobs.child import Child
from llamahome_tui.jobs.trainer_lines import Bar, Measured, Number, Segments, read_segment

_POLL_S: Final = 0.1
_PROGRESS_EVERY_S: Final = 1.0
_LIFE_SIGN_S: Final = 30.0  # a command that prints is alive, even when nothing in it is a number
_WAIT_FOR_BAR_S: Final = 0.5  # tqdm repaints its bar just behind a log line: only then is the step known
_CHUNK: Final = 1 << 20
_FARTHEST: Final = 64 << 20  # bytes; more than this behind, the middle of the output is not read
_FRAME: Final = frozenset({"v", "seq", "t", "mono", "type", "step"})


class Reading:
    """Turns the growing out.log into `metrics` and `progress` events."""

    def __init__(self, path: Path, emit: Callable[..., Any], clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._emit = emit
        self._clock = clock
        self._segments = Segments()
        self._offset = path.stat().st_size if path.exists() else 0
        self._begun_at = self._offset
        self._held: list[tuple[float, dict[str, Number | None]]] = []  # measured, but the step is not known yet
        self._total: int | None = None  # steps of the bar that counts training steps
        self._step = 0
        self._newest_bar: Bar | None = None
        self._unsaid: Bar | None = None
        self._lines = 0
        self._said_at = clock()
        self._said_offset = self._offset
        self.losses: list[float] = []  # the first and the newest
        self.measured: dict[str, Number | None] = {}

    def poll(self) -> bool:
        """Read what was written since; True when there is more to read at once."""
        more = self._read()
        self._release(self._clock())
        return more

    def finish(self) -> None:
        """Read to the end and tell everything that was held back."""
        while self._read():
            pass
        for segment in self._segments.rest():
            self._take(segment)
        self._release(None)
        if self._unsaid is not None:
            self._say(self._unsaid)

    @property
    def totals(self) -> dict[str, Any]:
        """What the `end` event says about the whole run."""
        first_and_last = {"loss_first": self.losses[0], "loss_last": self.losses[-1]} if self.losses else {}
        return {"output_bytes": self._offset - self._begun_at, "steps": self._step or None, **first_and_last}

    def _read(self) -> bool:
        try:
            with self._path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < self._offset:
                    self._offset = 0  # somebody cut it
                if size - self._offset > _FARTHEST:
                    self._segments = Segments()
                    self._offset = size - _CHUNK
                file.seek(self._offset)
                data = file.read(_CHUNK)
        except FileNotFoundError:
            return False
        self._offset += len(data)
        for segment in self._segments.feed(data):
            self._take(segment)
        return len(data) == _CHUNK

    def _take(self, segment: bytes) -> None:
        for found in read_segment(segment):
            if isinstance(found, Measured):
                self._measure(found)
            elif not found.label:
                self._see(found)

    def _measure(self, found: Measured) -> None:
        self._lines += 1
        values = {name: value for name, value in found.values.items() if name not in _FRAME}
        loss = values.get("loss")
        if loss is not None:
            self.losses = [*self.losses[:1], loss]
        if "loss" in values and self._newest_bar is not None and self._newest_bar.total != self._total:
            # Evaluation draws bars without a label too; a training loss belongs to the bar that is there beside it.
            self._total = self._newest_bar.total
            self._step = self._newest_bar.done
        if found.step is not None:
            self._step = max(self._step, found.step)
            self._write(found.step, values)
        else:
            self._held.append((self._clock(), values))

    def _see(self, bar: Bar) -> None:
        self._newest_bar = bar
        if self._total is None:
            self._total = bar.total
        if bar.total != self._total:
            return
        self._step = bar.done
        self._release(None)
        self._unsaid = bar
        if self._clock() - self._said_at >= _PROGRESS_EVERY_S:
            self._say(bar)

    def _release(self, now: float | None) -> None:
        """Write what was held; with `now` only what has waited for its bar long enough."""
        while self._held and (now is None or now - self._held[0][0] >= _WAIT_FOR_BAR_S):
            _, values = self._held.pop(0)
            # Without any bar the log lines themselves are counted: points in order, if not in steps.
            self._write(self._step if self._total is not None else self._lines - len(self._held), values)
        if now is None:
            return
        if self._unsaid is not None and now - self._said_at >= _PROGRESS_EVERY_S:
            self._say(self._unsaid)
        elif self._offset != self._said_offset and now - self._said_at >= _LIFE_SIGN_S:
            self._said_at, self._said_offset = now, self._offset
            self._emit("progress", output_bytes=self._offset - self._begun_at)

    def _write(self, step: int, values: dict[str, Number | None]) -> None:
        self.measured.update(values)
        self._emit("metrics", step=step, **values)

    def _say(self, bar: Bar) -> None:
        self._unsaid = None
        self._said_at, self._said_offset = self._clock(), self._offset
        epoch = self.measured.get("epoch")
        self._emit("progress", step=bar.done, steps=bar.total, epoch=epoch, eta_s=bar.eta_s)


def main(run_dir: Path) -> int:
    """Do the work of one run: start its command, read along, and say how it ended. Gives the exit status."""
    child = Child.enter(run_dir)
    command = [str(word) for word in child.job.get("command") or ()]
    again = child.attempt > 1
    child.start(
        0, exact=not again, reason="the command begins anew: it keeps its own checkpoints" if again else "",
        devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
    )  # fmt: skip
    child.emit("phase", phase="train")
    reading = Reading(child.run.out_path, child.emit)
    begun = time.monotonic()
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, cwd=child.job.get("cwd") or None, process_group=0,
            umask=_umask(child.job),  # what the command writes is its user's, not ours to close
            # Python keeps the lines of a file back until a block is full; nobody could read along.
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
    except (OSError, ValueError, IndexError) as error:
        name = command[0] if command else "the command"
        return child.fail("exec.not_started", f"{name} could not be started: {error}", exception=type(error).__name__)
    leaving = _attend(child, process, reading)
    reading.finish()
    code = process.returncode
    totals = {**reading.totals, "seconds": round(time.monotonic() - begun, 3)}
    ended: dict[str, Any] = {"exit_code": code if code >= 0 else None, "signal": _signal_name(code), "totals": totals}
    if leaving:
        return child.end(leaving, **ended)
    if code == 0:
        return child.end("completed", **ended)
    how = f"was killed by {ended['signal']}" if code < 0 else f"ended with exit code {code}"
    child.emit(
        "error", sync=True, code="exec.exit", exception="", message=f"the command {how}: {Path(command[0]).name}",
        hint=f"see what it printed: llamahome --batch runs logs {child.run.id}",
        exit_code=ended["exit_code"], signal=ended["signal"],
    )  # fmt: skip
    child.end("failed", **ended)
    return code if code > 0 else 128 - code


def _attend(child: Child, process: subprocess.Popen[bytes], reading: Reading) -> str:
    """Stay until the command has ended; gives the reason of an end that was asked for, else ""."""
    leaving = ""
    while True:
        gone = process.poll() is not None
        if gone:
            return leaving
        if not leaving and (child.stopping or child.pausing):
            leaving = "stopped" if child.stopping else "paused"
            # Not reaped yet, so the group is still this command's; what lives after the grace is the supervisor's part.
            try:
                os.killpg(process.pid, signal.SIGTERM)
            except PermissionError:  # as with sudo; as long as it runs, so does this run, and keeps its devices
                child.emit("warning", message="the command belongs to another user: it can't be asked to end")
        for request in child.requests():
            child.answer(request, "refused", "a wrapped command takes no requests but stop")
        if reading.poll():
            continue
        try:
            process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            pass


def _umask(job: Mapping[str, Any]) -> int:
    said = job.get("umask")
    return said if isinstance(said, int) and 0 <= said <= 0o777 else -1


def _signal_name(code: int) -> str | None:
    if code >= 0:
        return None
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1])))
    except LlamaHomeError as error:
        sys.stderr.write(f"{error.message}\n")
        sys.exit(error.exit)
