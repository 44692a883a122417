"""The trainer in a real process: it learns, keeps its promises about stopping and resuming, and survives its faults."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")

from llamahome_tui.jobs import answers, control, replay
from llamahome_tui.jobs.journal import read
from llamahome_tui.jobs.store import RunStore
from tests.conftest import eventually
from tests.forge import Forge
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


@pytest.fixture(scope="module")
def undisturbed(bench: Bench) -> tuple[dict[int, float], bytes]:
    """Losses and adapter of a run with dropout that nobody disturbs."""
    run = bench.run("undisturbed", lora={"dropout": 0.1})
    events = bench.finish(run)
    assert events[-1]["reason"] == "completed", show(events)
    return losses(run), adapter(run)


def test_a_resume_neither_loses_nor_doubles_the_answers_of_an_evaluation(bench: Bench) -> None:
    run = bench.run("answers", evaluation={"generate_rows": 3, "every_steps": 4}, checkpoint={"keep": 9})
    bench.finish(run)
    whole = {path.name: path.read_bytes() for path in run.artifacts_dir.glob("eval-*")}
    assert sorted(whole) == ["eval-0.jsonl", "eval-12.jsonl", "eval-4.jsonl", "eval-8.jsonl"]
    for late in checkpoint_steps(run):
        if late > 6:
            shutil.rmtree(run.checkpoints_dir / f"step-{late}")
    for step in (5, 8, 11):  # of an attempt that was here before, and evaluated at other steps
        (run.artifacts_dir / f"eval-{step}.jsonl").write_text("{}\n")
    from_step = max(checkpoint_steps(run))
    assert bench.finish(run)[-1]["reason"] == "completed"
    again = {path.name: path.read_bytes() for path in run.artifacts_dir.glob("eval-*")}
    assert from_step == 6 and again == whole | {"eval-5.jsonl": b"{}\n"}


def test_a_run_from_start_to_adapter(bench: Bench) -> None:
    run = bench.run(
        "whole",
        training={"max_steps": 40},
        evaluation={"generate_rows": 4},
        samples={"prompts": ["say ab"], "every_steps": 20},
    )
    events = bench.finish(run)
    start, end = events[0], events[-1]
    assert (start["type"], start["attempt"], start["from_step"], start["exact"]) == ("start", 1, 0, True)
    assert start["request_id"] == "test" and start["versions"]["torch"] and start["devices"] == ["cpu"]
    assert [e["seq"] for e in events] == list(range(events[0]["seq"], events[0]["seq"] + len(events)))
    assert [e["phase"] for e in of(events, "phase")][:4] == ["data", "model", "train", "eval"]
    assert of(events, "progress")[-1] | {"step": 40, "steps": 40, "eta_s": 0.0} == of(events, "progress")[-1]
    stepped = [e for e in of(events, "metrics") if "loss" in e]
    assert [e["step"] for e in stepped] == list(range(1, 41))
    assert stepped[-1]["loss"] < stepped[0]["loss"]
    assert all(
        e["grad_norm"] > 0 and e["memory_peak_bytes"] > 0 and e["tokens_per_s"] >= e["trained_tokens_per_s"] > 0
        for e in stepped
    )
    assert all(e["mfu"] is None for e in stepped), "the peak of a CPU is not known"
    evaluated = [e for e in of(events, "metrics") if "eval_loss" in e]
    assert [e["step"] for e in evaluated] == [0, *range(4, 41, 4)]
    assert all(0 <= e["eval_exact"] <= 1 for e in evaluated)
    assert answers.steps_of(run) == [e["step"] for e in evaluated]
    for e in evaluated:
        kept = answers.read(run, e["step"])
        assert [one.row for one in kept] == [0, 1, 2, 3]
        assert sum(one.right for one in kept) / 4 == e["eval_exact"]
        assert all(one.prompt and one.expected and one.right == (one.text == one.expected) for one in kept)
    assert [(e["step"], e["prompt"]) for e in of(events, "sample")] == [(s, "say ab") for s in (0, 20, 40)]
    artifact = of(events, "artifact")[0]
    assert artifact["kind"] == "adapter" and artifact["path"] == "artifacts/adapter" and len(artifact["sha256"]) == 64
    assert end["reason"] == "completed" and end["totals"]["steps"] == 40
    assert end["totals"]["loss_first"] == stepped[0]["loss"] and end["totals"]["loss_last"] == stepped[-1]["loss"]
    best = end["best"]
    assert best["metric"] == "eval_loss" and best["value"] == min(e["eval_loss"] for e in evaluated)
    steps = checkpoint_steps(run)
    assert steps[-1] == 40 and best["step"] in steps and len(steps) <= 3
    assert (run.dir / best["path"] / "complete.json").is_file()
    assert not list(run.checkpoints_dir.glob(".*"))
    assert (run.dir / "artifacts").stat().st_mode & 0o077 == 0

    assert [e["path"] for e in of(events, "artifact")[1:]] == ["artifacts/report.json", "artifacts/report.md"]
    report = json.loads((run.artifacts_dir / "report.json").read_text())
    assert report["run"]["status"] == "completed" and report["totals"] == end["totals"]
    assert len(report["curves"]["loss"]) == 40 and report["curves"]["eval_loss"][-1][0] == 40
    assert (report["data"]["rows"], report["data"]["eval_rows"]) == (40, 8)
    assert list(report["data"]["files"]) == [str(bench.data)] and report["parameters"]["trainable"] > 0
    assert [(s["first_step"], s["last_step"]) for s in report["samples"]] == [(0, 40)]
    assert report["versions"] == start["versions"] and report["spec_hash"] == start["spec_hash"]
    assert "| trained parameters |" in (run.artifacts_dir / "report.md").read_text()


PLAIN = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
adapter, chats = sys.argv[1:3]
config = json.load(open(adapter + "/adapter_config.json"))
base = config["base_model_name_or_path"]
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
tokenizer = AutoTokenizer.from_pretrained(base)
total = trained = 0
for line in open(chats):
    messages = json.loads(line)["messages"]
    prompt = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    start = len(tokenizer(prompt, add_special_tokens=False).input_ids)
    ids = torch.tensor([tokenizer(whole, add_special_tokens=False).input_ids])
    labels = ids.clone(); labels[:, :start] = -100
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, :-1]
    total += torch.nn.functional.cross_entropy(logits, labels[0, 1:], reduction="sum").item()
    trained += int((labels[0, 1:] != -100).sum())
print(json.dumps({"loss": total / trained, "lora": config["peft_type"]}))
"""


def test_the_adapter_loads_with_plain_peft_and_the_mask_is_the_assistants(bench: Bench, tmp_path: Path) -> None:
    """Another process that knows nothing of LlamaHome computes the same evaluation loss from the saved adapter."""
    from tests.tinymodel import write_chats

    held = write_chats(tmp_path / "held.jsonl", 6, seed=9)
    run = bench.run("plain", data={"eval": str(held)})
    bench.finish(run)
    answer = subprocess.run(
        [sys.executable, "-c", PLAIN, str(run.artifacts_dir / "adapter"), str(held)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    said = json.loads(answer.stdout)
    assert said["lora"] == "LORA"
    assert said["loss"] == pytest.approx(eval_losses(run)[12], rel=1e-4)


def test_a_run_twice_is_bitwise_the_same(bench: Bench, undisturbed: tuple[dict[int, float], bytes]) -> None:
    again = bench.run("again", lora={"dropout": 0.1})
    bench.finish(again)
    assert (losses(again), adapter(again)) == undisturbed


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_sigkill_at_random_and_resume_is_bitwise_the_undisturbed_run(
    bench: Bench, undisturbed: tuple[dict[int, float], bytes], seed: int
) -> None:
    chance = random.Random(seed)
    run = bench.run(f"killed-{seed}", lora={"dropout": 0.1})
    for _ in range(4):
        trainer = bench.train(run)
        wanted = chance.randint(1, 11)
        limit = time.monotonic() + 30
        while trainer.forge.poll(trainer) is None and time.monotonic() < limit:
            if max(losses(run), default=0) >= wanted:
                break
            time.sleep(0.001)
        time.sleep(chance.random() * 0.02)
        trainer.kill()
        trainer.wait()
    events = bench.finish(run)
    assert events[-1]["reason"] == "completed", show(events)
    assert all(e["exact"] for e in of(events, "start")), of(events, "start")
    assert (losses(run), adapter(run)) == undisturbed
    assert len(eval_losses(run)) == 13 and eval_losses(run)[12] == events[-1]["best"]["value"]
    assert [e["seq"] for e in events] == list(range(events[0]["seq"], events[0]["seq"] + len(events)))


KILL_AT = """
import os, signal
reached = 0
def watched(name):
    real = getattr(os, name)
    def call(first, *rest, **more):
        global reached
        path = os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else str(first)
        reached += "step-6" in path
        if "step-6" in path and reached == STAGE:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(first, *rest, **more)
    setattr(os, name, call)
for name in ("mkdir", "fsync", "replace", "rename"):
    watched(name)
"""


@pytest.mark.parametrize("stage", [1, 3, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 4, 5, 6, 7, 8, 9, 10))])
def test_f13_sigkill_at_every_stage_of_a_checkpoint(
    bench: Bench, undisturbed: tuple[dict[int, float], bytes], stage: int
) -> None:
    run = bench.run(f"stage-{stage}", lora={"dropout": 0.1}, evaluation={"every_steps": 0})
    assert bench.train(run, before=KILL_AT.replace("STAGE", str(stage))).wait() == -9
    events = bench.finish(run)
    assert of(events, "start")[1]["from_step"] in (3, 6)
    assert events[-1]["reason"] == "completed", show(events)
    assert (losses(run), adapter(run)) == undisturbed
    assert not list(run.checkpoints_dir.glob(".*"))


@pytest.mark.parametrize("damage", ["truncate", "flip", "unlink"])
def test_f14_a_damaged_checkpoint_is_set_aside_and_the_one_before_goes_on(
    bench: Bench, undisturbed: tuple[dict[int, float], bytes], damage: str
) -> None:
    run = bench.run(f"damaged-{damage}", lora={"dropout": 0.1})
    trainer = bench.train(run)
    while len(checkpoint_steps(run)) < 2 or 6 not in checkpoint_steps(run):
        assert trainer.forge.poll(trainer) is None, run.out_path.read_text()
        time.sleep(0.002)
    trainer.kill()
    trainer.wait()
    newest = run.checkpoints_dir / f"step-{checkpoint_steps(run)[-1]}"
    before = checkpoint_steps(run)[-2]
    state = newest / "trainer.pt"
    content = bytearray(state.read_bytes())
    if damage == "truncate":
        state.write_bytes(content[:-100])
    elif damage == "flip":
        content[len(content) // 2] ^= 1
        state.write_bytes(content)
    else:
        state.unlink()
    events = bench.finish(run)
    assert of(events, "start")[-1]["from_step"] == before
    assert any("set aside" in e["message"] for e in of(events, "warning"))
    assert list(run.checkpoints_dir.glob("*.partial"))
    assert (losses(run), adapter(run)) == undisturbed


@pytest.mark.parametrize("word", ["SIGTERM", "SIGUSR1", "stop", "pause"])
def test_asked_to_leave_it_checkpoints_and_goes_on_exactly(
    bench: Bench, undisturbed: tuple[dict[int, float], bytes], word: str
) -> None:
    import signal

    run = bench.run(f"left-{word}", lora={"dropout": 0.1}, checkpoint={"every_steps": 0})
    trainer = bench.train(run)
    while max(losses(run), default=0) < 4:
        assert trainer.forge.poll(trainer) is None, run.out_path.read_text()
        time.sleep(0.001)
    if word.startswith("SIG"):
        trainer.kill(getattr(signal, word))
    else:
        control.drop(run, word)
    assert trainer.wait() == 0
    end = list(read(run.events_path))[-1]
    assert end["reason"] == ("paused" if word in ("SIGUSR1", "pause") else "stopped")
    assert checkpoint_steps(run)[-1] == end["step"]
    if not word.startswith("SIG"):
        control.drop(run, "resume")
    events = bench.finish(run)
    assert of(events, "start")[-1] | {"from_step": end["step"], "exact": True} == of(events, "start")[-1]
    assert (losses(run), adapter(run)) == undisturbed


CLOCK = """
from llamahome_tui.training.trainer import recipe
real = recipe.Loop
def twenty_seconds_a_step(*given):
    counters = given[5]
    return real(*given, clock=lambda: 20.0 * counters.step)
recipe.Loop = twenty_seconds_a_step
"""


def test_checkpoints_come_by_minutes(bench: Bench) -> None:
    run = bench.run("minutes", checkpoint={"every_steps": 0, "every_minutes": 1.0}, evaluation={"every_steps": 0})
    events = bench.finish(run, before=CLOCK)
    assert [event["step"] for event in of(events, "checkpoint")] == [3, 6, 9, 12], show(events)


def test_requests_are_obeyed_between_steps_and_answered(bench: Bench) -> None:
    run = bench.run(
        "asked", training={"max_steps": 400, "scheduler": "constant", "warmup": 0}, checkpoint={"every_steps": 0}
    )
    trainer = bench.train(run)
    while max(losses(run), default=0) < 2:
        time.sleep(0.002)
    for op, value in (("save", None), ("eval", None), ("lr", 0.005), ("lr", "fast"), ("sample", None)):
        control.drop(run, op, value)
    answers: list[dict[str, object]] = []
    limit = time.monotonic() + 30
    while len(answers) < 5 and time.monotonic() < limit:
        answers = of(list(read(run.events_path)), "control")
        time.sleep(0.01)
    seen = max(losses(run))
    while max(losses(run)) < seen + 2:
        time.sleep(0.002)
    trainer.kill(15)
    trainer.wait()
    events = list(read(run.events_path))
    by_op = [(e["op"], e["outcome"]) for e in of(events, "control")]
    assert by_op == [
        ("save", "applied"),
        ("eval", "applied"),
        ("lr", "applied"),
        ("lr", "refused"),
        ("sample", "refused"),
    ]
    rates = [e["lr"] for e in of(events, "metrics") if "lr" in e]
    assert rates[0] == 0.01 and rates[-1] == 0.005
    best = events[-1]["best"]  # found by the evaluation that was asked for
    assert best is None or (run.dir / best["path"] / "complete.json").is_file()
    resumed = bench.train(run)
    while max(losses(run), default=0) <= events[-1]["step"]:
        time.sleep(0.002)
    resumed.kill()
    resumed.wait()
    assert [e["lr"] for e in read(run.events_path) if e["type"] == "metrics" and "lr" in e][-1] == 0.005


# Three requests come while the sixth step is about to be taken, and after the ninth the trainer dies.
ASKED_AT_SIX = """
import os, time
from llamahome_tui.training.trainer.loop import Loop
step = Loop._step
def held(self):
    if self.counters.step == 5:
        (self.child.run.dir / "waits").touch()
    while self.counters.step == 5 and len(list(self.child.run.control_dir.glob("*.json"))) < 3:
        time.sleep(0.002)
    if self.counters.step == 9:
        os.kill(os.getpid(), 9)
    step(self)
Loop._step = held
"""


def test_a_journal_replays_to_the_same_run_and_so_does_a_resume(bench: Bench) -> None:
    wanted = {"lora": {"dropout": 0.1}, "checkpoint": {"every_steps": 3, "keep": 9}}
    run = bench.run("asked-live", **wanted)
    trainer = bench.train(run, before=ASKED_AT_SIX)
    eventually((run.dir / "waits").exists, "the sixth step")
    for op, value in (("lr", 0.003), ("eval", None), ("save", None)):
        control.drop(run, op, value)
    assert trainer.wait() == -9
    told = [(e["step"], e["op"], e["outcome"]) for e in of(list(read(run.events_path)), "control")]
    assert told == [(6, "lr", "applied"), (6, "eval", "applied"), (6, "save", "applied")]
    for kept in run.checkpoints_dir.iterdir():  # what checkpoints hold of the requests is lost; the journal has them
        if kept.name != "step-3":
            shutil.rmtree(kept)
    events = bench.finish(run)
    assert of(events, "start")[-1] | {"from_step": 3, "exact": True} == of(events, "start")[-1]
    again = [(e["step"], e["op"], e["outcome"]) for e in of(events, "control")[3:]]
    assert again == told
    rates = {e["step"]: e["lr"] for e in of(events, "metrics") if "lr" in e}
    assert rates[7] < rates[6] / 2

    job = {"name": "replayed", "kind": "train", "spec": bench.spec(**wanted), "replay": replay.as_job(run)}
    replayed = RunStore(bench.places).create(job)
    events = bench.finish(replayed)
    assert [(e["step"], e["op"], e["outcome"]) for e in of(events, "control")] == told
    assert (losses(replayed), adapter(replayed)) == (losses(run), adapter(run))
    assert eval_losses(replayed) == eval_losses(run) and 6 in eval_losses(replayed)
    assert replay.as_job(replayed) == replay.as_job(run)


def test_of_two_rates_at_once_the_newer_counts(bench: Bench) -> None:
    run = bench.run("two-rates", training={"max_steps": 2, "scheduler": "constant", "warmup": 0})
    for rate in (0.001, 0.002, 0.001):
        control.drop(run, "lr", rate)
    events = bench.finish(run)
    told = [(e["value"], e["outcome"], e["step"]) for e in of(events, "control")]
    assert told == [(0.001, "superseded", 0), (0.002, "superseded", 0), (0.001, "applied", 0)]
    assert {e["lr"] for e in of(events, "metrics") if "lr" in e} == {0.001}


def test_samples_are_written_before_the_first_step_and_after_the_last(bench: Bench) -> None:
    prompts = ["Reverse: abc", "Say: b"]
    run = bench.run("samples", training={"max_steps": 5}, samples={"prompts": prompts, "max_new_tokens": 4})
    control.drop(run, "sample")  # this step has them already
    events = bench.finish(run)
    assert [(e["step"], e["prompt"]) for e in of(events, "sample")] == [(s, p) for s in (0, 5) for p in prompts]
    assert [e["outcome"] for e in of(events, "control")] == ["applied"]


def test_changed_data_or_settings_make_a_resume_inexact_with_the_reason(bench: Bench, tmp_path: Path) -> None:
    from tests.tinymodel import TEMPLATE, write_chats

    data = write_chats(tmp_path / "chats.jsonl", 40)
    template = tmp_path / "template.jinja"
    template.write_text(TEMPLATE)
    run = bench.run("changed", data={"train": [str(tmp_path / "*.jsonl")], "template": str(template)})
    assert bench.finish(run)[-1]["reason"] == "completed"
    write_chats(data, 40, seed=5)
    write_chats(tmp_path / "more.jsonl", 40, seed=6)
    template.write_text(TEMPLATE + "{# the same #}")
    control.drop(run, "resume", {"set": {"training.max_steps": 15}})
    events = bench.finish(run)
    start = of(events, "start")[-1]
    assert not start["exact"] and start["from_step"] == 12
    assert "training.max_steps changed" in start["reason"]
    assert f"data changed: {data}, {template}" in start["reason"]
    assert f"data added: {tmp_path / 'more.jsonl'}" in start["reason"]
    assert events[-1]["totals"]["steps"] == 15


def test_patience_ends_the_run_with_the_best_adapter(bench: Bench) -> None:
    run = bench.run(
        "patient",
        training={"max_steps": 200, "learning_rate": 0.5, "warmup": 0, "scheduler": "constant"},
        evaluation={"every_steps": 2, "patience": 3},
    )
    events = bench.finish(run)
    end = events[-1]
    assert end["reason"] == "completed" and end["totals"]["early_stopped"] and end["totals"]["steps"] < 200
    best = run.dir / end["best"]["path"] / "adapter_model.safetensors"
    assert best.read_bytes() == adapter(run)


def test_full_fine_tuning_resumes_exactly_too(forge: Forge, tmp_path: Path) -> None:
    bench = Bench.make(forge, tmp_path, tied=True)
    tables = {"lora": {"enabled": False}, "training": {"optimizer": "adamw", "learning_rate": 0.001}}
    whole = bench.run("full", **tables)
    assert bench.finish(whole)[-1]["reason"] == "completed"
    run = bench.run("full-killed", **tables)
    trainer = bench.train(run)
    while max(losses(run), default=0) < 7:
        time.sleep(0.001)
    trainer.kill()
    trainer.wait()
    bench.finish(run)
    weights = "artifacts/model/model.safetensors"
    assert losses(run) == losses(whole)
    assert (run.dir / weights).read_bytes() == (whole.dir / weights).read_bytes()


FP16_ON_A_CPU = """
from llamahome_tui.training import weights
weights.refuse_precision = lambda spec, *, cpu: None
"""


@pytest.mark.parametrize(
    ("name", "tables"),
    [
        ("bf16", {"training": {"precision": "bf16"}}),
        ("fp16", {"training": {"precision": "fp16"}}),
        ("checkpointing", {"training": {"gradient_checkpointing": True, "batch_size": 2}}),
        ("dora", {"lora": {"variant": "dora", "targets": ["q_proj", "down_proj"]}}),
    ],
)
def test_other_ways_to_train_learn_and_resume_exactly(bench: Bench, name: str, tables: dict) -> None:
    """fp16 is refused on a CPU, which computes it all the same: here for the sake of the gradient scaler."""
    before = FP16_ON_A_CPU if name == "fp16" else ""
    whole = bench.run(name, **tables)
    events = bench.finish(whole, before=before)
    assert events[-1]["reason"] == "completed", show(events)
    assert losses(whole)[12] < losses(whole)[1]
    run = bench.run(f"{name}-killed", **tables)
    trainer = bench.train(run, before=before)
    while max(losses(run), default=0) < 5:
        assert trainer.forge.poll(trainer) is None, run.out_path.read_text()
        time.sleep(0.001)
    trainer.kill()
    trainer.wait()
    bench.finish(run, before=before)
    assert (losses(run), adapter(run)) == (losses(whole), adapter(whole))


@pytest.mark.parametrize("key", ["targets", "train_also"])
def test_a_target_the_model_has_not_is_named(bench: Bench, key: str) -> None:
    run = bench.run("targets", lora={key: ["q_proj", "w_pack"]})
    events = bench.finish(run)
    error = of(events, "error")[0]
    assert error["code"] == "model.unknown_target" and "named w_pack" in error["message"]
    assert "named q_proj" not in error["message"]
    assert "down_proj" in error["hint"] and events[-1]["reason"] == "failed"


def test_a_run_goes_on_from_another_runs_adapter(bench: Bench) -> None:
    """The later run begins where the first one ended, and its adapter belongs on the same base."""
    first = bench.run("first", data={"eval": 8})
    bench.finish(first)
    second = bench.run("second", model={"id": first.id}, lora={"r": 16})
    events = bench.finish(second)
    assert events[-1]["reason"] == "completed", show(events)
    assert eval_losses(second)[0] == pytest.approx(eval_losses(first)[12], rel=1e-6)
    config = json.loads((second.artifacts_dir / "adapter" / "adapter_config.json").read_text())
    assert config["r"] == 4 and config["base_model_name_or_path"] == str(bench.model)
    assert any("goes on from the adapter" in e["message"] for e in of(events, "warning"))


def test_a_second_trainer_of_one_run_is_refused(bench: Bench) -> None:
    run = bench.run("twice")
    first = bench.train(run)
    while not losses(run):
        time.sleep(0.002)
    second = bench.train(run)
    assert second.wait() == 10
    assert f"process {first.pid}" in run.out_path.read_text()
    assert first.wait() == 0
    assert len(of(list(read(run.events_path)), "start")) == 1


def test_a_resume_refuses_a_step_that_the_data_do_not_fill(bench: Bench) -> None:
    run = bench.run("refilled", training={"max_steps": 2})
    bench.finish(run)
    control.drop(run, "resume", {"set": {"training.global_batch": 1000, "training.max_steps": 4}})
    assert bench.train(run).wait() == 1
    error = of(list(read(run.events_path)), "error")[0]
    assert error["code"] == "training.batch_over_data" and error["retry"] is False


def test_what_gives_a_checkpoint_its_shape_may_not_change(bench: Bench) -> None:
    run = bench.run("reshaped")
    assert bench.finish(run)[-1]["reason"] == "completed"
    control.drop(run, "resume", {"set": {"lora.r": 8, "training.optimizer": "sgd", "training.max_steps": 20}})
    assert bench.train(run).wait() == 1
    error = of(list(read(run.events_path)), "error")[0]
    assert error["code"] == "spec.invalid" and error["retry"] is False
    assert "lora.r" in error["message"] and "training.optimizer" in error["message"]
    assert "max_steps" not in error["message"]
