"""Optimisers: who learns how fast, who is decayed, and that a state finds its parameters again."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llamahome_tui.training.trainer import optim  # noqa: E402
from tests.tinymodel import write_model  # noqa: E402

pytestmark = pytest.mark.torch

IDS = torch.arange(10, 50).view(2, 20)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load(write_model(tmp_path_factory.mktemp("model"), hidden=64))


def load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def with_adapter(base: Any, **settings: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(**{"r": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **settings})
    return get_peft_model(copy.deepcopy(base), config).train()


def learned(model: Any) -> dict[str, Any]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def step(model: Any, optimizer: Any, rate: float | None = None) -> None:
    if rate is not None:
        optim.set_rate(optimizer, rate)
    model(input_ids=IDS, labels=IDS).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def test_lora_plus_is_what_peft_makes_of_it(base: Any) -> None:
    """Rates by parameter, and all weights after five steps with weight decay and a changing rate."""
    from peft.optimizers import create_loraplus_optimizer

    ours, theirs = with_adapter(base), with_adapter(base)
    rates = [0.01, 0.02, 0.015, 0.01, 0.005]
    mine = optim.build("adamw", ours, rates[0], 0.1, plus_ratio=16)
    oracle = create_loraplus_optimizer(
        theirs, torch.optim.AdamW, lr=rates[0], loraplus_lr_ratio=16, loraplus_weight_decay=0.1, fused=True
    )
    by_name = {n: id(p) for n, p in ours.named_parameters()}
    rate_of = {id(p): group["lr"] for group in mine.param_groups for p in group["params"]}
    for group in oracle.param_groups:
        for name, parameter in theirs.named_parameters():
            if any(parameter is p for p in group["params"]):
                assert rate_of[by_name[name]] == group["lr"], name
    shares = [group["lr"] / rates[0] for group in oracle.param_groups]
    for rate in rates:
        for group, share in zip(oracle.param_groups, shares, strict=True):
            group["lr"] = rate * share
        step(theirs, oracle)
        step(ours, mine, rate)
    found = learned(ours)
    for name, wanted in learned(theirs).items():
        torch.testing.assert_close(found[name], wanted, rtol=1e-5, atol=1e-7)


def test_only_b_matrices_are_faster(base: Any) -> None:
    model = with_adapter(base, use_dora=True, modules_to_save=["lm_head"])
    names = {id(p): n for n, p in model.named_parameters()}
    for group in optim.build("adamw", model, 0.01, 0.0, plus_ratio=4).param_groups:
        for parameter in group["params"]:
            assert group["lr"] == (0.04 if ".lora_B." in names[id(parameter)] else 0.01)


def test_norms_biases_and_embeddings_are_not_decayed() -> None:
    import transformers

    config = transformers.Qwen2Config(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, tie_word_embeddings=False,
    )  # fmt: skip
    model = transformers.Qwen2ForCausalLM(config)
    names = {id(p): n for n, p in model.named_parameters()}
    groups = optim.groups_of(model, 0.1)
    spared = {names[id(p)] for g in groups if g["weight_decay"] == 0 for p in g["params"]}
    decayed = {names[id(p)] for g in groups if g["weight_decay"] == 0.1 for p in g["params"]}
    assert spared | decayed == set(names.values()) and not spared & decayed
    assert "model.embed_tokens.weight" in spared and "lm_head.weight" in decayed
    assert {n for n in names.values() if "norm" in n or n.endswith("bias")} < spared
    assert all(n.endswith("proj.weight") or n == "lm_head.weight" for n in decayed)


@pytest.mark.parametrize("name", ["adamw", "sgd", "adamw_8bit", "paged_adamw_8bit", "lion_8bit"])
def test_a_restored_optimiser_takes_the_very_same_steps(base: Any, name: str, tmp_path: Path) -> None:
    """Matrices of 4,096 values and more, so that 8-bit optimisers do keep 8 bits."""
    whole = copy.deepcopy(base).train()
    rate = 0.05 if name == "sgd" else 0.001
    optimizer = optim.build(name, whole, rate, 0.1)
    step(whole, optimizer)
    step(whole, optimizer)
    torch.save(optim.state_of(optimizer, whole), tmp_path / "state")
    saved = torch.load(tmp_path / "state", weights_only=True)
    if "8bit" in name:
        state = saved[optim.BY_NAME]["model.layers.0.self_attn.q_proj.weight"]
        assert any(t.dtype is torch.uint8 for t in _tensors(state))
        rare = saved[optim.BY_NAME]["model.embed_tokens.weight"]
        assert not any(t.dtype is torch.uint8 for t in _tensors(rare))
    broken_off = copy.deepcopy(whole)
    again = optim.build(name, broken_off, rate, 0.1)
    optim.restore(again, broken_off, saved)
    for _ in range(3):
        step(whole, optimizer, rate)
        step(broken_off, again, rate)
    for parameter, other in zip(whole.parameters(), broken_off.parameters(), strict=True):
        assert torch.equal(parameter, other)
    assert not torch.equal(next(whole.parameters()), next(base.parameters()))


def _tensors(state: Any) -> list[Any]:
    if isinstance(state, dict):
        return [t for value in state.values() for t in _tensors(value)]
    return [state] if isinstance(state, torch.Tensor) else []


def test_a_state_saved_by_number_finds_its_parameters(base: Any) -> None:
    """As checkpoints had it before: matrices first, then vectors; embeddings were decayed with the matrices."""
    model = copy.deepcopy(base).train()
    learning = list(model.parameters())
    old = torch.optim.AdamW(
        [
            {"params": [p for p in learning if p.ndim > 1], "weight_decay": 0.3},
            {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=0.01,
        fused=True,
    )
    step(model, old)
    optimizer = optim.build("adamw", model, 0.01, 0.1)
    optim.restore(optimizer, model, old.state_dict())
    for parameter in learning:
        assert torch.equal(optimizer.state[parameter]["exp_avg"], old.state[parameter]["exp_avg"])
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.1, 0.0}, "the spec's, not the checkpoint's"


def test_a_state_without_a_parameter_is_refused(base: Any) -> None:
    model = copy.deepcopy(base).train()
    optimizer = optim.build("adamw", model, 0.01, 0.0)
    step(model, optimizer)
    saved = optim.state_of(optimizer, model)
    del saved[optim.BY_NAME]["lm_head.weight"]
    with pytest.raises(ValueError, match="no optimiser state of lm_head"):
        optim.restore(optimizer, model, saved)


def test_auto_rates_are_doubted_where_they_are_made_for_another_optimiser() -> None:
    assert "less" in optim.doubt("lion_8bit", "auto") and "more" in optim.doubt("sgd", "auto")
    assert not optim.doubt("adamw_8bit", "auto") and not optim.doubt("sgd", 0.1)
