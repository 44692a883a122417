"""What an objective is to the trainer: a loss that is a sum over micro-batches, however rows are split into them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from llamahome_tui.training.trainer.batches import Batching, Item, MicroBatch, Row


@dataclass(frozen=True, slots=True)
class Whole:
    """What the loss of a micro-batch depends on beside its own rows: those of a whole step, or all that are evaluated.

    `weight` is what the sum of all losses is divided by: tokens, or rows.
    """

    weight: int


@dataclass(frozen=True, slots=True)
class Part:
    """A micro-batch's part: its loss, and sums of what is reported beside it; float32 scalars."""

    loss: Any
    sums: Mapping[str, Any] = field(default_factory=dict)  # without gradients


# Runs the model without gradients and dropout over sequences, as many at a time as fit, and adds up what the function
# makes of each micro-batch.
Summed = Callable[[Sequence[Row], Callable[[MicroBatch], Any]], Any]


class Objective(Protocol):
    """What a run minimises. All of it is pure but for the model behind it, so a step can be taken again."""

    def whole(self, items: Sequence[Item], summed: Summed) -> Whole:
        """What is to be known of all rows together before the first micro-batch of them."""

    def batch(self, items: Sequence[Item], batching: Batching) -> MicroBatch:
        """Some of the rows as tensors."""

    def learn(self, batch: MicroBatch, whole: Whole) -> Part:
        """The loss of a micro-batch, with gradients."""

    def judge(self, batch: MicroBatch, whole: Whole) -> Mapping[str, Any]:
        """Sums for `metrics`, "loss" among them; called without gradients and dropout."""

    def metrics(self, sums: Mapping[str, float], weight: int) -> dict[str, float]:
        """Means from the sums of micro-batches: "loss", and what else the sums tell."""
