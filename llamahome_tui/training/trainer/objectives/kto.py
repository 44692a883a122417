"""KTO: answers that somebody found good or not, one at a time (Ethayarajh et al. 2024, equation 8).

How far the model has moved from its reference is estimated once for a whole step, so that a loss does not depend on
how the step is split: each prompt with the answer to the prompt before it, the first with that to the last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from llamahome_tui.training.trainer.batches import Batching, Item, MicroBatch, Row
from llamahome_tui.training.trainer.loss import Reader
from llamahome_tui.training.trainer.objectives.base import Part, Summed, Whole
from llamahome_tui.training.trainer.objectives.pairs import against, by_sequence
from llamahome_tui.training.trainer.objectives.reference import Refer


@dataclass(frozen=True, slots=True)
class Moved(Whole):
    """All answers of a step, and the divergence from the reference: a float32 scalar, at least 0, without gradients."""

    divergence: Any


@dataclass(frozen=True, slots=True)
class Mismatched:
    """A prompt with an answer to another one."""

    ids: list[int]
    mask: list[int]


class Kto:
    """Every answer weighs the same. For the divergence, no sequence is made longer than `longest` tokens."""

    def __init__(self, read: Reader, refer: Refer, beta: float, longest: int) -> None:
        self._read, self._refer = read, refer
        self._beta, self._longest = beta, longest

    def whole(self, items: Sequence[Item], summed: Summed) -> Moved:
        if len(items) < 2:  # a single prompt has no other one's answer
            return Moved(len(items), 0.0)
        sequences = [
            mismatched(items[at].sequences[0], items[at - 1].sequences[0], self._longest) for at in range(len(items))
        ]
        total = summed(sequences, lambda batch: against(self._read, self._refer, batch).sum())
        return Moved(len(items), (total / len(sequences)).clamp_min(0))

    def batch(self, items: Sequence[Item], batching: Batching) -> MicroBatch:
        made = batching.batch([item.sequences[0] for item in items])
        return replace(made, verdicts=torch.tensor([item.good for item in items]))

    def learn(self, batch: MicroBatch, whole: Whole) -> Part:
        assert isinstance(whole, Moved)
        good = batch.verdicts
        sign = torch.where(good, 1.0, -1.0)
        ratios = by_sequence(against(self._read, self._refer, batch), batch)
        losses = 1 - torch.sigmoid(self._beta * sign * (ratios - whole.divergence))
        found = ratios.detach()
        rewards = self._beta * found
        return Part(
            losses.sum(),
            {
                "right": (sign * (found - whole.divergence) > 0).float().sum(),
                "divergence": torch.zeros_like(rewards).add(whole.divergence).sum(),
                "good": good.float().sum(),
                "good_reward": torch.where(good, rewards, 0.0).sum(),
                "bad_reward": torch.where(good, 0.0, rewards).sum(),
            },
        )

    def judge(self, batch: MicroBatch, whole: Whole) -> Mapping[str, Any]:
        part = self.learn(batch, whole)
        return {"loss": part.loss, **part.sums}

    def metrics(self, sums: Mapping[str, float], weight: int) -> dict[str, float]:
        good, bad = sums["good"], weight - sums["good"]
        apart = sums["good_reward"] / good - sums["bad_reward"] / bad if good and bad else math.nan
        weight = max(1, weight)
        return {
            "loss": sums["loss"] / weight,
            "preference_accuracy": sums["right"] / weight,
            "preference_margin": apart,
            "kl": sums["divergence"] / weight,
        }


def mismatched(row: Row, other: Row, longest: int) -> Mismatched:
    """The prompt of a row with the answer of another, cut to so many tokens."""
    start, from_ = _answer(row.mask), _answer(other.mask)
    ids = [*list(row.ids)[:start], *list(other.ids)[from_:]][:longest]
    return Mismatched(ids, [*[0] * start, *list(other.mask)[from_:]][:longest])


def _answer(mask: Sequence[int]) -> int:
    """Where the first learned token stands."""
    return list(mask).index(1)
