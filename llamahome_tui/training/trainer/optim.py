"""The optimiser and its learning rate; the rate of a step is computed from the step, never stepped along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from llamahome_tui.errors import ResourceError

BITSANDBYTES = {"adamw_8bit": "AdamW8bit", "paged_adamw_8bit": "PagedAdamW8bit", "lion_8bit": "Lion8bit"}


def build(name: str, model: Any, rate: float, weight_decay: float) -> Any:
    """The optimiser `name` over what learns; weight decay spares vectors (norms and biases).

    Raises ResourceError when an 8-bit optimiser is asked for and bitsandbytes is not installed.
    """
    learning = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=0.9)
    if name in BITSANDBYTES:
        try:
            import bitsandbytes
        except ImportError as problem:
            raise ResourceError(
                f"training.optimizer = {name} needs bitsandbytes", hint="pip install 'llamahome-tui[train]'"
            ) from problem
        return getattr(bitsandbytes.optim, BITSANDBYTES[name])(groups, lr=rate)
    return torch.optim.AdamW(groups, lr=rate, fused=True)


def set_rate(optimizer: Any, rate: float) -> None:
    """The learning rate of the next step, for all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def clip(parameters: Sequence[Any], limit: float) -> Any:
    """Scale gradients so that their common norm is at most `limit` (0: leave them); gives the norm before, a scalar."""
    return torch.nn.utils.clip_grad_norm_(parameters, limit if limit > 0 else float("inf"))
