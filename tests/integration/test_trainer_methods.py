"""Every method in a real trainer: it learns what its data say, reports it, and is killed and resumed bitwise."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from llamahome_tui.jobs import control
from llamahome_tui.jobs.journal import read
from llamahome_tui.jobs.store import Run
from tests.forge import Forge
from tests.integration.trainer_runs import Bench, adapter, losses, of, show
from tests.tinymodel import write_preferences

pytestmark = pytest.mark.torch

METHODS: dict[str, dict[str, dict[str, Any]]] = {
    "dpo": {"evaluation": {"metric": "eval_preference_accuracy"}, "data": {"batching": "packed"}},
    "kto": {"evaluation": {"metric": "eval_preference_margin"}, "training": {"gradient_checkpointing": True}},
    "orpo": {"training": {"batch_size": 1}},
    "simpo": {
        "method": {"beta": 2.0, "gamma": 1.0, "label_smoothing": 0.1},
        "training": {"precision": "bf16"},
        "evaluation": {"generate_rows": 4},
    },
    "pretrain": {"evaluation": {"metric": "eval_token_accuracy"}, "method": {"label_smoothing": 0.1}},
}


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    import tempfile

    with Forge() as forge, tempfile.TemporaryDirectory() as folder:
        made = Bench.make(forge, Path(folder))
        write_preferences(Path(folder) / "pairs.jsonl", 48)
        write_preferences(Path(folder) / "labels.jsonl", 48, labels=True)
        yield made


def tables(bench: Bench, kind: str) -> dict[str, dict[str, Any]]:
    """A spec's tables for a method, with dropout, over data of its own kind."""
    name = {"kto": "labels.jsonl", "pretrain": "chats.jsonl"}.get(kind, "pairs.jsonl")
    given = {"data": {"train": [str(bench.data.with_name(name))]}, "method": {"kind": kind}, "lora": {"dropout": 0.1}}
    extra = METHODS[kind]
    return {table: given.get(table, {}) | extra.get(table, {}) for table in given.keys() | extra.keys()}


def measured(run: Run, name: str) -> list[float]:
    return [e[name] for e in read(run.events_path) if e["type"] == "metrics" and name in e]


@pytest.mark.parametrize("kind", METHODS)
def test_it_learns_and_is_killed_and_resumed_bitwise(bench: Bench, kind: str) -> None:
    whole = bench.run(kind, **tables(bench, kind))
    events = bench.finish(whole)
    assert events[-1]["reason"] == "completed", show(events)
    said = [e for e in of(events, "metrics") if "eval_loss" in e]
    assert said[-1]["eval_loss"] < said[0]["eval_loss"]
    metric = METHODS[kind].get("evaluation", {}).get("metric", "eval_loss")
    best = events[-1]["best"]
    assert best["metric"] == metric
    assert best["value"] == (min if metric == "eval_loss" else max)(e[metric] for e in said if e["step"])
    if kind == "pretrain":
        assert said[-1]["eval_perplexity"] < said[0]["eval_perplexity"]
        totals = events[-1]["totals"]  # all tokens of chats are learned, but for the first of each of 48
        assert totals["tokens"] - totals["trained_tokens"] == 48
    else:
        # Of ORPO's loss most is the likelihood of what was chosen, which so few steps are spent on.
        assert kind == "orpo" or said[-1]["eval_preference_margin"] > said[0]["eval_preference_margin"]
        assert 0 <= said[-1]["eval_preference_accuracy"] <= 1
        stepped = [e for e in of(events, "metrics") if "loss" in e]
        assert all("preference_accuracy" in e and "preference_margin" in e for e in stepped)
        assert ("kl" in stepped[0]) == (kind == "kto")
    run = bench.run(f"{kind}-killed", **tables(bench, kind))
    trainer = bench.train(run)
    while max(losses(run), default=0) < 7:
        assert trainer.forge.poll(trainer) is None, run.out_path.read_text()
        time.sleep(0.001)
    trainer.kill()
    trainer.wait()
    again = bench.finish(run)
    assert of(again, "start")[-1]["exact"], of(again, "start")
    assert (losses(run), adapter(run)) == (losses(whole), adapter(whole))
    assert measured(run, metric)[-1] == measured(whole, metric)[-1]


def test_preferences_go_on_from_what_was_learned_before(bench: Bench) -> None:
    """The reference is the adapter that the run began with, also after a resume: nothing has changed at first."""
    first = bench.run("first", data={"train": [str(bench.data)]})
    bench.finish(first)
    wanted = tables(bench, "dpo") | {"model": {"id": first.id}, "lora": {}}
    second = bench.run("second", **wanted)
    events = bench.finish(second)
    assert events[-1]["reason"] == "completed", show(events)
    assert losses(second)[1] == pytest.approx(0.6931472, rel=1e-5)
    assert losses(second)[12] < 0.69
    run = bench.run("second-killed", **wanted)
    trainer = bench.train(run)
    while max(losses(run), default=0) < 5:
        assert trainer.forge.poll(trainer) is None, run.out_path.read_text()
        time.sleep(0.001)
    trainer.kill()
    trainer.wait()
    bench.finish(run)
    assert (losses(run), adapter(run)) == (losses(second), adapter(second))


def test_another_method_is_another_run(bench: Bench) -> None:
    run = bench.run("method", **tables(bench, "orpo"))
    assert bench.finish(run)[-1]["reason"] == "completed"
    control.drop(run, "resume", {"set": {"method.kind": "simpo", "training.max_steps": 20}})
    assert bench.train(run).wait() == 1
    error = of(list(read(run.events_path)), "error")[0]
    assert error["code"] == "spec.invalid" and "method.kind" in error["message"]


NAN = """
import torch
from llamahome_tui.training.trainer.objectives import pairs
real = pairs.Dpo.learn
seen = []
def learn(self, batch, whole):
    part = real(self, batch, whole)
    seen.append(1)
    return pairs.Part(part.loss * (float("nan") if len(seen) == 2 else 1.0), part.sums)
pairs.Dpo.learn = learn
"""


def test_a_pair_without_a_finite_loss_is_skipped(bench: Bench) -> None:
    given = tables(bench, "dpo") | {"training": {"batch_size": 4}, "evaluation": {"every_steps": 0}, "data": {}}
    given["data"] = {"train": [str(bench.data.with_name("pairs.jsonl"))], "eval": 0}
    run = bench.run("nan", **given)
    events = bench.finish(run, before=NAN)
    assert events[-1]["reason"] == "completed", show(events)
    assert [e["step"] for e in of(events, "warning") if "not finite" in e["message"]] == [2]
    assert events[-1]["totals"]["skipped_steps"] == 1
