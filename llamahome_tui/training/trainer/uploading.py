"""The trainer's side of a mirror on the Hub: a process of its own does all of it, and can be ended at any time."""

from __future__ import annotations

import contextlib
import json
import math
import os
import selectors
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from llamahome_tui.errors import HubError, LlamaHomeError
from llamahome_tui.jobs.child import HUB_FD, Child
from llamahome_tui.jobs.leftovers import marks
from llamahome_tui.jobs.spawn import again
from llamahome_tui.jobs.store import Run
from llamahome_tui.training.mirror import Copy

MODULE: Final = "llamahome_tui.workers.hub_mirror"
LEAST_S: Final = 600.0  # that a request may take, and
SLOWEST: Final = 50_000  # bytes a second that a line has at least: what takes longer hangs
_LOOK_S: Final = 0.2


class Uploader:
    """The process that has the token. It starts with the first request, and again after it died."""

    def __init__(self, repo: str, run: Run, hub_fd: int | None, environ: Mapping[str, str] | None = None) -> None:
        self._repo = repo
        self._run = run
        self._fd = hub_fd
        self._environ = environ
        self._changing = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False

    def ask(
        self, request: Mapping[str, Any], size: float = 0, leaving: Callable[[], bool] = lambda: False
    ) -> dict[str, Any]:
        """The answer to one request about so many bytes.

        Raises the error that it is, and HubError where the process dies, hangs, or is ended because of `leaving`.
        """
        process = self._up()
        assert process.stdin is not None and process.stdout is not None
        line, until = b"", time.monotonic() + LEAST_S + size / SLOWEST
        try:
            process.stdin.write(json.dumps({"repo": self._repo, **request}).encode() + b"\n")
            process.stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                while not line.endswith(b"\n"):
                    if leaving() or time.monotonic() >= until:
                        self._stop()
                        raise HubError("it took too long, and was ended", code="hub.slow")
                    if selector.select(_LOOK_S):
                        if not (more := os.read(process.stdout.fileno(), 1 << 16)):
                            break
                        line += more
        except OSError:
            line = b""
        if not line.endswith(b"\n"):
            self._stop()
            raise HubError("the process that talks to the Hub has died", code="hub.died")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise LlamaHomeError(answer["failed"], code=answer["code"], hint=answer["hint"], exit_code=answer["exit"])
        return answer

    def end(self) -> None:
        """End the process, also in the middle of its work; nothing starts it again."""
        self._ended = True
        self._stop()

    def _up(self) -> subprocess.Popen[bytes]:
        with self._changing:
            if self._ended:
                raise HubError("the run has ended", code="hub.ended")
            if self._process is None:
                environ = {**(os.environ if self._environ is None else self._environ), **marks(self._run)}
                if self._fd is not None:
                    environ[HUB_FD] = str(self._fd)
                self._process = subprocess.Popen(
                    again(MODULE, self._run.dir),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    bufsize=0,
                    env=environ,
                    cwd="/",
                    pass_fds=() if self._fd is None else (self._fd,),
                )
            return self._process

    def _stop(self) -> None:
        """Whoever waits for its answer reads the end of its pipe then; nobody else closes that."""
        with self._changing:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2.0)


class HubTarget:
    """A Hub repo as a place for copies."""

    def __init__(self, name: str, uploader: Uploader) -> None:
        self.name = name
        self._uploader = uploader

    def copy(self, run: Run, source: Path, keep: int, best: str) -> None:
        """One commit: the checkpoint, and away with what is kept no longer. Raises LlamaHomeError."""
        request = {"do": "send", "run": run.id, "source": str(source), "keep": keep, "best": best}
        size = sum(path.stat().st_size for path in source.iterdir())
        self._uploader.ask(request, size)

    def end(self) -> None:
        """No more copies."""
        self._uploader.end()


def fetch(child: Child, repo: str, name: str, leaving: Callable[[], bool]) -> tuple[Copy | None, list[str]]:
    """What `hub_mirror.fetch` gives, from the process that has the token; HubError too when the run shall leave."""
    uploader = Uploader(repo, child.run, child.hub_fd)
    into = child.run.checkpoints_dir
    try:
        answer = uploader.ask({"do": "fetch", "name": name, "into": str(into)}, math.inf, leaving)
    finally:
        uploader.end()
    found = answer["found"]
    copy = Copy(found["run"], into / f"step-{found['step']}", found["step"]) if found else None
    return copy, answer["passed"]
