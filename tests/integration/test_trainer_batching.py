"""How rows lie in micro-batches, in a real trainer: chosen, kept, exact over a kill, refused where rows would leak."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from llamahome_tui.jobs import control, recovery
from llamahome_tui.jobs.journal import read
from llamahome_tui.jobs.store import Run
from tests.forge import Forge
from tests.integration.trainer_runs import Bench, adapter, checkpoint_steps, eval_losses, losses, of, show
from tests.tinymodel import write_chats, write_tokenizer

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def hybrid(forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A model with a layer of linear attention, whose state runs on from one packed row into the next."""
    import torch
    from transformers import Qwen3NextConfig, Qwen3NextForCausalLM

    bench = Bench.make(forge, tmp_path_factory.mktemp("hybrid"))
    folder = bench.model.with_name("next")
    folder.mkdir()
    config = Qwen3NextConfig(
        vocab_size=write_tokenizer(folder), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=512, num_experts=0,
        linear_num_value_heads=4, linear_num_key_heads=2, linear_key_head_dim=8, linear_value_head_dim=8,
        layer_types=["linear_attention", "full_attention"], bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Qwen3NextForCausalLM(config).save_pretrained(folder)
    bench.model = folder
    return bench


def chosen(events: list[dict[str, Any]]) -> tuple[str, str]:
    """Batching and its reason, as an attempt says it when it begins to train."""
    first = next(e for e in of(events, "phase") if e["phase"] == "train")
    return first["batching"], first["batching_reason"]


def counters(run: Run) -> dict[str, Any]:
    newest = run.checkpoints_dir / f"step-{checkpoint_steps(run)[-1]}" / "counters.json"
    found: dict[str, Any] = json.loads(newest.read_text())["counters"]
    return found


def test_every_mode_learns_the_same(bench: Bench) -> None:
    found = {}
    for mode in ("packed", "sorted", "plain"):
        run = bench.run(mode, data={"batching": mode})
        events = bench.finish(run)
        assert events[-1]["reason"] == "completed", show(events)
        assert chosen(events) == (mode, "the spec says so") and counters(run)["batching"] == mode
        found[mode] = (losses(run), eval_losses(run))
    for mode in ("packed", "sorted"):
        for mine, plain in zip(found[mode], found["plain"], strict=True):
            assert mine.keys() == plain.keys()
            # Rounding grows from step to step; the first ones are the same to the sixth digit.
            assert [mine[step] for step in sorted(mine)] == pytest.approx([plain[s] for s in sorted(plain)], rel=1e-4)
            assert mine[min(mine)] == pytest.approx(plain[min(plain)], rel=1e-5)


def test_auto_on_a_cpu_is_sorted_and_says_why(bench: Bench) -> None:
    run = bench.run("auto")
    events = bench.finish(run)
    mode, reason = chosen(events)
    assert mode == "sorted" and "CPU" in reason
    assert (counters(run)["batching"], counters(run)["batching_reason"]) == (mode, reason)
    assert not of(events, "degrade")


def test_a_packed_run_that_is_killed_resumes_bitwise(bench: Bench) -> None:
    whole = bench.run("packed-whole", data={"batching": "packed"}, lora={"dropout": 0.1})
    assert bench.finish(whole)[-1]["reason"] == "completed"
    run = bench.run("packed-killed", data={"batching": "packed"}, lora={"dropout": 0.1})
    for wanted in (4, 8):
        trainer = bench.train(run)
        while max(losses(run), default=0) < wanted:
            assert trainer.forge.poll(trainer) is None, run.out_path.read_text()
            time.sleep(0.001)
        trainer.kill()
        trainer.wait()
    events = bench.finish(run)
    assert events[-1]["reason"] == "completed", show(events)
    assert all(e["exact"] for e in of(events, "start")), of(events, "start")
    assert (losses(run), eval_losses(run), adapter(run)) == (losses(whole), eval_losses(whole), adapter(whole))


def test_a_checkpoint_from_before_there_was_a_choice_goes_on_as_it_began(bench: Bench) -> None:
    run = bench.run("older")
    assert bench.finish(run)[-1]["reason"] == "completed"
    for folder in run.checkpoints_dir.glob("step-*"):
        notes = json.loads((folder / "counters.json").read_text())
        for name in ("batching", "batching_reason"):
            del notes["counters"][name]
        del notes["counters"]["micro"]["call"]
        (folder / "counters.json").write_text(json.dumps(notes))
        (folder / "complete.json").unlink()
        recovery.write_complete(folder, int(folder.name[5:]))
    control.drop(run, "resume", {"set": {"training.max_steps": 15}})
    events = bench.finish(run)
    assert of(events, "start")[-1]["from_step"] == 12 and events[-1]["reason"] == "completed", show(events)
    assert [e["batching"] for e in of(events, "phase") if "batching" in e][-1] == "sorted"
    assert counters(run)["micro"] == {"unit": "tokens", "limit": 4096, "call": 0}


def test_packing_that_leaks_is_refused_where_the_spec_asks_for_it(hybrid: Bench) -> None:
    run = hybrid.run("leaky", data={"batching": "packed"})
    events = hybrid.finish(run)
    error = of(events, "error")[0]
    assert error["code"] == "training.packing_leaks" and error["retry"] is False and events[-1]["reason"] == "failed"
    assert "leak into one another" in error["message"] and "of a hidden state" in error["message"]
    assert not losses(run)
    # The hint's command is the way out.
    assert f"runs resume {run.id} --set data.batching=auto" in error["hint"]
    control.drop(run, "resume", {"set": {"data.batching": "auto"}})
    events = hybrid.finish(run)
    assert events[-1]["reason"] == "completed" and losses(run)


CHOOSE_PACKED = """
from llamahome_tui.training import auto
auto.batching = lambda *given, **more: ("packed", "as on a GPU")
"""


def test_packing_that_leaks_becomes_sorted_where_it_was_chosen(hybrid: Bench) -> None:
    """Auto takes packing on a GPU only; here it is made to."""
    run = hybrid.run("leaky-auto")
    events = hybrid.finish(run, before=CHOOSE_PACKED)
    assert events[-1]["reason"] == "completed", show(events)
    degraded = of(events, "degrade")[0]
    assert degraded["what"] == "batching sorted" and "packing leaks between rows on this model" in degraded["why"]
    assert chosen(events) == ("sorted", "packing leaks between rows on this model")
    plain = hybrid.run("leaky-sorted", data={"batching": "sorted"})
    hybrid.finish(plain)
    assert losses(run) == losses(plain)


SLOW = """
import time
import llamahome_tui.training.trainer.recipe as recipe
real = recipe.data_progress
def slow(child):
    told = real(child)
    def progress(*given):
        time.sleep(0.3)
        told(*given)
    return progress
recipe.data_progress = slow
recipe.ALIVE_S = 0.0
"""


@pytest.mark.parametrize("word", ["stop", "pause"])
def test_asked_to_leave_while_data_are_prepared_it_leaves_nothing(bench: Bench, tmp_path: Path, word: str) -> None:
    data = write_chats(tmp_path / "many.jsonl", 6000, seed=8 if word == "stop" else 9)
    run = bench.run(f"early-{word}", data={"train": [str(data)]})
    before = sorted(bench.places.prepared.iterdir()) if bench.places.prepared.is_dir() else []
    trainer = bench.train(run, before=SLOW)
    limit = time.monotonic() + 30
    while not any(e.get("rows") for e in of(list(read(run.events_path)), "phase")):
        assert trainer.forge.poll(trainer) is None and time.monotonic() < limit, run.out_path.read_text()
        time.sleep(0.01)
    control.drop(run, word)
    asked = time.monotonic()
    assert trainer.wait() == 0
    assert time.monotonic() - asked < 5
    events = list(read(run.events_path))
    assert events[-1]["reason"] == ("stopped" if word == "stop" else "paused") and events[-1]["step"] == 0
    assert [(e["op"], e["outcome"]) for e in of(events, "control")] == [(word, "applied")]
    told = [e for e in of(events, "phase") if "done" in e]
    assert all(0 <= e["done"] <= e["total"] and 0 <= e["rows"] < 6000 for e in told)
    assert (sorted(bench.places.prepared.iterdir()) if bench.places.prepared.is_dir() else []) == before
    control.drop(run, "resume")
    assert bench.finish(run)[-1]["reason"] == "completed"


def test_weights_repeat_rows_and_the_number_of_workers_moves_nothing(bench: Bench, tmp_path: Path) -> None:
    files = [
        str(write_chats(tmp_path / f"{name}.jsonl", rows, seed=rows)) for name, rows in (("few", 10), ("many", 30))
    ]
    data = {"train": files, "weights": [3.0, 1.0], "eval": 0}
    training = {"max_steps": 0, "epochs": 1, "max_workers": 1}
    whole = bench.run("weighted", data=data, training=training)
    end = bench.finish(whole)[-1]
    assert end["reason"] == "completed" and end["totals"]["steps"] == (3 * 10 + 30) / 4
    run = bench.run("weighted-killed", data=data, training=training)
    trainer = bench.train(run)
    while max(losses(run), default=0) < 5:
        assert trainer.forge.poll(trainer) is None, run.out_path.read_text()
        time.sleep(0.001)
    trainer.kill()
    trainer.wait()
    for folder in bench.places.prepared.iterdir():
        shutil.rmtree(folder)  # so that the other number of workers prepares them anew
    control.drop(run, "resume", {"set": {"training.max_workers": 3}})
    events = bench.finish(run)
    assert of(events, "start")[-1]["exact"], of(events, "start")[-1]
    assert (losses(run), adapter(run)) == (losses(whole), adapter(whole))
