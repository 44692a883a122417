"""What `weighted` minimises. Imported in the trainer alone, where torch is."""

from collections.abc import Mapping, Sequence
from typing import Any

from llamahome_tui.training.shape import Method
from llamahome_tui.training.trainer.batches import Batching, Item, MicroBatch
from llamahome_tui.training.trainer.loss import Reader, cross_entropy, judged
from llamahome_tui.training.trainer.model import Trainee
from llamahome_tui.training.trainer.objectives.base import Part, Summed, Whole


class Weighted:
    def __init__(self, read: Reader, beta: float) -> None:
        self._read = read
        self._beta = beta

    def whole(self, items: Sequence[Item], summed: Summed) -> Whole:
        return Whole(sum(item.trained for item in items))

    def batch(self, items: Sequence[Item], batching: Batching) -> MicroBatch:
        return batching.batch([item.sequences[0] for item in items])

    def learn(self, batch: MicroBatch, whole: Whole) -> Part:
        return Part(self._beta * cross_entropy(self._read(batch)))

    def judge(self, batch: MicroBatch, whole: Whole) -> Mapping[str, Any]:
        entropy, _ = judged(self._read(batch))
        return {"loss": self._beta * entropy}

    def metrics(self, sums: Mapping[str, float], weight: int) -> dict[str, float]:
        return {"loss": sums["loss"] / max(1, weight)}


def objective(method: Method, trainee: Trainee, read: Reader, longest: int) -> Weighted:
    return Weighted(read, method.beta)
