"""Signals to a run in the foreground: noted wherever they interrupt, acted on at once, and never a deadlock."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llamahome_tui.jobs import control
from llamahome_tui.jobs.store import RunStore

# The signal comes while the main thread itself holds the guard of all locks; where no request can be left, the
# trainer is told, and to find it the guard is needed.
INTERRUPTED = """
import signal, sys, time
from pathlib import Path
from llamahome_tui.jobs import locks
from llamahome_tui.jobs.commands.foreground import listening
from llamahome_tui.jobs.store import Run
before = signal.getsignal(int(sys.argv[2]))
with listening(Run.open(Path(sys.argv[1]))):
    with locks._guard:
        signal.raise_signal(int(sys.argv[2]))
assert signal.getsignal(int(sys.argv[2])) == before
"""
TRAINER = """
import signal, sys
from pathlib import Path
from llamahome_tui.jobs.locks import RecordLock
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
assert RecordLock(Path(sys.argv[1])).acquire()
print("ready", flush=True)
print(signal.sigwait({signal.SIGTERM, signal.SIGUSR1}).name, flush=True)
"""


@pytest.mark.parametrize(
    ("number", "op"), [(signal.SIGTERM, "stop"), (signal.SIGINT, "stop"), (signal.SIGUSR1, "pause")]
)
def test_a_signal_is_a_request_whatever_it_interrupts(tmp_path: Path, number: int, op: str) -> None:
    run = RunStore(tmp_path / "state").create({"name": "a", "kind": "train"})
    subprocess.run([sys.executable, "-c", INTERRUPTED, str(run.dir), str(int(number))], timeout=20, check=True)
    assert [request.op for request in control.pending(run)] == [op]


def test_where_no_request_can_be_left_the_trainer_is_told(tmp_path: Path) -> None:
    run = RunStore(tmp_path / "state").create({"name": "a", "kind": "train"})
    run.control_dir.rmdir()
    run.control_dir.touch()
    command = [sys.executable, "-c", TRAINER, str(run.trainer_lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout is not None and trainer.stdout.readline() == "ready\n"
        words = [sys.executable, "-c", INTERRUPTED, str(run.dir), str(int(signal.SIGUSR1))]
        subprocess.run(words, timeout=20, check=True)
        assert trainer.stdout.readline() == "SIGUSR1\n"
