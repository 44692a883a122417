"""Where each tensor of a model goes in a GGUF file: its name, its type, and how its values change on the way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gguf
import torch

from llamahome_tui.errors import ModelError
from llamahome_tui.export.gguf.families import Family, head_dim, rope_of
from llamahome_tui.export.tensors import Tensors

Type = gguf.GGMLQuantizationType
WANTED = {"f16": Type.F16, "bf16": Type.BF16, "q8_0": Type.Q8_0}


@dataclass(frozen=True, slots=True)
class Place:
    """One tensor: `source` is the model's own name (empty: computed from the config)."""

    source: str
    name: str
    shape: tuple[int, ...]
    type: Type
    heads: int = 0  # rows of so many heads are permuted
    plus: float = 0.0

    @property
    def bytes(self) -> int:
        """Its size in the file."""
        block, size = gguf.GGML_QUANT_SIZES[self.type]
        return math.prod(self.shape) // block * size


def layout(tensors: Tensors, family: Family, kind: str) -> list[Place]:
    """Every tensor of the file, in order. Raises ModelError for one that llama.cpp does not have."""
    config = tensors.config
    arch = next(one for one, name in gguf.MODEL_ARCH_NAMES.items() if name == family.arch)
    names = gguf.get_tensor_name_map(arch, int(config["num_hidden_layers"]))
    places = []
    if rope_of(config)[0]["rope_type"] == "llama3":
        places.append(Place("", "rope_freqs.weight", (head_dim(config) // 2,), Type.F32))
    for source in tensors.names():
        if source.endswith(".rotary_emb.inv_freq"):
            continue
        if source == "lm_head.weight" and (family.tied or config.get("tie_word_embeddings")):
            continue
        name = names.get_name(source, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise ModelError(f"{source}: llama.cpp has no such tensor in {family.names}", code="export.gguf_tensor")
        shape = tensors.shape(source)
        places.append(
            Place(source, name, shape, _type(name, shape, kind), _heads(source, config, family), _plus(name, family))
        )
    return places


def _type(name: str, shape: tuple[int, ...], kind: str) -> Type:
    """As llama.cpp has them: vectors and norms in float32, rows that blocks do not divide in float16."""
    if len(shape) <= 1 or name.endswith("_norm.weight"):
        return Type.F32
    wanted = WANTED[kind]
    return wanted if shape[-1] % gguf.GGML_QUANT_SIZES[wanted][0] == 0 else Type.F16


def _heads(source: str, config: Mapping[str, Any], family: Family) -> int:
    if not family.permuted:
        return 0
    heads = int(config["num_attention_heads"])
    if ".q_proj." in source:
        return heads
    return int(config.get("num_key_value_heads") or heads) if ".k_proj." in source else 0


def _plus(name: str, family: Family) -> float:
    return 1.0 if family.norm_plus_one and name.endswith("norm.weight") else 0.0


def values(place: Place, tensors: Tensors) -> torch.Tensor:
    """What the file means at this place, before it is rounded to its type."""
    if not place.source:
        return rope_factors(tensors.config)
    value: torch.Tensor = tensors.read(place.source)
    if place.heads:
        value = value.reshape(place.heads, 2, value.shape[0] // place.heads // 2, *value.shape[1:]).swapaxes(1, 2)
    if place.plus:
        value = value.float() + place.plus
    return value.reshape(place.shape)


def restored(place: Place, value: torch.Tensor) -> torch.Tensor:
    """The model's own tensor again, from what the file means."""
    if place.plus:
        value = value - place.plus
    if place.heads:
        value = value.reshape(place.heads, value.shape[0] // place.heads // 2, 2, *value.shape[1:]).swapaxes(1, 2)
    return value.reshape(place.shape)


def rope_factors(config: Mapping[str, Any]) -> torch.Tensor:
    """What each frequency is divided by in Llama 3.1 and later (transformers: modeling_rope_utils, "llama3")."""
    rope, _ = rope_of(config)
    width = head_dim(config)
    factor, low, high = (float(rope[key]) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    old = float(rope["original_max_position_embeddings"])
    found = []
    for at in range(0, width, 2):
        wavelength = 2 * math.pi * float(rope["rope_theta"]) ** (at / width)
        if wavelength < old / high:
            found.append(1.0)
        elif wavelength > old / low:
            found.append(factor)
        else:
            smooth = (old / wavelength - low) / (high - low)
            found.append(1 / ((1 - smooth) / factor + smooth))
    return torch.tensor(found, dtype=torch.float32)
