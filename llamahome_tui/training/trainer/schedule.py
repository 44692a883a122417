"""Learning-rate schedules as a pure function of the step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math

WSD_DECAY = 0.2  # share of the run in which warm-up-stable-decay decays


def factor(kind: str, step: int, total: int, warmup: int) -> float:
    """The share of the peak learning rate that step `step` (from 0) of `total` is taken with.

    Warm-up rises linearly and reaches 1 at its last step; `cosine` and `linear` then fall to 0 after the last step,
    `constant` stays, `wsd` stays and falls linearly over the last fifth (Hu et al. 2024, MiniCPM).
    """
    if step < warmup:
        return (step + 1) / warmup
    rest = max(1, total - warmup)
    done = min(1.0, (step - warmup) / rest)
    if kind == "constant":
        return 1.0
    if kind == "linear":
        return 1.0 - done
    if kind == "wsd":
        decay = min(rest, max(1, round(WSD_DECAY * total)))
        return min(1.0, max(0.0, (total - step) / decay))
    return 0.5 * (1.0 + math.cos(math.pi * done))
