"""The model families that can become a GGUF file, and what llama.cpp takes for granted in each of them.

What llama.cpp would compute in another way than the model does is refused: a file that loads and answers wrongly is
worse than none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from llamahome_tui.errors import ModelError

TYPES: Final = ("f16", "bf16", "q8_0", "q4_k_m")
NEEDED: Final = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings",
    "rms_norm_eps",
)  # fmt: skip
ROPE_TYPES: Final = ("default", "llama3", "linear", "yarn")


@dataclass(frozen=True, slots=True)
class Family:
    """One family: what llama.cpp calls it, and in what its tensors differ from the model's own."""

    arch: str
    names: str  # for people
    permuted: bool = False  # rows of q and k lie in pairs
    norm_plus_one: bool = False  # norms are stored without their 1
    tied: bool = False  # there is no output tensor of its own
    sliding: int = 0  # every so many-th layer sees everything, the others a window
    deep: int = 0  # with so many layers attention is scaled by the width per head, not by head_dim
    activation: tuple[str, ...] = ("silu",)


GELU = ("gelu_pytorch_tanh", "gelu_tanh")
FAMILIES: Final[Mapping[str, Family]] = {
    "LlamaForCausalLM": Family("llama", "Llama", permuted=True),
    "MistralForCausalLM": Family("llama", "Mistral", permuted=True),
    "Qwen2ForCausalLM": Family("qwen2", "Qwen2"),
    "Qwen3ForCausalLM": Family("qwen3", "Qwen3"),
    "GemmaForCausalLM": Family("gemma", "Gemma", norm_plus_one=True, tied=True, activation=(*GELU, "gelu")),
    "Gemma2ForCausalLM": Family(
        "gemma2", "Gemma 2", norm_plus_one=True, tied=True, sliding=2, deep=46, activation=GELU
    ),
    "Gemma3ForCausalLM": Family("gemma3", "Gemma 3 (text)", norm_plus_one=True, sliding=6, deep=62, activation=GELU),
}


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a config.json. Raises ModelError (exit 3) with the list of those that can be written."""
    found = config.get("architectures") or [""]
    architecture = str(found[0]) if isinstance(found, list) else str(found)
    if architecture not in FAMILIES:
        known = ", ".join(family.names for family in FAMILIES.values())
        raise ModelError(
            f"a model of the kind {architecture or 'unknown'} can't be written as GGUF; these can: {known}",
            code="export.gguf_family",
            hint="export it as safetensors instead: llamahome --batch runs export RUN --merge",
            data={"families": sorted(FAMILIES)},
        )
    return FAMILIES[architecture]


def head_dim(config: Mapping[str, Any]) -> int:
    """Values per attention head."""
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def rope_of(config: Mapping[str, Any]) -> tuple[dict[str, Any], float | None]:
    """How positions are turned: the full layers' parameters with `rope_theta`, and the sliding layers' theta."""
    told = config.get("rope_parameters") or config.get("rope_scaling") or {}
    local = config.get("rope_local_base_freq")
    if "full_attention" in told:
        local = (told.get("sliding_attention") or {}).get("rope_theta", local)
        told = told["full_attention"]
    rope = dict(told)
    rope.setdefault("rope_theta", config.get("rope_theta", 10000.0))
    rope["rope_type"] = str(rope.get("rope_type") or rope.get("type") or "default").lower()
    return rope, None if local is None else float(local)


def refuse(config: Mapping[str, Any], kind: str) -> Family:
    """The family; raises ModelError (exit 3) for what llama.cpp would compute in another way."""
    if kind not in TYPES:
        raise ModelError(f"--type {kind}: unknown; one of {', '.join(TYPES)}", code="export.gguf_type")
    family = family_of(config)
    if missing := [key for key in (*NEEDED, *(("sliding_window",) if family.sliding else ())) if not config.get(key)]:
        raise ModelError(f"config.json: says no {', '.join(missing)}", code="export.gguf_config")
    rope, _ = rope_of(config)
    layers = int(config["num_hidden_layers"])
    wrong = ""
    if rope["rope_type"] not in ROPE_TYPES:
        wrong = f"rope_type {rope['rope_type']}"
    activation = str(config.get("hidden_activation") or config.get("hidden_act") or family.activation[0])
    if activation not in family.activation:
        wrong = f"the activation {activation}"
    if config.get("use_sliding_window"):
        wrong = "use_sliding_window"
    if config.get("quantization_config"):
        wrong = "quantised weights"
    if family.tied and config.get("tie_word_embeddings") is False:
        wrong = "an output layer of its own"
    if family.sliding:
        kinds = config.get("layer_types")
        every = ["full_attention" if (at + 1) % family.sliding == 0 else "sliding_attention" for at in range(layers)]
        if (kinds and list(kinds) != every) or config.get("sliding_window_pattern") not in (None, family.sliding):
            wrong = f"another order of layers than every {family.sliding}. full"
        deep = config["hidden_size"] // config["num_attention_heads"]
        scale = deep if layers == family.deep else head_dim(config)
        if float(config.get("query_pre_attn_scalar") or scale) != float(scale):
            wrong = f"query_pre_attn_scalar {config['query_pre_attn_scalar']}"
    if wrong:
        raise ModelError(
            f"config.json: llama.cpp has no {family.names} with {wrong}",
            code="export.gguf_config",
            hint="export it as safetensors instead: llamahome --batch runs export RUN --merge",
        )
    return family
