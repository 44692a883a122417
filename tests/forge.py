"""Real trainers in a fraction of a second: one process imports torch, computes nothing, and forks a trainer per run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Trainer:
    """One forked trainer."""

    pid: int
    forge: Forge
    status: int | None = None  # exit status, or minus the signal that ended it

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal; one that is already gone is left alone."""
        if self.forge.poll(self) is None:
            os.kill(self.pid, number)

    def wait(self, timeout: float = 120.0) -> int:
        """Its exit status, or minus the signal that ended it."""
        end = time.monotonic() + timeout
        while self.forge.poll(self) is None:
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                raise TimeoutError(f"trainer {self.pid} did not end in {timeout} s")
            time.sleep(0.005)
        assert self.status is not None
        return self.status


@dataclass
class Forge:
    """A process that has torch, transformers and peft loaded and forks trainers from itself."""

    process: subprocess.Popen[str] = field(
        default_factory=lambda: subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parent.parent,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )
    )
    trainers: dict[int, Trainer] = field(default_factory=dict)

    def __enter__(self) -> Forge:
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.kill()
        self.process.wait()

    def train(self, run_dir: Path, environ: dict[str, str], *, before: str = "") -> Trainer:
        """Fork a trainer for this run; `before` is Python that the child runs first (to break its own world)."""
        answer = self._ask({"run": str(run_dir), "environ": environ, "before": before})
        trainer = Trainer(answer["pid"], self)
        self.trainers[trainer.pid] = trainer
        return trainer

    def poll(self, trainer: Trainer) -> int | None:
        """The trainer's exit status if it has ended."""
        if trainer.status is None:
            for pid, status in self._ask({"poll": True})["ended"]:
                self.trainers[pid].status = status
        return trainer.status

    def _ask(self, question: dict[str, Any]) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def _serve() -> None:
    import numpy  # noqa: F401
    import peft  # noqa: F401
    import tokenizers  # noqa: F401
    import torch  # noqa: F401
    import transformers
    from transformers import AutoModelForCausalLM, LlamaForCausalLM  # noqa: F401

    transformers.utils.logging.disable_progress_bar()
    from llamahome_tui.training.trainer import recipe  # noqa: F401

    for line in sys.stdin:
        question = json.loads(line)
        if "poll" in question:
            answer: dict[str, Any] = {"ended": _ended()}
        else:
            pid = os.fork()
            if pid == 0:
                _be_trainer(question)
            answer = {"pid": pid}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _ended() -> list[tuple[int, int]]:
    ended = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, os.waitstatus_to_exitcode(status)))


def _be_trainer(question: dict[str, Any]) -> None:
    """In the forked child: what a freshly started trainer process would do."""
    os.setsid()
    out = os.open(Path(question["run"]) / "out.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    os.environ.update(question["environ"])
    from llamahome_tui.training.trainer.main import main

    exec(question["before"], {})
    code = 1
    try:
        code = main(Path(question["run"]))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    _serve()
