"""A frozen base in 4 or 8 bits (bitsandbytes), on which an adapter learns: QLoRA (Dettmers et al. 2023).

Only what bitsandbytes makes of linear layers is quantised. Nothing else changes its precision: norms compute in
float32 under autocast already, and embeddings and head in float32 would take the memory that was saved.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection
from typing import Any

import torch

from llamahome_tui.errors import ConfigError


def settings(quantization: str, dtype: Any, keep: Collection[str], model: Any) -> Any:
    """What transformers is asked for: "nf4" with double quantisation, or "int8"; the modules `keep` stay as they are.

    `model` is one like it, without weights (None: the head alone is kept beside `keep`). Raises ConfigError where
    bitsandbytes is missing.
    """
    from transformers import BitsAndBytesConfig
    from transformers.quantizers.base import get_keys_to_not_convert
    from transformers.utils import is_bitsandbytes_available

    if not is_bitsandbytes_available():
        raise ConfigError(
            f"model.quantization = {quantization} needs bitsandbytes",
            code="launch.no_bitsandbytes",
            hint="install it: pip install 'llamahome-tui[train]'",
        )
    # It says with every layer that float32 input is cast for the multiplication, which is what int8 means.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    kept = sorted({*keep, *(get_keys_to_not_convert(model) if model is not None else ["lm_head"])})
    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=kept,
    )


def steady(model: Any) -> None:
    """Let an evaluation on a CPU leave the weights as they are.

    Without a gradient bitsandbytes packs 4-bit weights for a CPU's bf16 kernels, in place and for good: what is
    computed after an evaluation is then no more what was computed before it, and widths that are no multiple of the
    kernels' blocks fail.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def size_of(parameter: Any) -> int:
    """Weights in a parameter; a 4-bit one holds two of them in each of its bytes."""
    state = getattr(parameter, "quant_state", None)
    return int(parameter.numel()) if state is None else math.prod(state.shape)


def unquantised_share(model: Any) -> float:
    """The share (0 to 1) of a quantised model's weights that stayed in floating point."""
    sizes = [(size_of(p), p.dtype in (torch.uint8, torch.int8)) for p in model.parameters()]
    return sum(size for size, packed in sizes if not packed) / max(1, sum(size for size, _ in sizes))
