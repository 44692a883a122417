"""A forecast by formula, from a config alone and in a millisecond: where a trace of the model is not there or too dear.

Weights that are frozen lie in the compute precision and those that learn in float32, as the trainer loads them. What a
layer keeps of a token for the backward pass is summed over its operations: inputs of both norms and of every matrix,
queries, keys, values and the attention's output; fused attention writes no matrix of scores (Korthikanti et al. 2022).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from llamahome_tui.training import auto
from llamahome_tui.training.forecast import Forecast, Parts, Target, Variant
from llamahome_tui.training.methods import method_of
from llamahome_tui.training.targets import ALL_LINEAR, HEADS, wanted_names

if TYPE_CHECKING:
    from llamahome_tui.training.architecture import Architecture
    from llamahome_tui.training.shape import Spec

# Bytes of optimiser state for each parameter that learns; 8-bit ones have a float32 for each block besides.
STATE: Final = {"adamw": 8.0, "adamw_8bit": 2.1, "paged_adamw_8bit": 2.1, "lion_8bit": 1.1, "sgd": 4.0}
# Bytes of a weight in a linear layer: nf4 has a scale, itself quantised, for each 64 weights.
_QUANTISED: Final = {"nf4": 0.5 + 0.127 / 8, "int8": 1.0}
_CHUNK: Final = {"cpu": 2**23, "cuda": 2**26}  # logits that exist at a time (trainer/loss.py)
_LOGIT_COPIES: Final = 3  # in float32: logits, their softmax, their gradient
_OF_EXPERTS: Final = ("gate_proj", "up_proj", "down_proj")  # which "all-linear" leaves alone where they are experts
PROCESS_BYTES: Final = 470 << 20  # resident bytes of a trainer on a CPU before its model: Python, torch and its family
_REASON: Final = "an estimate from the model's config"


@dataclass(frozen=True, slots=True)
class Learning:
    """Parameters that learn: of the adapter, of modules that are trained whole, and of embeddings among those."""

    adapter: int
    whole: int
    embeddings: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.adapter + self.whole + self.embeddings


def estimate(spec: Spec, model: Architecture, target: Target, variant: Variant) -> Forecast:
    """What one device needs at the peak of a step. `spec` has the keys of `variant.set` set already."""
    precision = auto.precision(spec.training.precision, device=target.kind, bf16=target.bf16)
    value = 4 if precision == "fp32" else 2
    learning = learning_of(spec, model)
    checkpointing = spec.training.gradient_checkpointing
    kept = _activations(spec, model, value, False if isinstance(checkpointing, str) else checkpointing)
    if spec.lora.enabled:
        weights = _frozen_bytes(spec, model, value) + 4 * (learning.whole + learning.embeddings)
        copies = 0.0
    else:
        weights = 4 * model.parameters
        copies = 0.0 if precision == "fp32" else 2.0 * model.parameters  # those that autocast makes for a step
    cells = min(_CHUNK[target.kind], variant.tokens * model.vocabulary)
    parts = Parts(
        weights=int(weights),
        adapter=4 * learning.adapter,
        gradients=4 * learning.total,
        optimizer=optimizer_bytes(spec, learning),
        activations=int(variant.tokens * kept),
        logits=4 * _LOGIT_COPIES * cells,
        workspace=int(copies + _largest_layer(model) * value) + (PROCESS_BYTES if target.kind == "cpu" else 0),
    )
    return Forecast(parts, parts.total, traced=False, reason=_REASON)


def learning_of(spec: Spec, model: Architecture) -> Learning:
    """How many parameters learn; of an adapter to go on from it is taken that it is as the spec says."""
    if not spec.lora.enabled:
        tables = model.embedding * (1 if model.tied else 2)
        return Learning(0, model.parameters - tables, tables)
    names = wanted_names(spec)
    every = ALL_LINEAR in spec.lora.targets
    adapter = sum(
        spec.lora.r * (one.rows + one.columns) * one.count
        for one in model.matrices()
        if _named(one.name, names["lora.targets"]) or (every and not (model.experts and one.name in _OF_EXPERTS))
    )
    also = names["lora.train_also"]
    whole = sum(one.parameters for one in model.matrices() if _named(one.name, also))
    tables = sum(any(name.endswith(end) for end in (*HEADS, "embed_tokens", "wte")) for name in also)
    return Learning(adapter, whole, min(tables, 2) * model.embedding)


def optimizer_bytes(spec: Spec, learning: Learning) -> int:
    """The optimiser's state on the device: paged ones leave it to the host; embeddings keep theirs in 32 bits."""
    name = auto.optimizer(spec.training.optimizer, lora=spec.lora.enabled)
    if name.startswith("paged"):
        return 0
    state = STATE[name]
    return int(state * (learning.adapter + learning.whole) + max(state, STATE["adamw"]) * learning.embeddings)


def flops_per_token(spec: Spec, model: Architecture, length: int) -> float:
    """Operations that a token of a row of that length costs (Kaplan et al. 2020; as trainer/flops.py counts them)."""
    used = sum(one.parameters * one.used for one in model.matrices()) + model.embedding
    learning = learning_of(spec, model)
    learns = learning.adapter if spec.lora.enabled else used
    frozen = used if spec.lora.enabled else 0.0
    attention = model.layers * model.heads * model.head_dim * length
    forward = 2 * (frozen + learns) + 4 * attention
    again = forward if method_of(spec.method.kind).reference else 0.0
    return forward + 2 * frozen + 4 * learns + 8 * attention + again


def _named(name: str, wanted: list[str]) -> bool:
    return any(one == name or one.endswith("." + name) for one in wanted)


def _frozen_bytes(spec: Spec, model: Architecture, value: int) -> float:
    linear = sum(one.parameters for one in model.matrices())
    rest = model.parameters - linear
    return linear * _QUANTISED.get(spec.model.quantization, value) + rest * value


def _activations(spec: Spec, model: Architecture, value: int, checkpointing: bool | float) -> float:
    """Bytes that a token keeps over all layers."""
    inputs = auto.checkpointed_layers(checkpointing, model.layers)
    layer = sum(_kept(spec, model, value))
    # Of the layers that are computed again one at a time is there in full.
    return layer * max(1 if inputs else 0, model.layers - inputs) + inputs * model.hidden * value


def _kept(spec: Spec, model: Architecture, value: int) -> Iterator[float]:
    """Bytes that one layer keeps of a token, operation by operation."""
    query, key = model.heads * model.head_dim, model.kv_heads * model.head_dim
    wide = model.intermediate * max(1, model.experts_used)
    yield 2 * 4 * model.hidden  # the norms' inputs, in float32
    yield 2 * value * model.hidden  # their outputs, which the matrices read
    yield value * 2 * (query + 2 * key)  # before and after the rotation
    yield value * query + 4 * model.heads  # attention's output and its sums
    yield value * wide * (4 if model.gated else 2)  # gate, its activation, up, their product
    if spec.lora.enabled:
        adapted = sum(spec.lora.r for _ in model.matrices())
        yield value * adapted * max(1, model.experts_used)
        if spec.lora.dropout:
            yield value * (4 * model.hidden + wide)


def _largest_layer(model: Architecture) -> int:
    """Parameters of the largest matrix: what a product or a dequantised weight takes for a moment."""
    return max(one.rows * one.columns for one in model.matrices())
