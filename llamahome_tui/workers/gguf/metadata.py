"""The header of a GGUF file: what llama.cpp reads about the model, its tokenizer and its special tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
from tokenizers import Tokenizer

from llamahome_tui.errors import ModelError
from llamahome_tui.export.gguf.families import Family, head_dim, rope_of
from llamahome_tui.export.gguf.vocabulary import CONTROL, Vocabulary, vocabulary
from llamahome_tui.models.folder import read_json

FILE_TYPES = {
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}
SPECIAL = {"bos": "bos_token", "eos": "eos_token", "unk": "unk_token", "pad": "pad_token", "sep": "sep_token"}


def describe(writer: gguf.GGUFWriter, config: Mapping[str, Any], family: Family, kind: str, name: str) -> None:
    """The model's own numbers."""
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_file_type(FILE_TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    heads = int(config["num_attention_heads"])
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_key_length(head_dim(config))
    writer.add_value_length(head_dim(config))
    writer.add_vocab_size(int(config["vocab_size"]))
    writer.add_rope_dimension_count(head_dim(config))
    rope, local = rope_of(config)
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    if local is not None:
        writer.add_float32(f"{family.arch}.rope.freq_base_swa", local)
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(float(rope["factor"]))
    if rope["rope_type"] == "yarn":
        old = rope.get("original_max_position_embeddings") or config["max_position_embeddings"]
        writer.add_rope_scaling_orig_ctx_len(int(old))
    if family.sliding:
        writer.add_sliding_window(int(config["sliding_window"]))
        if config.get("attn_logit_softcapping"):
            writer.add_attn_logit_softcapping(float(config["attn_logit_softcapping"]))
        if config.get("final_logit_softcapping"):
            writer.add_final_logit_softcapping(float(config["final_logit_softcapping"]))


def read_vocabulary(folder: Path, rows: int) -> Vocabulary:
    """The vocabulary of a model folder. Raises ModelError where it can't be carried."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise ModelError(f"{folder} has no tokenizer.json: a GGUF carries its tokenizer", code="export.gguf_tokenizer")
    return vocabulary(read_json(file), rows)


def tokenizer(
    writer: gguf.GGUFWriter, words: Vocabulary, folder: Path, config: Mapping[str, Any], template: str | None
) -> None:
    """The tokenizer, its special tokens, and the chat template (default: the folder's own)."""
    writer.add_tokenizer_model(words.kind)
    writer.add_tokenizer_pre(words.pre)
    writer.add_token_list(list(words.tokens))
    writer.add_token_types(list(words.types))
    if words.scores:
        writer.add_token_scores(list(words.scores))
    if words.merges:
        writer.add_token_merges(list(words.merges))
    if words.space_prefix is not None:
        writer.add_add_space_prefix(words.space_prefix)
    told = _json(folder / "tokenizer_config.json")
    ids = {token: at for at, token in enumerate(words.tokens)}
    special: dict[str, int] = {}
    for key, field in SPECIAL.items():
        token = told.get(field)
        text = token.get("content") if isinstance(token, dict) else token
        found = ids.get(text) if isinstance(text, str) else config.get(f"{field}_id")
        found = found[0] if isinstance(found, list) and found else found
        if isinstance(found, int) and 0 <= found < len(words.tokens):
            special[key] = found
            writer.add_uint32(f"tokenizer.ggml.{gguf_key(key)}_token_id", found)
    ends = [at for at in end_ids(folder, config) if at != special.get("eos") and at < len(words.tokens)]
    turns = [at for at in ends if words.types[at] == CONTROL]
    if turns:
        writer.add_eot_token_id(turns[-1])
    framed = Tokenizer.from_file(str(folder / "tokenizer.json")).encode("a").ids
    writer.add_add_bos_token(bool(framed) and framed[0] == special.get("bos"))
    writer.add_add_eos_token(len(framed) > 1 and framed[-1] == special.get("eos"))
    if text := template if template is not None else _template(folder, told):
        writer.add_chat_template(text)


def gguf_key(key: str) -> str:
    """llama.cpp's word for a special token."""
    return {"unk": "unknown", "pad": "padding", "sep": "seperator"}.get(key, key)


def end_ids(folder: Path, config: Mapping[str, Any]) -> list[int]:
    """Every token that ends an answer."""
    found = _json(folder / "generation_config.json").get("eos_token_id", config.get("eos_token_id"))
    return [at for at in (found if isinstance(found, list) else [found]) if isinstance(at, int)]


def _template(folder: Path, told: Mapping[str, Any]) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    own = told.get("chat_template")
    if isinstance(own, list):
        own = {one.get("name"): one.get("template") for one in own}.get("default")
    return own if isinstance(own, str) else ""


def _json(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}
