"""Whether a difference between two models on the same rows is more than chance: exact or resampled, and repeatable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
_AT_ONCE = 1 << 22  # counts that are held at a time
Sums = NDArray[np.float64]


def mcnemar(worse: int, better: int) -> float:
    """The exact two-sided p-value of McNemar's test: of the rows whose verdict changed, how one-sided are they.

    Binomial with one half over `worse + better` rows (McNemar 1947); 1 where none changed.
    """
    changed, fewer = worse + better, min(worse, better)
    tail = ways = 1
    for k in range(fewer):
        ways = ways * (changed - k) // (k + 1)
        tail += ways
    return float(min(1.0, 2 * tail / (1 << changed)))  # an integer quotient: right for any number of rows


def interval(
    base: Sequence[Sequence[float]],
    tuned: Sequence[Sequence[float]],
    value: Callable[[Any], Any],
    seed: int,
    share: float = 0.95,
) -> tuple[float, float]:
    """Bounds of `value(sums of tuned) - value(sums of base)`, by the paired percentile bootstrap (Efron 1979).

    Each argument has a row of numbers per row of the data; rows are drawn with replacement, the same for both models,
    and `value` gets their sums, [draws, numbers]. The same seed gives the same bounds.
    """
    one, other = np.asarray(base, np.float64), np.asarray(tuned, np.float64)
    rows = len(one)
    chance = np.random.default_rng(seed)
    found: list[Sums] = []
    left = DRAWS
    while left:
        draws = min(left, max(1, _AT_ONCE // rows))
        counts = chance.multinomial(rows, np.full(rows, 1 / rows), size=draws).astype(np.float64)
        found.append(value(counts @ other) - value(counts @ one))
        left -= draws
    low, high = np.nanquantile(np.concatenate(found), [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
