"""Pretraining and supervised fine-tuning: the mean cross-entropy of the tokens to be learned."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from llamahome_tui.training.trainer.batches import Batching, Item, MicroBatch
from llamahome_tui.training.trainer.loss import Reader, cross_entropy, judged
from llamahome_tui.training.trainer.objectives.base import Part, Summed, Whole


class Likelihood:
    """Every trained token of a step weighs the same. Labels are smoothed in training, never in evaluation."""

    def __init__(self, read: Reader, smoothing: float = 0.0) -> None:
        self._read = read
        self._smoothing = smoothing

    def whole(self, items: Sequence[Item], summed: Summed) -> Whole:
        return Whole(sum(item.trained for item in items))

    def batch(self, items: Sequence[Item], batching: Batching) -> MicroBatch:
        return batching.batch([item.sequences[0] for item in items])

    def learn(self, batch: MicroBatch, whole: Whole) -> Part:
        return Part(cross_entropy(self._read(batch), smoothing=self._smoothing))

    def judge(self, batch: MicroBatch, whole: Whole) -> Mapping[str, Any]:
        entropy, right = judged(self._read(batch))
        return {"loss": entropy, "right": right}

    def metrics(self, sums: Mapping[str, float], weight: int) -> dict[str, float]:
        loss = sums["loss"] / max(1, weight)
        if "right" not in sums:
            return {"loss": loss}
        perplexity = math.inf if loss > 700 else math.exp(loss)
        return {"loss": loss, "perplexity": perplexity, "token_accuracy": sums["right"] / max(1, weight)}
