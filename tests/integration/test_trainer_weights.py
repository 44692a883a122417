"""Every way to hold, adapt and move weights: it learns, a killed run goes on bitwise, plain peft loads the result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from llamahome_tui.models.locate import Located
from llamahome_tui.training.spec import Spec
from llamahome_tui.training.weights import checkpoint_bytes
from tests.forge import Forge
from tests.integration.trainer_runs import Bench, adapter, eval_losses, losses, of, show
from tests.tinymodel import write_chats

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def bench(forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Wide enough that matrices of a model hold 4,096 values: 8-bit optimisers leave smaller ones in 32 bits."""
    return Bench.make(forge, tmp_path_factory.mktemp("bench"), hidden=64, tied=True)


@pytest.fixture(scope="module")
def experts(forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The same with a mixture of experts."""
    import torch
    import transformers

    made = Bench.make(forge, tmp_path_factory.mktemp("experts"))
    config = transformers.AutoConfig.from_pretrained(made.model)
    same = "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads "
    same += "max_position_embeddings eos_token_id pad_token_id"
    settings = {key: getattr(config, key) for key in same.split()}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mixture = transformers.MixtralConfig(
            **settings, num_local_experts=4, tie_word_embeddings=False, bos_token_id=None
        )
        transformers.MixtralForCausalLM(mixture).save_pretrained(made.model)
    return made


FULL = {"enabled": False, "r": 16, "alpha": 32.0}
WAYS: dict[str, dict[str, dict[str, Any]]] = {
    "nf4": {"model": {"quantization": "nf4"}, "training": {"precision": "bf16"}},
    "int8": {"model": {"quantization": "int8"}},
    "plus": {"lora": {"plus_ratio": 16.0}, "training": {"learning_rate": 0.002, "weight_decay": 0.1}},
    "noise": {"training": {"neftune": 5.0}},
    "full-8bit": {"lora": FULL, "training": {"optimizer": "adamw_8bit", "learning_rate": 0.001}},
    "full-lion": {"lora": FULL, "training": {"optimizer": "lion_8bit", "learning_rate": 0.0003}},
    "paged": {"training": {"optimizer": "paged_adamw_8bit"}},
    "sgd": {"training": {"optimizer": "sgd", "learning_rate": 0.5}},
    "head": {"lora": {"train_also": ["lm_head"], "variant": "rslora"}, "training": {"precision": "bf16"}},
}  # fmt: skip
SMALL = 80_000  # bytes of a checkpoint that are neither weights nor optimiser state: random numbers, names, counters
SLOW = {"int8", "paged", "sgd"}


def weights(run: Any) -> bytes:
    whole = run.artifacts_dir / "model" / "model.safetensors"
    return whole.read_bytes() if whole.is_file() else adapter(run)


def killed_and_resumed(bench: Bench, name: str, tables: dict[str, Any]) -> Any:
    run = bench.run(f"{name}-killed", **tables)
    trainer = bench.train(run)
    while max(losses(run), default=0) < 5:
        assert trainer.forge.poll(trainer) is None, run.out_path.read_text()
        time.sleep(0.001)
    trainer.kill()
    trainer.wait()
    bench.finish(run)
    return run


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in WAYS])
def test_every_way_learns_and_resumes_exactly(bench: Bench, name: str) -> None:
    whole = bench.run(name, **WAYS[name])
    events = bench.finish(whole)
    assert events[-1]["reason"] == "completed", show(events)
    assert losses(whole)[12] < losses(whole)[1]
    run = killed_and_resumed(bench, name, WAYS[name])
    assert (losses(run), weights(run)) == (losses(whole), weights(whole))
    foreseen = checkpoint_bytes(Spec.from_dict(whole.job["spec"]), Located(bench.model, str(bench.model)))
    written = of(events, "checkpoint")[-1]["bytes"] - SMALL
    assert 0.8 * foreseen < written + SMALL and written < 1.2 * foreseen


@pytest.mark.parametrize("targets", [["all-linear", "experts.gate_up_proj", "experts.down_proj"]])
def test_experts_are_adapted_and_a_killed_run_goes_on_exactly(experts: Bench, targets: list[str]) -> None:
    tables: dict[str, Any] = {"lora": {"targets": targets}, "training": {"gradient_checkpointing": True}}
    whole = experts.run("experts", **tables)
    events = experts.finish(whole)
    assert events[-1]["reason"] == "completed", show(events)
    assert losses(whole)[12] < losses(whole)[1]
    assert not of(events, "warning")
    counted = next(e["parameters"] for e in of(events, "phase") if "parameters" in e)
    assert counted["by_kind"]["experts"] > 0 and counted["trainable"] == sum(counted["by_kind"].values())
    run = killed_and_resumed(experts, "experts", tables)
    assert (losses(run), adapter(run)) == (losses(whole), adapter(whole))


def test_experts_that_stay_frozen_are_said_to(experts: Bench) -> None:
    events = experts.finish(experts.run("frozen", training={"max_steps": 1}))
    assert events[-1]["reason"] == "completed", show(events)
    (said,) = [e["message"] for e in of(events, "warning")]
    assert "experts.gate_up_proj, experts.down_proj stay frozen" in said and "% of the parameters" in said
    counted = next(e["parameters"] for e in of(events, "phase") if "parameters" in e)
    assert set(counted["by_kind"]) == {"q_proj", "k_proj", "v_proj", "o_proj"}


PLAIN = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
found = {}
for adapter, chats, quantised in json.loads(sys.argv[1]):
    base = json.load(open(adapter + "/adapter_config.json"))["base_model_name_or_path"]
    how = {}
    if quantised:
        how = {"device_map": {"": "cpu"}, "quantization_config": BitsAndBytesConfig(load_in_4bit=True,
            bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32)}
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, **how), adapter).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    total = trained = 0
    for line in open(chats):
        messages = json.loads(line)["messages"]
        prompt = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, tokenize=False)
        whole = tokenizer.apply_chat_template(messages, tokenize=False)
        start = len(tokenizer(prompt, add_special_tokens=False).input_ids)
        ids = torch.tensor([tokenizer(whole, add_special_tokens=False).input_ids])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, start - 1 : -1]
        total += torch.nn.functional.cross_entropy(logits.float(), ids[0, start:], reduction="sum").item()
        trained += ids.shape[1] - start
    found[adapter] = total / trained
print(json.dumps(found))
"""


def test_adapters_load_with_plain_peft(bench: Bench, experts: Bench, tmp_path: Path) -> None:
    """On a quantised base, with the tied head trained, and on experts: the same evaluation loss in another process."""
    held = write_chats(tmp_path / "held.jsonl", 4, seed=9)
    data = {"eval": str(held)}
    runs = {
        "nf4": bench.run("plain-nf4", model={"quantization": "nf4"}, data=data),
        "head": bench.run("plain-head", lora={"train_also": ["lm_head"]}, data=data),
        "experts": experts.run("plain-experts", lora={"targets": ["q_proj", "experts.down_proj"]}, data=data),
    }
    for name, run in runs.items():
        assert (bench if name != "experts" else experts).finish(run)[-1]["reason"] == "completed"
    asked = [[str(run.artifacts_dir / "adapter"), str(held), name == "nf4"] for name, run in runs.items()]
    answer = subprocess.run(
        [sys.executable, "-c", PLAIN, json.dumps(asked)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    said = json.loads(answer.stdout)
    for name, run in runs.items():
        # In plain hands bitsandbytes computes an evaluation of 4-bit weights in bf16 where the CPU has it.
        exactly = 1e-2 if name == "nf4" else 1e-4
        assert said[str(run.artifacts_dir / "adapter")] == pytest.approx(eval_losses(run)[12], rel=exactly), name


def test_a_quantised_run_goes_on_from_another_runs_adapter(bench: Bench) -> None:
    first = bench.run("first", model={"quantization": "nf4"}, lora={"train_also": ["lm_head"]})
    assert bench.finish(first)[-1]["reason"] == "completed"
    second = bench.run("second", model={"id": first.id, "quantization": "nf4"}, lora={"r": 16})
    events = bench.finish(second)
    assert events[-1]["reason"] == "completed", show(events)
    assert eval_losses(second)[0] == pytest.approx(eval_losses(first)[12], rel=1e-6)


def test_a_changed_weight_decay_counts_after_a_resume(bench: Bench) -> None:
    """The state of an optimiser holds the old one; the spec has the say."""
    from llamahome_tui.jobs import control

    ended = {}
    for decay in (0.0, 0.5):
        run = bench.run(f"decay-{decay}", training={"max_steps": 6, "scheduler": "constant"})
        assert bench.finish(run)[-1]["reason"] == "completed"
        control.drop(run, "resume", {"set": {"training.max_steps": 12, "training.weight_decay": decay}})
        assert bench.finish(run)[-1]["reason"] == "completed"
        ended[decay] = losses(run)
    assert ended[0.0][7] == ended[0.5][7] and ended[0.0][12] != ended[0.5][12]


@pytest.mark.parametrize(
    ("tables", "code", "key"),
    [
        ({"training": {"precision": "fp16"}}, "training.precision", "training.precision"),
        ({"training": {"global_batch": 41}}, "training.batch_over_data", "training.global_batch"),
        ({"lora": {"targets": ["q_proj", "input_layernorm"]}}, "model.unknown_target", "lora.targets"),
        ({"lora": {"targets": ["self_attn.down_proj"]}}, "model.unknown_target", "lora.targets"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_the_weights_load(
    bench: Bench, tables: dict[str, Any], code: str, key: str
) -> None:
    loaded = "import transformers; transformers.AutoModelForCausalLM.from_pretrained = None"
    events = bench.finish(bench.run("refused", **tables), before=loaded)
    (error,) = of(events, "error")
    assert (error["code"], error["retry"]) == (code, False), show(events)
    assert key in error["message"] and "llamahome --batch" in error["hint"]
