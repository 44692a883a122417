"""Packed, sorted and plain give one loss and one gradient; what a model mixes up is caught before a step is taken."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llamahome_tui.training.auto import Micro  # noqa: E402
from llamahome_tui.training.layout import Mode  # noqa: E402
from llamahome_tui.training.trainer import batches, isolation  # noqa: E402
from llamahome_tui.training.trainer.batches import Batching, Item, Items, collate, pack  # noqa: E402
from llamahome_tui.training.trainer.evaluate import measure  # noqa: E402
from llamahome_tui.training.trainer.isolation import isolation_of  # noqa: E402
from llamahome_tui.training.trainer.loss import reader_of  # noqa: E402
from llamahome_tui.training.trainer.model import Trainee  # noqa: E402
from llamahome_tui.training.trainer.objectives.likelihood import Likelihood  # noqa: E402
from llamahome_tui.training.trainer.step import Stepper, StepTooLarge  # noqa: E402

pytestmark = pytest.mark.torch

VOCABULARY = 100


@dataclass
class Row:
    ids: list[int]
    mask: list[int]


def rows(*lengths: int, seed: int = 0) -> list[Row]:
    chance = random.Random(seed)
    return [
        Row(
            [chance.randint(5, VOCABULARY - 1) for _ in range(length)],
            [chance.randint(0, 1) for _ in range(length - 1)] + [1],
        )
        for length in lengths
    ]


SOME = rows(10, 14, 19, 1, 33, 47, 80, 120, 2)
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LINEAR = {
    "head_dim": 8,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}


def build(kind: str) -> Any:
    """A tiny model with random weights of a real architecture."""
    import transformers as t

    made = {
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**TEXT)),
        "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**TEXT)),
        "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**TEXT, head_dim=8)),
        "gemma2": lambda: t.Gemma2ForCausalLM(t.Gemma2Config(**TEXT, head_dim=8, sliding_window=16)),
        "gemma3": lambda: t.Gemma3ForCausalLM(
            t.Gemma3TextConfig(
                **TEXT, head_dim=8, sliding_window=16, layer_types=["sliding_attention", "full_attention"]
            )
        ),
        "mixtral": lambda: t.MixtralForCausalLM(t.MixtralConfig(**TEXT, num_local_experts=4)),
        "opt": lambda: t.OPTForCausalLM(
            t.OPTConfig(
                vocab_size=VOCABULARY, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
                word_embed_proj_dim=32,
            )
        ),
        "qwen3_next": lambda: t.Qwen3NextForCausalLM(t.Qwen3NextConfig(**TEXT, **LINEAR, num_experts=0)),
        "qwen3_5": lambda: t.Qwen3_5ForCausalLM(t.Qwen3_5TextConfig(**TEXT, **LINEAR)),
        "mamba2": lambda: t.Mamba2ForCausalLM(
            t.Mamba2Config(
                vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_heads=8, head_dim=8, state_size=8,
                n_groups=1,
            )
        ),
        "falcon_h1": lambda: t.FalconH1ForCausalLM(
            t.FalconH1Config(**TEXT, mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_d_state=8)
        ),
        "lfm2": lambda: t.Lfm2ForCausalLM(t.Lfm2Config(**TEXT, layer_types=["conv", "full_attention"])),
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return made[kind]()


def trainee(model: Any, precision: Any = "fp32") -> Trainee:
    return Trainee(model.train(), model, torch.device("cpu"), precision, lora=False, parameters=0)


def likelihood(learner: Trainee) -> Likelihood:
    return Likelihood(reader_of(learner.model, learner.base, collate(SOME[:1]), learner.autocast)[0])


def items(data: list[Row]) -> Items:
    return Items.made([Item((row,)) for row in data])


def mean_loss(learner: Trainee, mode: Mode, limit: int) -> float:
    found = measure(learner, likelihood(learner), items(SOME), Batching(mode), Micro("tokens", limit), lambda: None)
    return found["loss"]


def stepper(learner: Trainee, batching: Batching, micro: Micro, data: list[Row]) -> Stepper:
    optimizer = torch.optim.SGD(learner.model.parameters(), lr=0.0)
    return Stepper(
        learner, likelihood(learner), optimizer, None, items(data), micro,
        clip=0.0, batching=batching, split_on_oom=True, degraded=lambda what, why: None,
    )  # fmt: skip


def test_packed_rows_by_hand() -> None:
    batch = pack([Row([10, 11, 12], [1, 0, 1]), Row([20, 21], [1, 1])], "bounds", multiple=4)
    assert batch.ids.tolist() == [[10, 11, 12, 20, 21, 0, 0, 0]]
    assert batch.seams["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1, 2]]
    # The first token of a row is never a label, whatever its mask says: only a token of another row stands before it.
    assert (batch.positions.tolist(), batch.labels.tolist()) == ([1, 3], [12, 21])
    assert batch.seams["cu_seq_lens_q"].tolist() == [0, 3, 5, 8] and batch.seams["max_length_k"] == 3
    assert batch.seams["seq_idx"].tolist() == [[0, 0, 0, 1, 1, 2, 2, 2]]
    assert (batch.tokens, batch.rows, batch.length, batch.computed) == (5, 2, 8, 8)
    assert set(pack([Row([10], [1])], "positions").seams) == {"position_ids"}


@pytest.mark.parametrize("attention", ["its own", "eager"])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gemma2", "gemma3", "mixtral"])
def test_loss_and_gradient_of_a_step_are_the_same_in_every_mode(kind: str, attention: str) -> None:
    model = build(kind)
    if attention == "eager":
        model.set_attn_implementation("eager")
    learner = trainee(model)
    found: dict[Mode, tuple[float, float, list[Any]]] = {}
    for mode in ("plain", "sorted", "packed"):
        taking = stepper(learner, Batching(mode), Micro("tokens", 200, 16), SOME)
        gradients: list[Any] = []
        taking.optimizer.register_step_pre_hook(
            lambda *_, kept=gradients: kept.extend(p.grad.clone() for p in model.parameters() if p.grad is not None)
        )
        taken = taking.take(range(len(SOME)), 0.0)
        assert taken.applied and taken.trained == sum(map(batches.trained_tokens, SOME))
        found[mode] = (taken.loss, taken.grad_norm, gradients)
    for mode in ("sorted", "packed"):
        assert found[mode][0] == pytest.approx(found["plain"][0], rel=1e-5)
        assert found[mode][1] == pytest.approx(found["plain"][1], rel=1e-4)
        for mine, theirs in zip(found[mode][2], found["plain"][2], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=2e-6)


def test_evaluation_is_the_same_in_every_mode() -> None:
    learner = trainee(build("qwen3"))
    modes: tuple[Mode, ...] = ("plain", "sorted", "packed")
    plain, by_length, packed = (mean_loss(learner, mode, 150) for mode in modes)
    assert plain == by_length == pytest.approx(packed, rel=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gemma2", "gemma3", "mixtral"])
def test_attention_keeps_packed_rows_apart(kind: str, precision: str) -> None:
    learner = trainee(build(kind), precision)
    found = isolation_of(learner, SOME, [len(row.ids) for row in SOME], bounds_first=False)
    assert (found.seams, found.reason) == ("positions", "")
    assert isolation_of(learner, SOME, [len(row.ids) for row in SOME], bounds_first=True, multiple=8).seams == "bounds"
    assert learner.model.training


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["qwen3_next", "qwen3_5", "mamba2", "falcon_h1", "lfm2", "opt"])
def test_a_model_that_leaks_is_caught(kind: str, precision: str) -> None:
    """Hybrid models and such with other position embeddings, without the kernels that keep rows apart."""
    learner = trainee(build(kind), precision)
    found = isolation_of(learner, SOME, [len(row.ids) for row in SOME], bounds_first=False)
    assert found.seams is None
    assert "told by positions" in found.reason and "told by bounds" in found.reason


def test_wrong_positions_and_an_attention_mask_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The faults that packing is known for, made on purpose."""
    learner = trainee(build("llama"))
    lengths = [len(row.ids) for row in SOME]

    def spoilt(spoil: Any) -> Any:
        return lambda *given, **more: (lambda made: replace(made, seams=spoil(made)))(pack(*given, **more))

    def one_late(batch: Any) -> dict[str, Any]:
        return {"position_ids": (batch.seams["position_ids"] - 1).clamp_min(0)}

    def all_ones(batch: Any) -> dict[str, Any]:
        return {**batch.seams, "attention_mask": torch.ones_like(batch.ids)}

    for spoil in (one_late, all_ones, lambda batch: {}):
        monkeypatch.setattr(isolation, "pack", spoilt(spoil))
        found = isolation_of(learner, SOME, lengths, bounds_first=False)
        assert found.seams is None and "a row is another one beside others" in found.reason


def test_a_model_that_shows_no_difference_proves_nothing() -> None:
    model = build("llama")
    for layer in model.model.layers:
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)  # no token sees another: nothing can leak, yet
    found = isolation_of(trainee(model), SOME, [len(row.ids) for row in SOME], bounds_first=False)
    assert found.seams is None and "nothing is proved" in found.reason


def test_what_is_not_a_number_is_not_apart() -> None:
    model = build("llama")
    model.model.norm.weight.data.fill_(float("nan"))
    assert isolation_of(trainee(model), SOME, [len(row.ids) for row in SOME], bounds_first=False).seams is None


def test_rows_too_short_to_try_it_with() -> None:
    single = rows(1, 1)
    found = isolation_of(trainee(build("llama")), single, [1, 1], bounds_first=False)
    assert found.seams is None and "two tokens" in found.reason


def test_the_trial_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    isolation_of(trainee(build("llama")), SOME, [len(row.ids) for row in SOME], bounds_first=False)
    assert torch.equal(before, torch.get_rng_state())


@contextlib.contextmanager
def memory_for(learner: Trainee, tokens: int) -> Iterator[list[int]]:
    """No forward pass over so many tokens; what was asked for is kept."""
    asked: list[int] = []

    def refuse(_module: Any, _given: Any, named: dict[str, Any]) -> None:
        asked.append(named["input_ids"].numel())
        if asked[-1] > tokens:
            raise torch.OutOfMemoryError("out of memory")

    hook = learner.base.base_model.register_forward_pre_hook(refuse, with_kwargs=True)
    try:
        yield asked
    finally:
        hook.remove()


@pytest.mark.parametrize("micro", [Micro("tokens", 400), Micro("rows", 4)])
def test_a_packed_step_that_runs_out_of_memory_is_taken_again_in_smaller_sequences(micro: Micro) -> None:
    learner = trainee(build("llama"))
    whole = stepper(learner, Batching("packed"), micro, SOME).take(range(len(SOME)), 0.0)
    taking = stepper(learner, Batching("packed"), micro, SOME)
    with memory_for(learner, 130) as asked:
        taken = taking.take(range(len(SOME)), 0.0)
    assert max(asked) > 130 and taking.micro.unit == "tokens" and taking.micro.limit <= 200
    assert taken.loss == pytest.approx(whole.loss, rel=1e-5)
    assert taken.grad_norm == pytest.approx(whole.grad_norm, rel=1e-4)
    with memory_for(learner, 100), pytest.raises(StepTooLarge) as found:
        taking.take(range(len(SOME)), 0.0)
    assert (found.value.rows, found.value.shown) == (1, "1 x 120")


def test_a_packed_evaluation_that_runs_out_of_memory_goes_on_in_parts() -> None:
    learner = trainee(build("llama"))
    whole = mean_loss(learner, "packed", 400)
    with memory_for(learner, 130):
        parts = mean_loss(learner, "packed", 400)
    assert parts == pytest.approx(whole, rel=1e-6)


def test_packing_works_with_checkpointed_gradients_and_an_adapter(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = build("qwen2")
    model = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    learner = Trainee(model.train(), base, torch.device("cpu"), "fp32", lora=True, parameters=0)
    plain = stepper(learner, Batching("plain"), Micro("tokens", 200), SOME).take(range(len(SOME)), 0.0)
    learner.checkpoint_gradients()
    for seams in ("positions", "bounds"):
        packed = stepper(learner, Batching("packed", seams), Micro("tokens", 200), SOME).take(range(len(SOME)), 0.0)
        assert packed.loss == pytest.approx(plain.loss, rel=1e-5)
        assert packed.grad_norm == pytest.approx(plain.grad_norm, rel=1e-4)
