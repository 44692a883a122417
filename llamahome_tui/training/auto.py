"""Every "auto" of a spec as a pure function of plain numbers: nothing here looks at a device, a file or the clock."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from llamahome_tui.training.methods import HIGHER

Device = Literal["cpu", "cuda"]
Precision = Literal["bf16", "fp16", "fp32"]
# packed: rows lie behind one another in one sequence; sorted: side by side, with rows of about their own length;
# plain: side by side in the order they come in.
Mode = Literal["packed", "sorted", "plain"]

CPU_MICRO_TOKENS = 4096  # past this a CPU step gains nothing and only holds more memory
LARGE_MODEL = 30_000_000_000  # parameters from which LoRA wants the smaller learning rate
ACTIVATION_SHARE = 0.5  # of the memory that is free once the model is loaded
PACKING_PAYS = 0.05  # of all tokens: padding of sorted rows from which variable-length kernels are put to use
CALL_TOKENS = {"cpu": 64, "cuda": 1024}  # what a forward and backward call costs beside its tokens, in tokens


def steps_per_epoch(rows: int, global_batch: int) -> int:
    """Optimiser steps that see every row once; the last one may hold fewer rows."""
    return max(1, math.ceil(rows / global_batch))


def total_steps(rows: int, global_batch: int, epochs: float, max_steps: int) -> int:
    """Steps of the whole run; `max_steps` over 0 wins over `epochs`."""
    return max_steps if max_steps > 0 else max(1, math.ceil(epochs * steps_per_epoch(rows, global_batch)))


def warmup_steps(setting: str | float, total: int) -> int:
    """Warm-up in steps: a number from 1 is steps, below 1 a share; auto: the larger of 3% and 10 steps, at most 10%."""
    if isinstance(setting, str):
        return int(min(max(0.03 * total, 10), 0.1 * total))
    steps = setting if setting >= 1 else setting * total
    return min(int(steps), total)


def learning_rate(setting: str | float, *, lora: bool, parameters: int, preference: bool = False) -> float:
    """The schedule's peak: LoRA 2e-4 (1e-4 from 30 billion parameters, 5e-6 for preference methods), full 1e-5."""
    if not isinstance(setting, str):
        return float(setting)
    if not lora:
        return 1e-5
    if preference:
        return 5e-6
    return 1e-4 if parameters >= LARGE_MODEL else 2e-4


def optimizer(setting: str, *, lora: bool) -> str:
    """AdamW for LoRA, whose state is small; 8-bit AdamW for full fine-tuning, whose state is not."""
    if setting != "auto":
        return setting
    return "adamw" if lora else "adamw_8bit"


def weight_decay(setting: str | float, *, lora: bool) -> float:
    """0 for LoRA, 0.01 for full fine-tuning."""
    if not isinstance(setting, str):
        return float(setting)
    return 0.0 if lora else 0.01


def precision(setting: str, *, device: Device, bf16: bool) -> Precision:
    """bf16 on a GPU that has it, fp16 with a gradient scaler on one that has not, fp32 on a CPU."""
    if setting in ("bf16", "fp16", "fp32"):
        return setting  # type: ignore[return-value]  # narrowed by the test above
    if device == "cpu":
        return "fp32"
    return "bf16" if bf16 else "fp16"


def batching(
    setting: str, *, device: Device, bounded_kernels: bool, sorted_padding: Callable[[], float]
) -> tuple[Mode, str]:
    """How rows lie in micro-batches, and why.

    Auto on a CPU: sorted. Auto on a GPU: packed where attention has kernels that heed the bounds of rows (others
    compute the whole square of a packed sequence) and where sorted rows would be padded by more than PACKING_PAYS;
    `sorted_padding` gives that share.
    """
    if setting in ("packed", "sorted", "plain"):
        return setting, "the spec says so"  # type: ignore[return-value]  # narrowed by the test above
    if device == "cpu":
        return "sorted", "on a CPU, rows of one length side by side are fastest"
    if not bounded_kernels:
        return "sorted", "this attention would compute the whole square of a packed sequence"
    share = sorted_padding()
    if share > PACKING_PAYS:
        return "packed", f"sorted rows would be {share:.0%} padding"
    return "sorted", f"only {share:.0%} of sorted rows is padding"


def evaluation_every(setting: str | int, total: int) -> int:
    """Steps between evaluations; auto: about ten in a run."""
    return max(1, round(total / 10)) if isinstance(setting, str) else int(setting)


def evaluates_at(step: int, every: int, total: int) -> bool:
    """Whether an evaluation belongs after so many steps: at the start, each `every` (0: not between), at the end."""
    return step in (0, total) or (every > 0 and step % every == 0)


def higher_is_better(metric: str, setting: bool) -> bool:
    """Known metrics know their direction; the spec's word counts for the others."""
    return HIGHER.get(metric, setting)


@dataclass(frozen=True, slots=True)
class Micro:
    """The largest micro-batch: so many rows, or so many tokens with padding (one row is always allowed).

    `call` is what one more micro-batch costs, in tokens: rows sorted by length are cut into more of them where that
    saves more padding. 0 makes as few as there can be.
    """

    unit: Literal["rows", "tokens"]
    limit: int
    call: int = 0

    def fits(self, rows: int, longest: int) -> bool:
        """Whether so many rows, padded to the longest, stay within the limit."""
        return rows <= 1 or (rows if self.unit == "rows" else rows * longest) <= self.limit

    def halved(self, rows: int, longest: int) -> Micro:
        """The limit after a micro-batch of this size did not fit in memory."""
        half = max(1, rows // 2)
        return replace(self, limit=min(self.limit, half if self.unit == "rows" else half * longest))


@dataclass(frozen=True, slots=True)
class Shape:
    """What a memory estimate needs to know of a model."""

    layers: int
    hidden: int
    bytes_per_value: int

    def activation_bytes(self, *, checkpointing: bool | float) -> int:
        """Bytes one token's activations hold until the backward pass.

        34 x hidden bytes per layer in 16 bits without the attention matrix, which fused attention never writes
        (Korthikanti et al. 2022, equation 2); of each checkpointed layer its input, and of these one at a time in full.
        """
        layer = 17 * self.hidden * self.bytes_per_value
        inputs = checkpointed_layers(checkpointing, self.layers)
        # The first layers are checkpointed: one of them is computed again when the others are no longer needed.
        return layer * max(1 if inputs else 0, self.layers - inputs) + inputs * self.hidden * self.bytes_per_value


def checkpointed_layers(setting: bool | float, layers: int) -> int:
    """How many of a model's layers are computed again: all or none, a share of them below 1, or a number from 1."""
    if isinstance(setting, bool):
        return layers if setting else 0
    return min(layers, math.ceil(setting * layers) if setting < 1 else int(setting))


def micro_batch(
    batch_size: str | int,
    checkpointing: str | float,
    *,
    device: Device,
    global_batch: int,
    longest: int,
    shape: Shape,
    free_bytes: int,
) -> tuple[Micro, bool | float]:
    """The micro-batch and whether, or of how many layers, to checkpoint gradients.

    A number of rows is taken as it is. Auto on a CPU: 4,096 tokens, no checkpointing. Auto on a GPU: the tokens whose
    activations take half of the free memory; checkpointing only where that is under 4,096 tokens or under the longest
    row. What is too large all the same is split in the step where that shows.
    """
    room = int(free_bytes * ACTIVATION_SHARE)
    plain = room // max(1, shape.activation_bytes(checkpointing=False))
    checkpoints: bool | float
    if not isinstance(checkpointing, str):
        checkpoints = checkpointing
    elif device == "cpu":
        checkpoints = False
    else:
        wanted = longest * (batch_size if isinstance(batch_size, int) else 1)
        checkpoints = plain < max(wanted, min(CPU_MICRO_TOKENS, longest * global_batch))
    if not isinstance(batch_size, str):
        return Micro("rows", max(1, min(int(batch_size), global_batch))), checkpoints
    if device == "cpu":
        return Micro("tokens", CPU_MICRO_TOKENS, CALL_TOKENS[device]), checkpoints
    tokens = room // max(1, shape.activation_bytes(checkpointing=checkpoints))
    return Micro("tokens", max(longest, min(tokens, longest * global_batch)), CALL_TOKENS[device]), checkpoints
