"""One optimiser step: micro-batches whose gradients add up to that of the whole, within the memory there is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from llamahome_tui.training.auto import Micro
from llamahome_tui.training.trainer import memory, optim, rng
from llamahome_tui.training.trainer.batches import Batching, Item, Items, MicroBatch, Row
from llamahome_tui.training.trainer.evaluate import evaluating
from llamahome_tui.training.trainer.model import Trainee
from llamahome_tui.training.trainer.objectives import Objective
from llamahome_tui.training.trainer.ranks import ALONE, Ranks

LOSS_SCALE_FLOOR = 1.0  # an fp16 gradient that overflows at this scale is no matter of scale


@dataclass(frozen=True, slots=True)
class Taken:
    """What a step gave. `loss` is summed over `weight`, tokens or rows; both floats may be non-finite."""

    loss: float
    weight: int
    trained: int
    tokens: int
    rows: int
    grad_norm: float
    applied: bool  # the optimiser moved the weights
    sound: bool  # loss and gradients were finite, or only too large for fp16's present scale
    data_s: float  # of the rank that took longest
    sums: Mapping[str, float] = field(default_factory=dict)  # what the objective reports beside its loss
    squares: int = 0  # the squared lengths of all sequences, summed: what attention over them costs


class StepTooLarge(Exception):
    """A micro-batch of `rows` rows does not fit in memory and may not be split any further.

    `length` is the tokens of one sequence of the block that they are, `shown` the block for a person; `fitted` is the
    most tokens, with padding, that went through so far in place of one sequence (0: none did).
    """

    def __init__(self, rows: int, length: int, shown: str, fitted: int, said: str) -> None:
        super().__init__(rows, length, shown, fitted, said)  # all of them: it goes from rank to rank
        self.rows, self.length, self.shown, self.fitted, self.said = rows, length, shown, fitted, said

    def __str__(self) -> str:
        return self.said

    @classmethod
    def of(cls, batch: MicroBatch | None, fitted: int, said: str) -> StepTooLarge:
        """Of the micro-batch that was in work."""
        if batch is None:
            return cls(0, 0, "any", fitted, said)
        beside = batch.ids.shape[0] > 1
        length = batch.length if beside else batch.length // batch.width
        return cls(batch.rows, length, batch.shown, fitted // batch.width, said)


class _Elsewhere(Exception):
    """Memory ran out on another rank."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The rows of a step that is to come, and its micro-batches by the rows that are in them."""

    items: Mapping[int, Item]
    batches: Mapping[tuple[int, ...], MicroBatch]


NOTHING = Prepared({}, {})


class Stepper:
    """Takes optimiser steps, and makes micro-batches smaller where memory runs out."""

    def __init__(
        self,
        trainee: Trainee,
        objective: Objective,
        optimizer: Any,
        scaler: Any,
        items: Items,
        micro: Micro,
        *,
        clip: float,
        batching: Batching,
        split_on_oom: bool,
        degraded: Callable[[str, str], None],
        ranks: Ranks = ALONE,
    ) -> None:
        self.micro = micro
        self.trainee = trainee
        self.objective = objective
        self.optimizer = optimizer
        self.scaler = scaler
        self.batching = batching
        self._items = items
        self._clip = clip
        self._split_on_oom = split_on_oom
        self._degraded = degraded
        self._ranks = ranks
        self._learning = trainee.trainable
        self._room = batching.room(items)
        # A GPU computes while the host makes the next micro-batches. A CPU would only do the same work earlier.
        self.ahead = trainee.device.type == "cuda"
        self._prepared = NOTHING
        self._data_s = 0.0
        self._peak_elsewhere = 0
        self._in_work: MicroBatch | None = None
        self._fitted = 0  # tokens, with padding, of the largest micro-batch that went through

    def take(self, indexes: Sequence[int], rate: float, following: Sequence[int] = ()) -> Taken:
        """One step over these rows at this learning rate; `following` are those of the next one, where they are known.

        Out of memory: the micro-batch limit is halved and the step is taken again from its beginning, so that its
        gradient is what it would have been; all ranks do so where one of them has too little. Raises StepTooLarge,
        on every rank, when a single row does not fit.
        """
        started = time.perf_counter()
        items = {i: self._prepared.items.get(i) or self._items[i] for i in indexes}
        trained = sum(item.trained for item in items.values())
        squares = sum(len(row.ids) ** 2 for item in items.values() for row in item.sequences)
        self._data_s = time.perf_counter() - started
        while True:
            before = rng.snapshot()
            mine = ""
            try:
                weight, loss, sums = self.gradient(items)
            except (RuntimeError, MemoryError) as error:
                if not memory.is_exhausted(error):
                    raise
                mine = next(iter(str(error).strip().splitlines()), "out of memory")
            except _Elsewhere:
                pass
            # Out of the `except`: the error's traceback held the step's tensors.
            said = next(filter(None, self._told(mine)), "")
            if not said:
                break
            self.optimizer.zero_grad(set_to_none=True)
            memory.release()
            rng.restore(before)
            self._shrink(said, here=bool(mine))
        # All of the step is queued on the device by now, and `_finish` begins with waiting for it.
        self._prepared = self._prepare(following) if self.ahead else NOTHING
        taken = self._finish(loss, sums, indexes, weight, trained, rate)
        return replace(taken, squares=squares)

    @property
    def peak_bytes(self) -> int:
        """The most memory a rank has held so far, whichever it is."""
        return max(self._peak_elsewhere, memory.peak_bytes(self.trainee.device))

    def _told(self, mine: str) -> list[str]:
        """Why memory ran out, of each rank. The step waits for the slowest, so its wait for data is the step's."""
        if self._ranks.size == 1:
            return [mine]
        each = self._ranks.gather((mine, self._data_s, memory.peak_bytes(self.trainee.device)))
        said, waits, peaks = zip(*each, strict=True)
        self._data_s = max(waits)
        self._peak_elsewhere = max(self._peak_elsewhere, *peaks)
        return list(said)

    def gradient(self, items: Mapping[int, Item]) -> tuple[int, Any, dict[str, Any]]:
        """Add up the gradient of a step over rows, by index.

        Gives its weight, and the sums of losses and of what is reported beside them.
        """
        whole = self.objective.whole(list(items.values()), self._summed)
        share = 1.0 / max(1, whole.weight)
        total = torch.zeros((), dtype=torch.float32, device=self.trainee.device)
        sums: dict[str, Any] = {}
        for group in self.batching.groups(self._ranks.share(list(items), self._room), self._room, self.micro):
            started = time.perf_counter()
            batch = self._prepared.batches.get(tuple(group)) or self._batch(items, group)
            self._in_work = batch
            batch = batch.to(self.trainee.device)
            self._data_s += time.perf_counter() - started
            with self.trainee.autocast():
                part = self.objective.learn(batch, whole)
            scaled = part.loss * share
            (self.scaler.scale(scaled) if self.scaler else scaled).backward()
            total += part.loss.detach()
            for name, value in part.sums.items():
                sums[name] = sums[name] + value if name in sums else value
            self._fitted = max(self._fitted, batch.computed)
        return whole.weight, total, sums

    def _batch(self, items: Mapping[int, Item], group: Sequence[int]) -> MicroBatch:
        return self.objective.batch([items[i] for i in group], self.batching)

    def _prepare(self, indexes: Sequence[int]) -> Prepared:
        """The micro-batches of these rows in pinned memory; a limit that changes meanwhile has them made anew."""
        items = {i: self._items[i] for i in indexes}
        groups = self.batching.groups(self._ranks.share(list(items), self._room), self._room, self.micro)
        device = self.trainee.device
        return Prepared(items, {tuple(group): self._batch(items, group).pinned(device) for group in groups})

    def _summed(self, sequences: Sequence[Row], each: Callable[[MicroBatch], Any]) -> Any:
        """What `each` makes of micro-batches of these sequences, added up; without gradients and dropout."""
        with evaluating(self.trainee):
            if self._ranks.size == 1:
                return sum(map(each, self._batches(sequences)))
            share = self._ranks.share(range(len(sequences)), [len(one.ids) for one in sequences])
            try:
                mine = float(sum(map(each, self._batches([sequences[i] for i in share]))))
            except (RuntimeError, MemoryError) as error:
                if memory.is_exhausted(error):
                    self._ranks.gather(None)
                raise
            found = self._ranks.gather(mine)
            if any(one is None for one in found):
                raise _Elsewhere
            return torch.tensor(sum(found), dtype=torch.float32, device=self.trainee.device)

    def _batches(self, sequences: Sequence[Row]) -> Iterator[MicroBatch]:
        lengths = [len(one.ids) for one in sequences]
        for group in self.batching.groups(range(len(sequences)), lengths, self.micro):
            self._in_work = self.batching.batch([sequences[i] for i in group])
            yield self._in_work.to(self.trainee.device)

    def _shrink(self, said: str, *, here: bool) -> None:
        """Smaller micro-batches on all ranks alike; those whose memory ran out say how small."""
        each = self._ranks.gather(self._smaller(said) if here else None)
        for refused in each:
            if isinstance(refused, StepTooLarge):
                raise refused
        self.micro = min((one for one in each if one is not None), key=lambda micro: micro.limit)
        self._degraded(f"micro-batch at most {self.micro.limit} {self.micro.unit}", said)

    def _smaller(self, said: str) -> Micro | StepTooLarge:
        batch = self._in_work
        if batch is None or not self._split_on_oom or batch.rows <= 1:
            return StepTooLarge.of(batch, self._fitted, said)
        return self.batching.smaller(self.micro, batch)

    def _finish(
        self, loss: Any, sums: Mapping[str, Any], indexes: Sequence[int], weight: int, trained: int, rate: float
    ) -> Taken:
        self._ranks.sum_gradients(self._learning)
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        norm = optim.clip(self._learning, self._clip)
        # The step's one wait for the device.
        summed, norm_value, *beside = torch.stack([loss, norm.float(), *sums.values()]).tolist()
        found = self._ranks.sum_by_name({"": summed, **dict(zip(sums, beside, strict=True))})
        summed = found.pop("")
        sound = applied = math.isfinite(summed) and math.isfinite(norm_value) and weight > 0
        if self.scaler:
            applied = self._scaled_step(sound, rate)
            sound = sound or (math.isfinite(summed) and self.scaler.get_scale() > LOSS_SCALE_FLOOR)
        elif applied:
            optim.set_rate(self.optimizer, rate)
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return Taken(
            loss=summed,
            weight=weight,
            trained=trained,
            tokens=sum(self._items.tokens[i] for i in indexes),
            rows=len(indexes),
            grad_norm=norm_value,
            applied=applied,
            sound=sound or weight == 0,
            data_s=self._data_s,
            sums=found,
        )

    def _scaled_step(self, finite: bool, rate: float) -> bool:
        """An fp16 step; where gradients overflowed the scaler leaves the weights alone and lowers its scale."""
        optim.set_rate(self.optimizer, rate)
        if finite:
            self.scaler.step(self.optimizer)
        self.scaler.update()
        return finite
