"""A run that somebody turned about while it ran, done again from its journal: the same losses and weights, bitwise."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

pytest.importorskip("torch")

from llamahome_tui.jobs import control, replay
from llamahome_tui.jobs.journal import JournalWriter, read
from llamahome_tui.jobs.store import Run, RunStore
from llamahome_tui.training.replaying import KEY, origin_of
from tests.conftest import eventually
from tests.integration.trainer_runs import Bench, losses, of

pytestmark = pytest.mark.torch

# The trainer waits before some of its steps until somebody has asked for something.
HELD = """
import time
from llamahome_tui.training.trainer.loop import Loop
step = Loop._step
def held(self):
    asked = {4: 2, 5: 3, 8: 5}.get(self.counters.step, 0)
    if asked:
        (self.child.run.dir / f"waits-{self.counters.step}").touch()
    while len(list(self.child.run.control_dir.glob("*.json"))) < asked:
        time.sleep(0.002)
    step(self)
Loop._step = held
"""


def ask_at(bench: Bench, run: Run, asked: dict[int, list[tuple[str, Any]]]) -> None:
    trainer = bench.train(run, before=HELD)
    for step, requests in asked.items():
        eventually((run.dir / f"waits-{step}").exists, f"step {step}")
        for op, value in requests:
            control.drop(run, op, value)
    assert trainer.wait() == 0, run.out_path.read_text()


def weights(run: Run, step: int) -> bytes:
    return (run.checkpoints_dir / f"step-{step}" / "adapter_model.safetensors").read_bytes()


def samples(run: Run) -> list[tuple[int, str]]:
    return [(e["step"], e["text"]) for e in of(list(read(run.events_path)), "sample")]


def again(bench: Bench, run: Run, name: str) -> Run:
    spec = run.job["spec"] | {"name": name}
    job = {"name": name, "kind": "train", "spec": spec, KEY: origin_of(run).to_dict(), replay.KEY: replay.as_job(run)}
    return RunStore(bench.places).create(job)


def test_a_run_that_was_turned_about_is_replayed_bitwise(bench: Bench) -> None:
    tables = {"lora": {"dropout": 0.1}, "samples": {"prompts": ["say ab"]}, "checkpoint": {"every_steps": 0, "keep": 9}}
    run = bench.run("turned", **tables)
    ask_at(bench, run, {4: [("sample", None), ("lr", 0.002)], 5: [("pause", None)]})
    changes = {"set": {"training.learning_rate": 0.02}}
    control.drop(run, "resume", changes)
    ledger = JournalWriter(run.supervisor_path)  # as the supervisor that begins the second attempt
    ledger.append("begin", attempt=2, **changes)
    ledger.close()
    ask_at(bench, run, {8: [("stop", None)]})
    told = [(one["step"], one["op"], one["value"]) for one in replay.as_job(run)]
    assert told == [
        (5, "sample", None), (5, "lr", 0.002), (6, "save", None), (6, "lr", 0.02), (9, "stop", None),
    ]  # fmt: skip

    replayed = again(bench, run, "replayed")
    events = bench.finish(replayed)
    begun, end = of(events, "start")[0], events[-1]
    assert (begun["exact"], begun["reason"], begun["replay_of"]) == (True, "", run.id)
    assert (end["type"], end["reason"], end["step"]) == ("end", "stopped", 9)
    assert [(e["step"], e["op"], e["outcome"]) for e in of(events, "control")] == [
        (step, op, "applied") for step, op, _ in told
    ]
    assert losses(replayed) == losses(run) and max(losses(run)) == 9
    assert weights(replayed, 9) == weights(run, 9) and weights(replayed, 6) == weights(run, 6)
    samples = [
        [(e["step"], e["text"]) for e in read(one.events_path) if e["type"] == "sample"] for one in (run, replayed)
    ]
    assert samples[0] == samples[1] and [step for step, _ in samples[0]] == [0, 5]
    assert replay.as_job(replayed) == replay.as_job(run)

    # It has left as it was to; let go on, it does not leave there a second time, also from further back.
    shutil.rmtree(replayed.checkpoints_dir / "step-9")
    control.drop(replayed, "resume")
    events = bench.finish(replayed)
    assert of(events, "start")[-1]["from_step"] < 9 and events[-1]["reason"] == "completed"


def test_a_replay_on_other_rows_says_that_it_is_none(bench: Bench) -> None:
    run = bench.run("on-rows", training={"max_steps": 2})
    bench.finish(run)
    whole = bench.data.read_text()
    try:
        bench.data.write_text(whole + whole.splitlines()[0].replace("say", "tell") + "\n")
        start = of(bench.finish(again(bench, run, "on-more-rows")), "start")[0]
    finally:
        bench.data.write_text(whole)
    assert start["exact"] is False and start["reason"] == f"data changed: {bench.data}"
