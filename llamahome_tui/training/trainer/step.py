"""One optimiser step: micro-batches whose gradients add up to that of the whole, within the memory there is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from llamahome_tui.training.auto import Micro
from llamahome_tui.training.trainer import batches, memory, optim, rng
from llamahome_tui.training.trainer.batches import Batching, MicroBatch, Row
from llamahome_tui.training.trainer.loss import Loss
from llamahome_tui.training.trainer.model import Trainee

LOSS_SCALE_FLOOR = 1.0  # an fp16 gradient that overflows at this scale is no matter of scale


@dataclass(frozen=True, slots=True)
class Taken:
    """What a step gave. `loss` is summed over `trained` tokens; both floats may be non-finite."""

    loss: float
    trained: int
    tokens: int
    rows: int
    grad_norm: float
    applied: bool  # the optimiser moved the weights
    sound: bool  # loss and gradients were finite, or only too large for fp16's present scale
    data_s: float


class StepTooLarge(Exception):
    """A micro-batch of `rows` rows does not fit in memory and may not be split any further.

    `length` is the tokens of the block that they are, `shown` the block for a person; `fitted` is the most tokens, with
    padding, that went through so far (0: none did).
    """

    def __init__(self, batch: MicroBatch | None, fitted: int, said: str) -> None:
        super().__init__(said)
        self.rows = batch.rows if batch else 0
        self.length = batch.length if batch else 0
        self.shown = batch.shown if batch else "any"
        self.fitted = fitted
        self.said = said


class Stepper:
    """Takes optimiser steps, and makes micro-batches smaller where memory runs out."""

    def __init__(
        self,
        trainee: Trainee,
        loss: Loss,
        optimizer: Any,
        scaler: Any,
        rows: Sequence[Row],
        lengths: Sequence[int],
        micro: Micro,
        *,
        clip: float,
        batching: Batching,
        split_on_oom: bool,
        degraded: Callable[[str, str], None],
    ) -> None:
        self.micro = micro
        self.trainee = trainee
        self.loss = loss
        self.optimizer = optimizer
        self.scaler = scaler
        self._rows = rows
        self._clip = clip
        self.batching = batching
        self._split_on_oom = split_on_oom
        self._degraded = degraded
        self._learning = trainee.trainable
        self._lengths = lengths
        self._data_s = 0.0
        self._in_work: MicroBatch | None = None
        self._fitted = 0  # tokens, with padding, of the largest micro-batch that went through

    def take(self, indexes: Sequence[int], rate: float) -> Taken:
        """One step over these rows at this learning rate.

        Out of memory: the micro-batch limit is halved and the step is taken again from its beginning, so that its
        gradient is what it would have been. Raises StepTooLarge when a single row does not fit.
        """
        started = time.perf_counter()
        rows = {i: self._rows[i] for i in indexes}
        trained = sum(map(batches.trained_tokens, rows.values()))
        self._data_s = time.perf_counter() - started
        while True:
            before = rng.snapshot()
            try:
                loss = self._accumulate(rows, trained)
                break
            except (RuntimeError, MemoryError) as error:
                if not memory.is_exhausted(error):
                    raise
                said = str(error).strip().splitlines()
            # Out of the `except`: the error's traceback held the step's tensors.
            self.optimizer.zero_grad(set_to_none=True)
            memory.release()
            rng.restore(before)
            self._shrink(said[0] if said else "out of memory")
        return self._finish(loss, indexes, trained, rate)

    def _accumulate(self, rows: Mapping[int, Row], trained: int) -> Any:
        total = torch.zeros((), dtype=torch.float32, device=self.trainee.device)
        share = 1.0 / max(1, trained)
        for group in self.batching.groups(list(rows), self._lengths, self.micro):
            started = time.perf_counter()
            batch = self.batching.batch([rows[i] for i in group])
            self._in_work = batch
            batch = batch.to(self.trainee.device)
            self._data_s += time.perf_counter() - started
            with self.trainee.autocast():
                loss = self.loss(batch)
            scaled = loss * share
            (self.scaler.scale(scaled) if self.scaler else scaled).backward()
            total += loss.detach()
            self._fitted = max(self._fitted, batch.computed)
        return total

    def _shrink(self, said: str) -> None:
        batch = self._in_work
        if batch is None or not self._split_on_oom or batch.rows <= 1:
            raise StepTooLarge(batch, self._fitted, said)
        self.micro = self.batching.smaller(self.micro, batch)
        self._degraded(f"micro-batch at most {self.micro.limit} {self.micro.unit}", said)

    def _finish(self, loss: Any, indexes: Sequence[int], trained: int, rate: float) -> Taken:
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        norm = optim.clip(self._learning, self._clip)
        summed, norm_value = torch.stack([loss, norm.float()]).tolist()  # the step's one wait for the device
        sound = applied = math.isfinite(summed) and math.isfinite(norm_value) and trained > 0
        if self.scaler:
            applied = self._scaled_step(sound, rate)
            sound = sound or (math.isfinite(summed) and self.scaler.get_scale() > LOSS_SCALE_FLOOR)
        elif applied:
            optim.set_rate(self.optimizer, rate)
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return Taken(
            loss=summed,
            trained=trained,
            tokens=sum(self._lengths[i] for i in indexes),
            rows=len(indexes),
            grad_norm=norm_value,
            applied=applied,
            sound=sound or trained == 0,
            data_s=self._data_s,
        )

    def _scaled_step(self, finite: bool, rate: float) -> bool:
        """An fp16 step; where gradients overflowed the scaler leaves the weights alone and lowers its scale."""
        optim.set_rate(self.optimizer, rate)
        if finite:
            self.scaler.step(self.optimizer)
        self.scaler.update()
        return finite
