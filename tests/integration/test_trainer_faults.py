"""Faults made for real inside a trainer: a full disk, too little memory, numbers that are not finite."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")

from llamahome_tui.jobs import control
from llamahome_tui.jobs.journal import read
from llamahome_tui.jobs.recovery import newest_complete_checkpoint
from llamahome_tui.jobs.store import Run
from tests.conftest import eventually
from tests.forge import Forge, Trainer
from tests.integration.trainer_runs import Bench, adapter, checkpoint_steps, losses, of, show
from tests.small_disk import mounted

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def wide(forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A model whose logits for a single row take more than what the process has left over anyway."""
    return Bench.make(forge, tmp_path_factory.mktemp("wide"), vocabulary=20_000)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small", "4m") as place:
        yield place


def fill(folder: Path, leave: int) -> Path:
    """Take all space but `leave` bytes."""
    ballast = folder / "ballast"
    status = os.statvfs(folder)
    ballast.write_bytes(b"\1" * (status.f_bavail * status.f_frsize - leave))
    return ballast


SOON = "from llamahome_tui.training.trainer import saving; saving.SAVE_AGAIN_S = 0.05"


BELIEVED = "from llamahome_tui.training.trainer import checkpoint; checkpoint.has_room = lambda folder, size: None"


@pytest.mark.parametrize("seen", ["before", "while writing"])
def test_f16_disk_full_in_a_checkpoint(bench: Bench, small_disk: Path, seen: str) -> None:
    run = bench.run(
        "full-disk", training={"max_steps": 400}, checkpoint={"every_steps": 40}, evaluation={"every_steps": 0}
    )
    run.checkpoints_dir.rmdir()
    run.checkpoints_dir.symlink_to(small_disk)
    trainer = bench.train(run, before=SOON if seen == "before" else f"{SOON}\n{BELIEVED}")
    while not checkpoint_steps(run):
        assert trainer.forge.poll(trainer) is None, run.out_path.read_text()
        time.sleep(0.002)
    first = checkpoint_steps(run)[0]
    ballast = fill(small_disk, leave=20_000)
    kept = {p.name: p.read_bytes() for p in (run.checkpoints_dir / f"step-{first}").iterdir()}
    while not any("no room for a checkpoint" in e["message"] for e in of(list(read(run.events_path)), "warning")):
        assert trainer.forge.poll(trainer) is None, run.out_path.read_text()
        time.sleep(0.002)
    warning = of(list(read(run.events_path)), "warning")[0]
    warned_at = warning["step"]
    assert ("are free)" if seen == "before" else "(No space left") in warning["message"]
    while max(losses(run)) < warned_at + 5:
        time.sleep(0.002)  # training goes on
    newest = run.checkpoints_dir / f"step-{checkpoint_steps(run)[-1]}"
    assert newest.is_dir()
    if newest.name == f"step-{first}":
        assert {p.name: p.read_bytes() for p in newest.iterdir()} == kept
    ballast.unlink()
    assert trainer.wait() == 0
    events = list(read(run.events_path))
    saved = [e["step"] for e in of(events, "checkpoint")]
    assert any(warned_at < step < 400 for step in saved), saved  # the save was tried again
    assert events[-1]["reason"] == "completed" and checkpoint_steps(run)[-1] == 400
    assert not list(run.checkpoints_dir.glob(".*"))


def on_a_full_disk(bench: Bench, small_disk: Path, name: str, **tables: dict[str, object]) -> tuple[Run, Trainer, Path]:
    """A run that trains on without end, has one checkpoint, and no room for another; and what takes the room."""
    training = {"max_steps": 100_000, "scheduler": "constant", "warmup": 0}
    run = bench.run(name, training=training, checkpoint={"every_steps": 0}, evaluation={"every_steps": 0}, **tables)
    run.checkpoints_dir.rmdir()
    run.checkpoints_dir.symlink_to(small_disk)
    trainer = bench.train(run, before=SOON)
    asked = control.drop(run, "save")
    eventually(lambda: answers(run).get(asked) is not None and checkpoint_steps(run), "a checkpoint", timeout=60)
    return run, trainer, fill(small_disk, leave=20_000)


def answers(run: Run) -> dict[str, tuple[str, str]]:
    """Outcome and reason by request."""
    return {e["request"]: (e["outcome"], e["reason"]) for e in of(list(read(run.events_path)), "control")}


def test_f16_a_pause_that_finds_the_disk_full_is_refused_and_training_goes_on(bench: Bench, small_disk: Path) -> None:
    run, trainer, ballast = on_a_full_disk(bench, small_disk, "full-pause")
    asked = control.drop(run, "pause")
    eventually(lambda: asked in answers(run), "an answer")
    outcome, reason = answers(run)[asked]
    assert outcome == "refused" and "the disk is full" in reason
    trainer.kill(signal.SIGUSR1)  # a signal has no answer; it is no reason to lose work either
    seen = max(losses(run))
    eventually(lambda: max(losses(run)) > seen + 5, "more steps")
    assert trainer.forge.poll(trainer) is None
    ballast.unlink()
    again = control.drop(run, "pause")
    assert trainer.wait() == 0
    end = list(read(run.events_path))[-1]
    assert end["reason"] == "paused" and end["step"] == checkpoint_steps(run)[-1] > seen
    assert answers(run)[again] == ("applied", "")


def test_f16_who_asks_for_a_pause_is_told_that_it_is_refused(bench: Bench, small_disk: Path) -> None:
    run, trainer, _ = on_a_full_disk(bench, small_disk, "full-told", recovery={"retries": 0})
    command = [sys.executable, "-m", "llamahome_tui", "--batch", "runs", "control", run.id, "pause", "--json"]
    told = subprocess.run(
        command, env={**os.environ, **bench.environ}, capture_output=True, text=True, timeout=60, check=False
    )
    assert told.returncode == 2 and "control.refused" in told.stdout and "the disk is full" in told.stdout, told
    trainer.kill()
    trainer.wait()
    eventually(lambda: not run.live, "the end of the supervisor that the command has started")


def test_f16_a_stop_waits_a_while_for_room(bench: Bench, small_disk: Path) -> None:
    run, trainer, ballast = on_a_full_disk(bench, small_disk, "full-stop", recovery={"grace_s": 80})
    trainer.kill(signal.SIGTERM)
    eventually(lambda: of(list(read(run.events_path)), "warning"), "a warning")
    ballast.unlink()
    assert trainer.wait() == 0
    events = list(read(run.events_path))
    (warning,) = of(events, "warning")
    assert "no room for a checkpoint before leaving" in warning["message"]
    assert events[-1]["reason"] == "stopped" and events[-1]["step"] == checkpoint_steps(run)[-1] == warning["step"]


def test_f16_a_stop_without_room_names_what_is_left(bench: Bench, small_disk: Path) -> None:
    run, trainer, _ = on_a_full_disk(bench, small_disk, "full-lost", recovery={"grace_s": 6})
    kept = checkpoint_steps(run)[-1]
    seen = max(losses(run), default=0)
    eventually(lambda: max(losses(run), default=0) > seen, "a step")
    began = time.monotonic()
    trainer.kill(signal.SIGTERM)
    assert trainer.wait() == 0
    assert time.monotonic() - began < 6
    events = list(read(run.events_path))
    first, last = of(events, "warning")
    assert "tried again in 1 s" in first["message"]
    lost = events[-1]["step"] - kept
    assert f"the newest complete one is checkpoints/step-{kept}; the work of {lost} step" in last["message"]
    newest = newest_complete_checkpoint(run)
    assert events[-1]["reason"] == "stopped" and newest is not None and newest.step == kept


def test_disk_full_at_the_end_fails_with_the_weights_kept_and_resumes(bench: Bench, small_disk: Path) -> None:
    run = bench.run("full-end", evaluation={"every_steps": 0})
    run.artifacts_dir.rmdir()
    run.artifacts_dir.symlink_to(small_disk)
    ballast = fill(small_disk, leave=4096)
    assert bench.train(run).wait() == 1
    error = of(list(read(run.events_path)), "error")[0]
    assert error["code"] == "disk.full" and run.id in error["hint"]
    assert checkpoint_steps(run)[-1] == 12
    ballast.unlink()
    events = bench.finish(run)
    assert events[-1]["reason"] == "completed" and (run.artifacts_dir / "adapter").is_dir()


def limited(extra_mib: int, *, full: bool = False) -> str:
    """Python that lets the process grow by so many MiB from the moment the first step begins.

    `full`: what its heap has free by then is taken first, of which there is more on one day than on another.
    """
    return f"""
import ctypes, resource
from llamahome_tui.training.trainer.loop import Loop
run = Loop.run
malloc = ctypes.CDLL(None).malloc
malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
def with_limit(self):
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    if {full}:
        resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
        for block in (1 << 20, 1 << 17, 1 << 15):
            while malloc(block):
                pass
    resource.setrlimit(resource.RLIMIT_AS, (size + {extra_mib} * 2**20,) * 2)
    return run(self)
Loop.run = with_limit
"""


@pytest.fixture(scope="module")
def large_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of about 400 tokens."""
    path = tmp_path_factory.mktemp("large") / "rows.jsonl"
    with path.open("w") as file:
        for i in range(32):
            said = "abcdefgh"[i % 8] * (350 + i)
            chat = [{"role": "user", "content": "go"}, {"role": "assistant", "content": said}]
            file.write(json.dumps({"messages": chat}) + "\n")
    return path


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_f18_out_of_memory_splits_the_micro_batch_in_the_same_step(
    bench: Bench, large_rows: Path, dropout: float
) -> None:
    tables = {
        "data": {"train": [str(large_rows)], "eval": 0},
        "training": {"max_steps": 2, "global_batch": 32, "batch_size": 32},
        "lora": {"dropout": dropout},
    }
    whole = bench.run("roomy", **tables)
    bench.finish(whole)
    run = bench.run("tight", **tables)
    events = bench.finish(run, before=limited(2))
    assert events[-1]["reason"] == "completed", show(events)
    degraded = of(events, "degrade")
    assert degraded and degraded[0]["step"] == 0 and "micro-batch at most" in degraded[0]["what"]
    assert len(losses(run)) == 2
    if dropout:
        again = bench.run("tight-again", **tables)
        bench.finish(again, before=limited(2))
        if of(list(read(again.events_path)), "degrade")[-1]["what"] == degraded[-1]["what"]:
            assert (losses(again), adapter(again)) == (losses(run), adapter(run))
    else:
        assert losses(run) == pytest.approx(losses(whole), rel=1e-6)


@pytest.mark.parametrize("policy", ["split", "fail"])
def test_f18_at_one_sample_it_keeps_a_checkpoint_and_says_what_would_fit(
    wide: Bench, large_rows: Path, policy: str
) -> None:
    run = wide.run(
        "no-room",
        data={"train": [str(large_rows)], "eval": 0},
        training={"max_steps": 2, "global_batch": 32, "batch_size": 32},
        recovery={"oom": policy},
    )
    assert wide.train(run, before=limited(3, full=True)).wait() == 1
    events = list(read(run.events_path))
    error = of(events, "error")[0]
    assert error["code"] == "training.out_of_memory" and error["exception"] == "ResourceError" and error["step"] == 0
    wanted = "recovery.oom=split" if policy == "fail" else "data.max_length="
    assert wanted in error["hint"] and run.id in error["hint"]
    assert events[-1]["reason"] == "failed"


@pytest.fixture(scope="module")
def poisoned(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with an infinite embedding for the character `~`: every row that has one gives a loss of NaN."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("poisoned") / "model"
    shutil.copytree(bench.model, folder)
    weights = load_file(folder / "model.safetensors")
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    weights["model.embed_tokens.weight"][vocabulary["~"]] = torch.inf
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def rows_with(path: Path, *, bad: int, good: int) -> Path:
    with path.open("w") as file:
        for i in range(bad + good):
            word = "~~" if i < bad else "abcdefgh"[i % 8] * 3
            chat = [{"role": "user", "content": f"{word} {i}"}, {"role": "assistant", "content": "yes"}]
            file.write(json.dumps({"messages": chat}) + "\n")
    return path


def test_f19_a_step_without_a_finite_loss_is_skipped_and_counted(bench: Bench, poisoned: Path, tmp_path: Path) -> None:
    data = rows_with(tmp_path / "rows.jsonl", bad=1, good=23)
    run = bench.run("one-nan", model={"id": str(poisoned)}, data={"train": [str(data)], "eval": 0})
    events = bench.finish(run)
    assert events[-1]["reason"] == "completed", show(events)
    assert events[-1]["totals"]["skipped_steps"] == 2  # one row, two epochs of six steps
    assert [e["message"].startswith("the loss is not finite") for e in of(events, "warning")] == [True, True]
    found = losses(run)
    assert [found[e["step"]] for e in of(events, "warning")] == [None, None]
    assert sum(value is not None for value in found.values()) == 10


def test_f19_too_many_in_a_row_fail_the_run(bench: Bench, poisoned: Path, tmp_path: Path) -> None:
    data = rows_with(tmp_path / "rows.jsonl", bad=24, good=0)
    run = bench.run("all-nan", model={"id": str(poisoned)}, data={"train": [str(data)], "eval": 0})
    assert bench.train(run).wait() == 1
    events = list(read(run.events_path))
    error = of(events, "error")[0]
    assert error["code"] == "training.not_finite" and error["step"] == 5 and "learning_rate" in error["hint"]
    assert events[-1]["reason"] == "failed" and len(of(events, "warning")) == 5
    assert not list(run.artifacts_dir.iterdir())
