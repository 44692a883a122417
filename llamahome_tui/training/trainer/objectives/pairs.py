"""DPO, IPO, SimPO and ORPO: of two answers to one prompt, the chosen one is made likelier than the rejected one.

Every pair weighs the same. Formulas and their sources stand in docs/training.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from llamahome_tui.training.trainer.batches import CONTEXT, Batching, Item, MicroBatch, Row
from llamahome_tui.training.trainer.loss import Reader, log_probabilities
from llamahome_tui.training.trainer.objectives.base import Part, Summed, Whole
from llamahome_tui.training.trainer.objectives.reference import Refer


class Pairs:
    """What all of them share: chosen answers are the first half of a micro-batch's sequences, rejected the second."""

    def whole(self, items: Sequence[Item], summed: Summed) -> Whole:
        return Whole(len(items))

    def batch(self, items: Sequence[Item], batching: Batching) -> MicroBatch:
        chosen = [item.sequences[0] for item in items]
        return batching.batch([*chosen, *(item.sequences[1] for item in items)], rows=len(items))

    def learn(self, batch: MicroBatch, whole: Whole) -> Part:
        raise NotImplementedError

    def judge(self, batch: MicroBatch, whole: Whole) -> Mapping[str, Any]:
        part = self.learn(batch, whole)
        return {"loss": part.loss, **part.sums}

    def metrics(self, sums: Mapping[str, float], weight: int) -> dict[str, float]:
        weight = max(1, weight)
        return {
            "loss": sums["loss"] / weight,
            "preference_accuracy": sums["right"] / weight,
            "preference_margin": sums["margin"] / weight,
        }


class Dpo(Pairs):
    """Direct preference optimisation (Rafailov et al. 2023), conservative where labels are smoothed (Mitchell 2023)."""

    def __init__(self, read: Reader, refer: Refer, beta: float, smoothing: float = 0.0) -> None:
        self._read, self._refer = read, refer
        self._beta, self._smoothing = beta, smoothing

    def learn(self, batch: MicroBatch, whole: Whole) -> Part:
        ratios = by_sequence(against(self._read, self._refer, batch), batch)
        rewards = self._beta * ratios
        chosen, rejected = rewards.chunk(2)
        return _part(_preferred(chosen - rejected, self._smoothing), rewards)


class Ipo(Pairs):
    """Identity preference optimisation (Azar et al. 2023, equation 17), of means over tokens as its authors use it."""

    def __init__(self, read: Reader, refer: Refer, beta: float) -> None:
        self._read, self._refer, self._beta = read, refer, beta

    def learn(self, batch: MicroBatch, whole: Whole) -> Part:
        each = against(self._read, self._refer, batch)
        chosen, rejected = mean_by_sequence(each, batch).chunk(2)
        losses = (chosen - rejected - 1 / (2 * self._beta)) ** 2
        return _part(losses, self._beta * by_sequence(each, batch))


class Simpo(Pairs):
    """Simple preference optimisation (Meng et al. 2024, equation 6): means over tokens, a margin and no reference."""

    def __init__(self, read: Reader, beta: float, gamma: float, smoothing: float = 0.0) -> None:
        self._read = read
        self._beta, self._gamma, self._smoothing = beta, gamma, smoothing

    def learn(self, batch: MicroBatch, whole: Whole) -> Part:
        rewards = self._beta * mean_by_sequence(log_probabilities(self._read(batch)), batch)
        chosen, rejected = rewards.chunk(2)
        return _part(_preferred(chosen - rejected - self._gamma, self._smoothing), rewards)


@dataclass(frozen=True, slots=True)
class Chosen(Whole):
    """All pairs of a step, and the tokens that the chosen ones are learned by."""

    tokens: int


class Orpo(Pairs):
    """Odds ratio preference optimisation (Hong et al. 2024, equations 6 and 7).

    The chosen text is learned too, its prompt with it, and each of its tokens weighs the same.
    """

    def __init__(self, read: Reader, beta: float) -> None:
        self._read, self._beta = read, beta

    def whole(self, items: Sequence[Item], summed: Summed) -> Chosen:
        return Chosen(len(items), sum(len(item.sequences[0].ids) - 1 for item in items))

    def batch(self, items: Sequence[Item], batching: Batching) -> MicroBatch:
        chosen = [_Told(item.sequences[0]) for item in items]
        return batching.batch([*chosen, *(item.sequences[1] for item in items)], rows=len(items))

    def learn(self, batch: MicroBatch, whole: Whole) -> Part:
        assert isinstance(whole, Chosen)
        each = log_probabilities(self._read(batch))
        means = mean_by_sequence(each, batch, batch.answers)
        chosen, rejected = means.chunk(2)
        odds = (chosen - rejected) - (_log1mexp(chosen) - _log1mexp(rejected))
        learned = -torch.where(batch.owners < batch.rows, each, 0.0).sum()
        part = _part(-self._beta * functional.logsigmoid(odds), self._beta * means)
        # `part.loss` is summed over pairs; what is a mean over tokens is put on that scale.
        return Part(part.loss + learned * (whole.weight / max(1, whole.tokens)), part.sums)


class _Told:
    """A sequence whose every token counts; those of no answer as context."""

    def __init__(self, row: Row) -> None:
        self.ids = row.ids
        self.mask = [1 if one else CONTEXT for one in row.mask]


def against(read: Reader, refer: Refer, batch: MicroBatch) -> Any:
    """How much likelier each token is than by the reference, in logarithms.

    Differences of tokens are small numbers, and are added up without the error that differences of sums have.
    """
    reference = refer(batch)
    return log_probabilities(read(batch)) - reference


def by_sequence(each: Any, batch: MicroBatch) -> Any:
    """The sum over each sequence's tokens."""
    return each.new_zeros(batch.sequences).index_add(0, batch.owners, each)


def mean_by_sequence(each: Any, batch: MicroBatch, counted: Any = None) -> Any:
    """The mean over each sequence's tokens, or over those that are `counted`."""
    weights = torch.ones_like(each) if counted is None else counted.to(each.dtype)
    return by_sequence(each * weights, batch) / by_sequence(weights, batch).clamp_min(1)


def _preferred(margin: Any, smoothing: float) -> Any:
    """The loss of each pair, where a share of the labels is taken to be wrong."""
    losses = -functional.logsigmoid(margin) * (1 - smoothing)
    return losses - functional.logsigmoid(-margin) * smoothing if smoothing else losses


def _part(losses: Any, rewards: Any) -> Part:
    chosen, rejected = rewards.detach().chunk(2)
    return Part(losses.sum(), {"right": (chosen > rejected).float().sum(), "margin": (chosen - rejected).sum()})


def _log1mexp(value: Any) -> Any:
    """log(1 - exp(value)) for values below 0, exact near 0 and far from it (Maechler 2012)."""
    near = value > -0.6931472
    return torch.where(
        near,
        torch.log(-torch.expm1(torch.where(near, value, -1.0))),
        torch.log1p(-torch.exp(torch.where(near, -1.0, value))),
    )
