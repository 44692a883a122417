"""The cost of a step, held against torch's own count of the operations that a forward and a backward pass take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from llamahome_tui.training.trainer.flops import Cost, cost_of, peak_of
from llamahome_tui.training.trainer.model import Trainee
from tests.tinymodel import write_model

pytestmark = pytest.mark.torch

ROWS, LENGTH = 3, 40


def trainee(folder: Path, form: str, *, tied: bool = False) -> Trainee:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    # Eager: torch counts no fused attention on a CPU.
    base = AutoModelForCausalLM.from_pretrained(write_model(folder, tied=tied), attn_implementation="eager")
    model: Any = base
    if form != "full":
        also = ["lm_head"] if form == "lora and head" else None
        config = LoraConfig(r=4, target_modules="all-linear", modules_to_save=also, task_type="CAUSAL_LM")
        model = get_peft_model(base, config)
    base.enable_input_require_grads()  # else the first layer has no gradient to pass on, which the formula ignores
    return Trainee(model, base, torch.device("cpu"), "fp32", lora=form != "full", parameters=0)


def counted(made: Trainee) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    ids = torch.arange(ROWS * LENGTH).reshape(ROWS, LENGTH) % 90
    with FlopCounterMode(display=False) as counter:
        made.model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    return int(counter.get_total_flops())


@pytest.mark.parametrize("form", ["full", "lora", "lora and head"])
def test_the_formula_counts_what_torch_counts(tmp_path: Path, form: str) -> None:
    made = trainee(tmp_path / "model", form)
    estimate = cost_of(made, reference=False).of(ROWS * LENGTH, ROWS * LENGTH**2)
    assert estimate == pytest.approx(counted(made), rel=1e-3)


def test_a_head_that_is_the_embedding_too_counts_once(tmp_path: Path) -> None:
    made = trainee(tmp_path / "model", "full", tied=True)
    estimate = cost_of(made, reference=False).of(ROWS * LENGTH, ROWS * LENGTH**2)
    assert estimate == pytest.approx(counted(made), rel=1e-3)


def test_frozen_weights_have_no_gradient_of_their_own_and_a_reference_is_a_forward_pass() -> None:
    assert Cost(frozen=10, learning=0, attention=0).of(7, 0) == 4 * 10 * 7
    assert Cost(frozen=0, learning=10, attention=0).of(7, 0) == 6 * 10 * 7
    assert Cost(frozen=0, learning=0, attention=5).of(7, 49) == 12 * 5 * 49
    assert Cost(frozen=10, learning=0, attention=5, reference=True).of(7, 49) == 6 * 10 * 7 + 16 * 5 * 49


def test_of_a_mixture_the_experts_that_a_token_takes(tmp_path: Path) -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = MixtralConfig(
        vocab_size=20,
        num_key_value_heads=2,
        num_local_experts=4,
        num_experts_per_tok=1,
        tie_word_embeddings=False,
        **sizes,
    )
    base = MixtralForCausalLM(config)
    made = Trainee(base, base, torch.device("cpu"), "fp32", lora=False, parameters=0)
    attention, router, expert, head = 4 * 16 * 16, 4 * 16, 3 * 16 * 24, 20 * 16
    assert cost_of(made, reference=False).learning == attention + router + expert + head


def test_a_cpu_has_no_peak(tmp_path: Path) -> None:
    assert peak_of(trainee(tmp_path / "model", "full")) is None
