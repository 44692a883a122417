"""The weights that a GGUF file means, by the model's own names: what its held-out loss is measured on."""

from __future__ import annotations

from pathlib import Path

import gguf
import torch

from llamahome_tui.workers.gguf.layout import restored
from llamahome_tui.workers.gguf.write import Plan


def weights(plan: Plan, path: Path) -> dict[str, torch.Tensor]:
    """Every tensor dequantised to float32 under its name in the model. All of them are in memory at once."""
    held = {one.name: one for one in gguf.GGUFReader(path).tensors}
    found = {}
    for place in plan.places:
        if place.source:
            stored = held[place.name]  # of the type that is there: llama-quantize chooses tensor by tensor
            value = torch.from_numpy(gguf.quants.dequantize(stored.data, stored.tensor_type).copy())
            found[place.source] = restored(place, value.reshape(place.shape))
    return found
