"""What a run says of itself while it steps: `progress` at most four times a second, `metrics` every few steps."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from llamahome_tui.training.trainer.counters import Counters
from llamahome_tui.training.trainer.step import Taken

PROGRESS_S = 0.25
ALIVE_S = 5.0
RECENT = 50  # steps the remaining time is estimated from


class Report:
    """Turns steps into events; knows rates and the time that is left."""

    def __init__(
        self,
        emit: Callable[..., Any],
        counters: Counters,
        *,
        total: int,
        log_every: int,
        epoch: Callable[[int], float],
        metrics: Callable[[Mapping[str, float], int], dict[str, float]],
        flops: Callable[[int, int], float] | None = None,
        peak_flops: float | None = None,
    ) -> None:
        """`flops` is what so many tokens in sequences of these squared lengths cost, `peak_flops` what the device
        computes at most in a second; without either there is no `mfu`."""
        self._emit = emit
        self._counters = counters
        self._total = total
        self._log_every = log_every
        self._epoch = epoch
        self._means = metrics
        self._flops = flops
        self._peak_flops = peak_flops
        self._durations: deque[float] = deque(maxlen=RECENT)
        self._progress_at = -math.inf
        self._clear()

    def stepped(self, taken: Taken, seconds: float, rate: float, peak: Callable[[], int]) -> None:
        """A step is done and counted; `peak` is asked for the peak memory where it is reported."""
        self._durations.append(seconds)
        self._seconds += seconds
        self._data_s += taken.data_s
        self._tokens += taken.tokens
        self._trained += taken.trained
        self._squares += taken.squares
        self._rows += taken.rows
        now = time.monotonic()
        if now - self._progress_at >= PROGRESS_S or self._counters.step == self._total:
            self.progress()
        if self._counters.step % self._log_every == 0 or self._counters.step in (1, self._total):
            self._metrics(taken, rate, peak())

    def alive(self) -> None:
        """Repeat the progress now and then while no step is taken: a long evaluation is no stall."""
        if time.monotonic() - self._progress_at >= ALIVE_S:
            self.progress()

    def progress(self) -> None:
        """Say where the run is now."""
        self._progress_at = time.monotonic()
        step = self._counters.step
        mean = sum(self._durations) / len(self._durations) if self._durations else None
        self._emit(
            "progress",
            step=step,
            steps=self._total,
            epoch=round(self._epoch(step), 4),
            tokens=self._counters.tokens,
            eta_s=None if mean is None else round(mean * (self._total - step), 1),
        )

    def _metrics(self, taken: Taken, rate: float, peak_bytes: int) -> None:
        counters = self._counters
        interval = counters.interval
        means: dict[str, float | None] = {"loss": None}
        if interval.trained:
            means |= self._means({"loss": interval.loss, **interval.sums}, interval.trained)
        loss = means["loss"]
        if loss is not None:
            counters.loss_first = loss if counters.loss_first is None else counters.loss_first
            counters.loss_last = loss
        seconds = max(self._seconds, 1e-9)
        self._emit(
            "metrics",
            step=counters.step,
            epoch=round(self._epoch(counters.step), 4),
            **{name: value if value is not None and math.isfinite(value) else None for name, value in means.items()},
            lr=rate,
            grad_norm=taken.grad_norm if math.isfinite(taken.grad_norm) else None,
            tokens_per_s=round(self._tokens / seconds, 1),
            trained_tokens_per_s=round(self._trained / seconds, 1),
            samples_per_s=round(self._rows / seconds, 2),
            mfu=self._mfu(seconds),
            memory_peak_bytes=peak_bytes,
            data_wait=round(self._data_s / seconds, 4),
            interval_s=round(seconds, 4),
            skipped_steps=counters.skipped_steps,
        )
        interval.clear()
        self._clear()

    def _mfu(self, seconds: float) -> float | None:
        """The share of what the device could have computed that the model needed."""
        if self._flops is None or self._peak_flops is None:
            return None
        return round(self._flops(self._tokens, self._squares) / (seconds * self._peak_flops), 4)

    def _clear(self) -> None:
        self._seconds = self._data_s = 0.0
        self._tokens = self._trained = self._squares = self._rows = 0
