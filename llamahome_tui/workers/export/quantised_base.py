"""What a quantised base was to the run: each of its tensors quantised and back, as loading it does.

Merged into the original weights an adapter would correct errors that are not there any more.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from llamahome_tui.errors import ModelError
from llamahome_tui.training.trainer import adapter as adapters
from llamahome_tui.training.trainer import quantised
from llamahome_tui.workers.export.merge import Change


def changes(folder: Path, adapter: Path, quantization: str, dtype: Any) -> dict[str, Change]:
    """By name in the files: the tensor after the round through `quantization` ("none", "nf4", "int8") in `dtype`."""
    if quantization == "none":
        return {}
    from transformers.core_model_loading import revert_weight_conversion
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear

    empty, again = adapters.skeleton(folder), adapters.skeleton(folder)
    if empty is None or again is None:
        raise ModelError(f"{folder} cannot be built without its weights", code="model.not_traceable")
    settings = quantised.settings(quantization, dtype, adapters.saved_whole(adapter), empty)
    with torch.device("meta"):
        model = replace_with_bnb_linear(
            again, modules_to_not_convert=settings.llm_int8_skip_modules, quantization_config=settings
        )
    through = partial(_nf4 if quantization == "nf4" else _int8, dtype=dtype)
    found: dict[str, Change] = {}
    for name, module in model.named_modules():
        if type(module).__name__ in ("Linear4bit", "Linear8bitLt"):
            shape = (module.out_features, module.in_features)
            for stored in revert_weight_conversion(empty, {f"{name}.weight": torch.empty(shape, device="meta")}):
                found[stored] = through
    return found


def _nf4(tensor: torch.Tensor, *, dtype: Any) -> torch.Tensor:
    from bitsandbytes import functional

    packed, state = functional.quantize_4bit(tensor.to(dtype), blocksize=64, compress_statistics=True, quant_type="nf4")
    back: torch.Tensor = functional.dequantize_4bit(packed, state)
    return back


def _int8(tensor: torch.Tensor, *, dtype: Any) -> torch.Tensor:
    from bitsandbytes import functional

    packed, scales, _ = functional.int8_vectorwise_quant(tensor.to(torch.float16))
    back: torch.Tensor = functional.int8_vectorwise_dequant(packed, scales)
    return back
