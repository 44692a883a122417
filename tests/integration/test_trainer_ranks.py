"""Two processes train one run: as one would, with the promises of one about stops, kills and resumes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from llamahome_tui.errors import SpecError
from llamahome_tui.jobs import control
from llamahome_tui.jobs.journal import read
from llamahome_tui.jobs.store import Run
from tests.conftest import eventually
from tests.forge import Trainer
from tests.integration.trainer_runs import (
    Bench,
    adapter,
    checkpoint_steps,
    eval_losses,
    losses,
    of,
    show,
)

pytestmark = pytest.mark.torch

TWO = {"devices": 2, "strategy": "ddp"}
LONG = 120.0
# The other rank is forked from the first, which has torch loaded, instead of a process that begins from nothing.
FORKED = """
import os, signal, sys
from pathlib import Path
from llamahome_tui.training.trainer import company, follow
class Forked:
    def __init__(self, command, environ):
        self.code = None
        self.pid = os.fork()
        if self.pid == 0:
            os.environ.update(environ)
            code = 1
            try:
                code = follow.follow(Path(command[-1]))
            finally:
                os._exit(code)
    def poll(self):
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code
    def kill(self):
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
    def wait(self):
        if self.poll() is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
company.start_process = Forked
"""
# Each step and each batch of an evaluation takes a while, so that something can happen in the middle of it.
SLOW = """
import time
from llamahome_tui.training.trainer import batches
real = batches.Batching.batch
def slow(self, *about, **named):
    time.sleep(0.05)
    return real(self, *about, **named)
batches.Batching.batch = slow
"""


@pytest.fixture(scope="module")
def alone(bench: Bench) -> Run:
    """One process, without dropout."""
    run = bench.run("alone")
    bench.finish(run)
    return run


@pytest.fixture(scope="module")
def undisturbed(bench: Bench) -> Run:
    """Two processes with dropout that nobody disturbs."""
    run = bench.run("undisturbed", lora={"dropout": 0.1}, launch=TWO)
    bench.finish(run, before=FORKED)
    return run


def others(pid: int) -> list[int]:
    """The processes that a trainer has started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def at_step(run: Run, step: int) -> None:
    eventually(lambda: max(losses(run), default=0) >= step, f"step {step} of {run.id}", timeout=LONG)


def test_two_are_as_one(bench: Bench, alone: Run) -> None:
    run = bench.run("two", launch=TWO)
    events = bench.finish(run, before=FORKED)
    assert events[-1]["reason"] == "completed", show(events)
    assert events[0]["devices"] == ["cpu", "cpu"] and events[0]["exact"]
    assert losses(run) == pytest.approx(losses(alone), rel=1e-5)
    assert eval_losses(run) == pytest.approx(eval_losses(alone), rel=1e-5)
    wanted = next(e for e in read(alone.events_path) if e["type"] == "end")["totals"]
    assert all(events[-1]["totals"][key] == wanted[key] for key in ("steps", "tokens", "trained_tokens"))
    assert not (run.dir / "ranks").exists()


def test_metrics_are_of_all_ranks(bench: Bench, alone: Run) -> None:
    """The other rank holds 300 MB more, and its batches take their time."""
    burden = """
import time
from llamahome_tui.training.trainer import batches
light = batches.Batching.batch
ballast = []
def burdened(self, *about, **named):
    if os.environ.get("RANK") == "1":
        ballast[:] = ballast or [bytearray(b"x" * (300 << 20))]
        time.sleep(0.2)
    return light(self, *about, **named)
batches.Batching.batch = burdened
"""
    run = bench.run("burdened", launch=TWO, training={"max_steps": 2})
    events = bench.finish(run, before=FORKED + burden)
    metrics = [event for event in of(events, "metrics") if "loss" in event]
    rows = run.job["spec"]["training"]["global_batch"]
    assert all(one["data_wait"] * rows / one["samples_per_s"] > 0.19 for one in metrics), show(metrics)
    totals = events[-1]["totals"]
    assert totals["memory_peak_bytes"] == metrics[-1]["memory_peak_bytes"]
    before = list(read(alone.events_path))
    assert totals["memory_peak_bytes"] > before[-1]["totals"]["memory_peak_bytes"] + (200 << 20)
    wanted = next(event for event in of(before, "metrics") if "loss" in event)
    assert metrics[0]["samples_per_s"] / metrics[0]["tokens_per_s"] == pytest.approx(
        wanted["samples_per_s"] / wanted["tokens_per_s"], rel=0.05
    )


def test_killed_and_stopped_and_resumed_it_is_bitwise_the_same(bench: Bench, undisturbed: Run) -> None:
    run = bench.run("broken", lora={"dropout": 0.1}, launch=TWO)
    trainer = bench.train(run, before=FORKED + SLOW)
    at_step(run, 4)
    (other,) = others(trainer.pid)
    trainer.kill()
    assert trainer.wait() == -signal.SIGKILL
    eventually(lambda: not lives(other), "the end of the other rank", timeout=LONG)
    kept = checkpoint_steps(run)[-1]

    trainer = bench.train(run, before=FORKED + SLOW)
    at_step(run, kept + 2)
    trainer.kill(signal.SIGTERM)
    assert trainer.wait() == 0
    events = list(read(run.events_path))
    assert events[-1]["reason"] == "stopped" and checkpoint_steps(run)[-1] == events[-1]["step"] < 12

    events = bench.finish(run, before=FORKED)
    assert events[-1]["reason"] == "completed", show(events)
    assert all(start["exact"] for start in of(events, "start")), show(of(events, "start"))
    assert losses(run) == losses(undisturbed)
    assert adapter(run) == adapter(undisturbed)


def test_another_number_of_ranks_is_not_exact(bench: Bench) -> None:
    run = bench.run("fewer", launch=TWO, training={"max_steps": 2})
    bench.finish(run, before=FORKED)
    control.drop(run, "resume", {"set": {"launch.devices": 1, "launch.strategy": "auto", "training.max_steps": 4}})
    events = bench.finish(run)
    start = of(events, "start")[-1]
    assert (start["exact"], start["devices"], start["from_step"]) == (False, ["cpu"], 2)
    assert "ranks were 2, are 1" in start["reason"]
    assert events[-1]["reason"] == "completed"


def ended_by(trainer: Trainer, run: Run) -> dict[str, object]:
    assert trainer.wait() == 1
    events = list(read(run.events_path))
    assert [event["type"] for event in events[-2:]] == ["error", "end"] and events[-1]["reason"] == "failed"
    return events[-2]


def test_a_rank_that_dies_ends_the_run_with_its_name(bench: Bench) -> None:
    """With processes that begin from nothing, as a supervisor's run has them."""
    run = bench.run("dies", launch=TWO, training={"max_steps": 100_000}, evaluation={"every_steps": 0})
    trainer = bench.train(run)
    at_step(run, 2)
    (other,) = others(trainer.pid)
    os.kill(other, signal.SIGKILL)
    error = ended_by(trainer, run)
    assert error["message"] == f"rank 1 (pid {other}) was killed by SIGKILL"
    assert error["code"] == "training.rank_died" and run.id in str(error["hint"]) and error["retry"] is True


def test_a_rank_that_hangs_ends_the_run_too_and_is_named(bench: Bench) -> None:
    run = bench.run("hangs", launch=TWO | {"devices": 3}, training={"max_steps": 100_000})
    limit = "\nfrom datetime import timedelta\ncompany.LIMIT = timedelta(seconds=8)\n"
    trainer = bench.train(run, before=FORKED + limit)
    at_step(run, 2)
    both = sorted(others(trainer.pid))
    os.kill(both[1], signal.SIGSTOP)
    error = ended_by(trainer, run)
    assert error["code"] == "training.rank_silent"
    assert str(error["message"]).startswith(f"rank 2 (pid {both[1]}) did not answer within 8 s")
    assert not any(map(lives, both))


def test_a_rank_that_cannot_start_is_named(bench: Bench) -> None:
    run = bench.run("unborn", launch=TWO)
    broken = "\ndef broken(run_dir):\n    os._exit(7)\nfollow.follow = broken\n"
    error = ended_by(bench.train(run, before=FORKED + broken), run)
    assert "rank 1 (pid " in str(error["message"]) and "ended with status 7" in str(error["message"])


def test_a_stop_ends_an_evaluation_of_all_ranks(bench: Bench) -> None:
    run = bench.run("evaluating", launch=TWO, data={"eval": 40}, training={"batch_size": 1, "global_batch": 4})
    trainer = bench.train(run, before=FORKED + SLOW)
    begun = lambda: [e for e in read(run.events_path) if e.get("phase") == "eval"]  # noqa: E731
    eventually(begun, "an evaluation", timeout=LONG)
    trainer.kill(signal.SIGTERM)
    assert trainer.wait() == 0
    events = list(read(run.events_path))
    assert events[-1]["reason"] == "stopped" and not eval_losses(run), show(events)


def test_memory_that_runs_out_on_one_rank_makes_all_micro_batches_smaller(bench: Bench, alone: Run) -> None:
    run = bench.run("tight", launch=TWO)
    tight = """
from llamahome_tui.training.trainer.objectives import likelihood
learn = likelihood.Likelihood.learn
def tight(self, batch, whole):
    if batch.rows > 1 and os.environ.get("RANK") == "1":
        raise MemoryError("out of memory")
    return learn(self, batch, whole)
likelihood.Likelihood.learn = tight
"""
    events = bench.finish(run, before=FORKED + tight)
    assert events[-1]["reason"] == "completed", show(events)
    assert of(events, "degrade")[0]["what"].startswith("micro-batch at most")
    assert losses(run) == pytest.approx(losses(alone), rel=1e-5)


def test_torchrun_may_start_the_ranks(bench: Bench, alone: Run) -> None:
    run = bench.run("torchrun", launch=TWO)
    quiet = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    module = ["-m", "llamahome_tui.training.trainer", str(run.dir)]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *module],
        env=os.environ | bench.environ | quiet, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert losses(run) == pytest.approx(losses(alone), rel=1e-5)


def test_torchrun_must_start_as_many_as_the_spec_says(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from llamahome_tui.training.trainer.company import company

    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "some")
    monkeypatch.setenv("WORLD_SIZE", "3")
    wanted = r"launch\.devices: the spec says 2, and torchrun has started 3"
    with pytest.raises(SpecError, match=wanted), company(bench.run("three", launch=TWO), 2):
        pass
