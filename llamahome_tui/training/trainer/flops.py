"""What a step costs a model in floating-point operations, whatever the device does beside it; the estimate for `mfu`.

A token that goes through a matrix of n weights takes 2n operations forward, 2n for the gradient of what went in, and
2n for the gradient of the weights where they learn: 6N in all (Kaplan et al. 2020), 4N for frozen weights under an
adapter. Attention adds 12 x layers x width x length for each token (Chowdhery et al. 2022, appendix B), of which a
third is the forward pass. Recomputed activations and padding are not counted: they are no progress.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from llamahome_tui.training.peaks import peak_flops
from llamahome_tui.training.trainer.model import Trainee
from llamahome_tui.training.trainer.quantised import size_of


@dataclass(frozen=True, slots=True)
class Cost:
    """What a model's tokens cost. `frozen` and `learning` are weights in matrices that a token goes through."""

    frozen: float
    learning: float
    attention: int  # layers that attend to all before, times the width of their heads together
    reference: bool = False  # each sequence goes through the model once more, forward alone

    def of(self, tokens: int, squares: int) -> float:
        """Operations for so many tokens; `squares` is the sum of the squared lengths of their sequences."""
        forward = 2 * (self.frozen + self.learning) * tokens + 4 * self.attention * squares
        backward = (2 * self.frozen + 4 * self.learning) * tokens + 8 * self.attention * squares
        return forward + backward + (forward if self.reference else 0.0)


def cost_of(trainee: Trainee, *, reference: bool) -> Cost:
    """The cost of a model that is ready to learn; `reference`: its objective compares with what it began as."""
    config = trainee.base.config.get_text_config()
    used = _used_experts(config)
    frozen = learning = 0.0
    for parameter in _matrices(trainee.model):
        size = size_of(parameter) * (used if parameter.ndim == 3 else 1.0)  # experts lie in one block
        if parameter.requires_grad:
            learning += size
        else:
            frozen += size
    heads = int(getattr(config, "num_attention_heads", 0) or 0)
    width = int(getattr(config, "head_dim", 0) or getattr(config, "hidden_size", 0) // max(heads, 1))
    return Cost(frozen, learning, _attending(config) * heads * width, reference)


def peak_of(trainee: Trainee, devices: int = 1) -> float | None:
    """What so many of the device compute at most in a second in the run's precision; None where that is not known."""
    if trainee.device.type != "cuda":
        return None
    faster = trainee.precision == "fp32" and torch.get_float32_matmul_precision() != "highest"
    one = peak_flops(torch.cuda.get_device_name(trainee.device), "tf32" if faster else trainee.precision)
    return one * devices if one is not None else None


def _matrices(model: Any) -> Iterator[Any]:
    """Weights that tokens are multiplied with, each once. An embedding is looked up, unless it is the head as well."""
    seen: set[int] = set()
    for name, module in model.named_modules():
        replaced = "original_module" in name.split(".")  # by a copy that learns
        if replaced or isinstance(module, torch.nn.Embedding):
            continue
        for parameter in module.parameters(recurse=False):
            if parameter.ndim >= 2 and id(parameter) not in seen:
                seen.add(id(parameter))
                yield parameter


def _attending(config: Any) -> int:
    """Layers that attend to everything before; hybrid models list what kind each layer is."""
    kinds = getattr(config, "layer_types", None)
    if not kinds:
        return int(getattr(config, "num_hidden_layers", 0) or 0)
    return sum("linear" not in kind and "attention" in kind for kind in kinds)


def _used_experts(config: Any) -> float:
    """The share of a mixture's experts that a token goes through; 1 for other models."""
    used = getattr(config, "num_experts_per_tok", None)
    names = ("num_local_experts", "num_experts", "n_routed_experts")
    total = next((found for name in names if (found := getattr(config, name, None))), None)
    return used / total if used and total else 1.0
