"""The trainer's side of its sinks: a pipe to each one's process, written to without ever waiting.

The pipe is the bounded queue: what does not fit is dropped and counted. A sink that fails or hangs is one `warning`
that names it, and is closed; the end of a run waits a few seconds for all of them together.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import llamahome_tui
from llamahome_tui.config.secrets import redact, secret_values
from llamahome_tui.jobs.leftovers import marks
from llamahome_tui.jobs.store import Run
from llamahome_tui.training.shape import Spec
from llamahome_tui.training.sinks.base import About
from llamahome_tui.training.sinks.known import opener_of

QUEUE_BYTES: Final = 1 << 20  # about 2,500 records; a pipe of 64 KiB where the system grants no more
LONGEST: Final = 4096  # bytes of a record: a pipe takes so many whole or not at all (PIPE_BUF)
HANG_S: Final = 120.0  # a sink that takes nothing for so long hangs; wandb's first contact may take a minute
CLOSE_S: Final = 5.0  # for all sinks of a run that ends
NOT_NUMBERS: Final = frozenset({"v", "seq", "t", "mono", "type", "step"})
# Another interpreter than ours finds our package last, as the trainer does.
_BOOT: Final = (
    "import os, sys; sys.path.append(sys.argv[1]); from llamahome_tui.training.sinks.child import main; "
    "os._exit(main(int(sys.argv[2])))"
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a sink may take nothing, and how long a run's end waits."""

    hang_s: float = HANG_S
    close_s: float = CLOSE_S


class Feed:
    """One sink's process and the pipes to and from it."""

    def __init__(self, name: str, opening: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        self.name = name
        self.dropped = 0
        self.fault = ""
        heard, say = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, str(Path(llamahome_tui.__file__).parents[1]), str(say)],
                stdin=subprocess.PIPE,
                stdout=sys.stderr.fileno() if _has_fd(sys.stderr) else subprocess.DEVNULL,
                env=dict(environ),
                pass_fds=(say,),
            )
        finally:
            os.close(say)
        assert self._process.stdin is not None
        self._pipe = self._process.stdin.fileno()
        self._heard = heard
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, QUEUE_BYTES)
        self._said = b""  # of a line that is not whole yet
        os.write(self._pipe, json.dumps(opening).encode() + b"\n")
        os.set_blocking(self._pipe, False)
        os.set_blocking(heard, False)
        self._waiting = 0  # records that it has not said to be done
        self._moved = time.monotonic()

    def send(self, line: bytes, hang_s: float) -> None:
        """Hand a record over, or drop it; `fault` says whether the sink is done for."""
        self._listen()
        if self._waiting == 0:
            self._moved = time.monotonic()
        elif time.monotonic() - self._moved > hang_s:
            self.fault = self.fault or f"it has taken nothing for {hang_s:.0f} s"
        if self.fault:
            return
        try:
            if len(line) > LONGEST:
                raise BlockingIOError
            os.write(self._pipe, line)
            self._waiting += 1
        except BlockingIOError:
            self.dropped += 1
        except OSError:
            self._listen()  # it may have said why
            if not self.fault:
                self.fault = "its process has ended"

    def end(self) -> None:
        """No more records: the process hands over what it has and closes the sink."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def wait(self, seconds: float) -> None:
        """Wait for its end; what takes longer is killed, and is a fault."""
        try:
            status = self._process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            self.kill()
            self.fault = self.fault or "it did not close in time; what it had not taken is not there"
            return
        self._listen()
        if status and not self.fault:
            self.fault = f"its process ended with {_status(status)}"

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # a dead disk holds even what is killed
            self._process.wait(1.0)

    def forget(self) -> None:
        """Close what is left of the pipes."""
        with contextlib.suppress(OSError):
            os.close(self._heard)

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while said := os.read(self._heard, 1 << 16):
                self._said += said
        *lines, self._said = self._said.split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError):
                word = json.loads(line)
                if "failed" in word:
                    self.fault = str(word["failed"])
                else:
                    self._waiting -= 1
                    self._moved = time.monotonic()


class Sinks:
    """All sinks of a run: gets every record of its journal, and passes the metrics on."""

    def __init__(self, warn: Callable[..., Any], patience: Patience | None = None) -> None:
        self._warn = warn
        self._patience = patience or Patience()
        self._feeds: list[Feed] = []

    def open(self, name: str, opener: str, about: About, environ: Mapping[str, str]) -> None:
        """Start a sink's process; it loads while the model does."""
        opening = {"opener": opener, "about": asdict(about) | {"folder": str(about.folder)}}
        try:
            self._feeds.append(Feed(name, opening, environ))
        except OSError as error:
            self._say(name, f"its process does not start: {error}")

    def record(self, record: Mapping[str, Any]) -> None:
        """Pass a record on if it has metrics. Costs a write to a pipe for each sink, and never waits."""
        if record.get("type") != "metrics":
            return
        values = {
            name: value
            for name, value in record.items()
            if name not in NOT_NUMBERS
            and isinstance(value, int | float)
            and not isinstance(value, bool)
            and math.isfinite(value)
        }
        line = json.dumps({"step": record["step"], "at": record["t"], "values": values}).encode() + b"\n"
        for feed in list(self._feeds):
            feed.send(line, self._patience.hang_s)
            if feed.fault:
                self._drop(feed)

    def close(self) -> None:
        """The attempt ends. Waits for all of them together, a few seconds at most."""
        until = time.monotonic() + self._patience.close_s
        for feed in self._feeds:
            feed.end()
        for feed in self._feeds:
            feed.wait(until - time.monotonic())
            feed.forget()
            if feed.fault:
                self._say(feed.name, feed.fault, feed.dropped)
            elif feed.dropped:
                self._warn("warning", sink=feed.name, message=_lost(feed))
        self._feeds.clear()

    def _drop(self, feed: Feed) -> None:
        self._feeds.remove(feed)
        feed.end()
        feed.kill()
        feed.forget()
        self._say(feed.name, feed.fault, feed.dropped)

    def _say(self, name: str, fault: str, dropped: int = 0) -> None:
        lost = f", {dropped} records were dropped before" if dropped else ""
        message = f"the sink {name} is closed and the run goes on without it: {redact(fault)}{lost}"
        self._warn("warning", sink=name, message=message)


def open_all(run: Run, spec: Spec, warn: Callable[..., Any], environ: Mapping[str, str]) -> Sinks:
    """The sinks of `report.to`, each with a folder of its own in the run's."""
    sinks = Sinks(warn)
    secrets = secret_values(environ)
    for name in spec.report.to:
        about = About(
            id=run.id,
            name=spec.name,
            project=spec.report.project,
            tags=spec.tags,
            folder=folder_of(run, name),
            resumed=False,  # its own process knows
            config=without_secrets(spec.to_dict(), secrets),
        )
        sinks.open(name, opener_of(name), about, {**environ, **marks(run)})
    return sinks


def folder_of(run: Run, name: str) -> Path:
    """Where a sink keeps what it writes for a run."""
    return run.dir / "sinks" / name


def without_secrets(value: Any, secrets: tuple[str, ...]) -> Any:
    """The same with [redacted] for what is a secret or looks like one, in every text of it."""
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, Mapping):
        return {name: without_secrets(one, secrets) for name, one in value.items()}
    if isinstance(value, Sequence):
        return [without_secrets(one, secrets) for one in value]
    return value


def _lost(feed: Feed) -> str:
    records = "1 record" if feed.dropped == 1 else f"{feed.dropped} records"
    return f"{records} did not reach the sink {feed.name}, which was too slow; the run's journal has everything"


def _has_fd(stream: Any) -> bool:
    try:
        return stream is not None and stream.fileno() >= 0
    except (OSError, ValueError):
        return False


def _status(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"
