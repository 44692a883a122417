"""How fast a run trained while it trained: means over its steps, without pauses, evaluations and what was void."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

RATES: Final = ("trained_tokens_per_s", "tokens_per_s", "samples_per_s", "mfu", "data_wait")
_PARTS: Final = (
    1024  # that are kept apart, so that those past a later attempt's beginning can go; at most twice as many
)


@dataclass(slots=True)
class _Part:
    """The steps up to one, the seconds they took, and what each rate adds up to over those of them that told it."""

    step: int
    seconds: float
    sums: dict[str, tuple[float, float]] = field(default_factory=dict)  # rate times seconds, seconds

    def join(self, later: _Part) -> None:
        """Become both."""
        self.step, self.seconds = later.step, self.seconds + later.seconds
        for name, (weighed, seconds) in later.sums.items():
            mine = self.sums.get(name, (0.0, 0.0))
            self.sums[name] = (mine[0] + weighed, mine[1] + seconds)


class Throughput:
    """Takes a trainer's `start` and `metrics` records in their order.

    An interval counts by its seconds. Journals from before `interval_s` have none; of those each step is taken to have
    had `rows` rows.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._parts: list[_Part] = []
        self._last = 0

    def begin(self, from_step: int) -> None:
        """An attempt begins: what came after its first step is trained again."""
        self._parts = [part for part in self._parts if part.step <= from_step]
        self._last = from_step

    def take(self, step: int, record: Mapping[str, Any]) -> None:
        """Count an interval; a record without rates, as of an evaluation, is none."""
        rates = {name: value for name in RATES if (value := number(record.get(name))) is not None}
        if not rates:
            return
        steps, self._last = step - self._last, step
        seconds = number(record.get("interval_s"))
        if seconds is None and rates.get("samples_per_s"):
            seconds = steps * self._rows / rates["samples_per_s"]
        if seconds is None or seconds <= 0 or steps <= 0:
            return
        sums = {name: (rate * seconds, seconds) for name, rate in rates.items()}
        self._parts.append(_Part(step, seconds, sums))
        if len(self._parts) > 2 * _PARTS:
            for earlier, later in zip(self._parts[::2], self._parts[1::2], strict=False):
                earlier.join(later)
            self._parts = self._parts[::2]

    def told(self) -> dict[str, float | None]:
        """The mean of each rate, null where nothing was told, and `steps_s`, the seconds that the steps took."""
        whole = _Part(0, 0.0)
        for part in self._parts:
            whole.join(part)
        means = {name: whole.sums.get(name, (0.0, 0.0)) for name in RATES}
        return {name: weighed / seconds if seconds else None for name, (weighed, seconds) in means.items()} | {
            "steps_s": round(whole.seconds, 3)
        }


def number(value: Any) -> float | None:
    """A finite number, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
