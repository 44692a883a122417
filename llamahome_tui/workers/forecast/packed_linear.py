"""Stands in for a quantised linear layer where only memory is asked for: packed weights, unpacked while they are used.

As bitsandbytes does it: the forward pass keeps the packed weight and not its input, the backward pass unpacks again.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

BLOCK = 64  # weights of nf4 that share a scale
SCALES = 256  # scales that share one, since they are quantised themselves


class PackedLinear(torch.nn.Linear):  # type: ignore[misc]  # torch is untyped here
    """A frozen linear layer whose weight takes 4 or 8 bits for each of its numbers."""

    def __init__(self, like: Any, quantization: str) -> None:
        super().__init__(like.in_features, like.out_features, bias=like.bias is not None, device="meta")
        self.shape = (like.out_features, like.in_features)
        self.weight = torch.nn.Parameter(
            torch.empty(packed_bytes(like.weight.numel(), like.out_features, quantization), dtype=torch.uint8,
                        device="meta"),
            requires_grad=False,
        )  # fmt: skip
        if like.bias is not None:
            self.bias = like.bias

    def forward(self, values: Any) -> Any:
        if torch.is_autocast_enabled(values.device.type):
            values = values.to(torch.get_autocast_dtype(values.device.type))
        out = _Unpacked.apply(values, self.weight, self.shape)
        return out if self.bias is None else out + self.bias.to(out.dtype)


class _Unpacked(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(context: Any, values: Any, packed: Any, shape: tuple[int, int]) -> Any:
        context.save_for_backward(packed)
        context.shape = shape
        return torch.nn.functional.linear(values, packed.new_empty(shape, dtype=values.dtype))

    @staticmethod
    def backward(context: Any, upstream: Any) -> Any:
        (packed,) = context.saved_tensors
        return upstream @ packed.new_empty(context.shape, dtype=upstream.dtype), None, None


def packed_bytes(numbers: int, rows: int, quantization: str) -> int:
    """What a weight of so many numbers takes: nf4 with doubly quantised scales, or int8 with one scale for each row."""
    if quantization == "int8":
        return numbers + 4 * rows
    scales = -(-numbers // BLOCK)
    return -(-numbers // 2) + scales + 4 * -(-scales // SCALES) + 4 * (16 + 256)


def pack(model: Any, quantization: str, keep: Collection[str]) -> None:
    """Put these in the place of a model's linear layers, but for the modules `keep` (names, or their last parts)."""
    for name, module in list(model.named_modules()):
        if type(module) is torch.nn.Linear and not any(part in keep for part in (name, *name.split("."))):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, PackedLinear(module, quantization))
