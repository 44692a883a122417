"""Rows, a model and the cases that objectives are compared with TRL on; both sides make them from here."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STEPS = 10
ROWS = 8  # of a step: one micro-batch, or four of two
RATE = 1e-3
VOCABULARY = 100  # of tests.tinymodel, without special tokens: 5 to 99


@dataclass(frozen=True)
class Answered:
    """A prompt with two answers, as ids; `good` is the verdict on the first one."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    good: bool


@dataclass(frozen=True)
class Case:
    """An objective: its name in a spec, and the rest of [method]."""

    kind: str
    method: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return "-".join([self.kind, *(f"{key}={value}" for key, value in self.method.items())])


CASES = (
    Case("pretrain"),
    Case("sft"),
    Case("sft", {"label_smoothing": 0.1}),
    Case("dpo"),
    Case("dpo", {"label_smoothing": 0.2}),
    Case("dpo", {"loss": "ipo"}),
    Case("simpo", {"beta": 2.0, "gamma": 1.0}),
    Case("simpo", {"beta": 2.0, "gamma": 1.0, "label_smoothing": 0.1}),
    Case("orpo"),
    Case("kto"),
)


def steps() -> list[list[Answered]]:
    """The rows of each step. The chosen text of every micro-batch of two has 31 tokens: TRL averages its means."""
    chance = random.Random(0)

    def ids(count: int) -> list[int]:
        return [chance.randrange(5, VOCABULARY) for _ in range(count)]

    made = []
    for number in range(STEPS * ROWS):
        prompt = ids(chance.randint(2, 8))
        chosen = ids((12 if number % 2 else 19) - len(prompt))
        made.append(Answered(prompt, chosen, ids(chance.randint(1, 15)), chance.random() < 0.6))
    return [made[at : at + ROWS] for at in range(0, len(made), ROWS)]


def config() -> Any:
    """An adapter on every linear layer."""
    from peft import LoraConfig

    return LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")


def fill(model: Any) -> None:
    """Give what learns the same weights in every process, none of them zero: the adapter does something."""
    import torch

    for number, (_name, parameter) in enumerate((n, p) for n, p in model.named_parameters() if p.requires_grad):
        generator = torch.Generator().manual_seed(number)
        parameter.data.copy_(0.2 * torch.randn(parameter.shape, generator=generator))


def load(folder: Path) -> Any:
    """The model without an adapter, in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
