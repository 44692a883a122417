"""What may not change between a checkpoint and the attempt that goes on from it: what gives its tensors their shape."""

from __future__ import annotations

from llamahome_tui.training.shape import Spec

FIXED = (
    "model.id",
    "model.revision",
    "model.adapter",
    "method.kind",
    "lora.enabled",
    "lora.r",
    "lora.targets",
    "lora.variant",
    "lora.train_also",
    "training.optimizer",
)


def fixed_changes(before: Spec, now: Spec) -> list[tuple[str, str]]:
    """(key, reason) for each key that differs and may not, where a checkpoint of `before` is gone on from."""
    return [
        (key, f"is {before.get(key)!r} in the checkpoint and cannot change; start a new run from this one instead")
        for key in FIXED
        if before.get(key) != now.get(key)
    ]
