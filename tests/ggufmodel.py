"""Tiny models of every family that can be a GGUF file, with a tokenizer that llama.cpp has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from llamahome_tui.export.gguf.vocabulary import PATTERNS

TEXT = ["it's a quick brown fox, 12345 times", "  spaces\n\n\tand tabs", "нещо 日本語 😶"] * 4
SHAPE = {
    "vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
KINDS = {
    "llama": (LlamaConfig, {"rope_parameters": LLAMA3, "tie_word_embeddings": False}, "llama-bpe"),
    "mistral": (MistralConfig, {"head_dim": 16, "sliding_window": None}, "tekken"),
    "qwen2": (Qwen2Config, {}, "qwen2"),
    "qwen3": (Qwen3Config, {"head_dim": 128}, "qwen2"),  # the only width that transformers reads back
    "gemma": (GemmaConfig, {"head_dim": 8, "hidden_activation": "gelu_pytorch_tanh"}, "qwen2"),
    "gemma2": (Gemma2Config, {"head_dim": 256, "query_pre_attn_scalar": 256, "sliding_window": 8}, "qwen2"),
    "gemma3": (Gemma3TextConfig, {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 8}, "qwen2"),
}
TEMPLATE = "{{ messages[0]['content'] }}\x1b[31m{% raw %}'\"\u202e{% endraw %}"


def tokenizer(pre: str) -> Tokenizer:
    """A byte-level one of 300 tokens whose words are cut as llama.cpp's `pre` cuts them."""
    pattern, (_, whole) = next(one for one in PATTERNS.items() if one[1][0] == pre)
    made = Tokenizer(models.BPE(ignore_merges=whole))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        TEXT, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=["<s>", "</s>"])
    )
    return made


def model_of(folder: Path, kind: str, **shape: Any) -> Path:
    """Write a model of this kind, its numbers drawn by a fixed seed; gives its folder."""
    made, more, pre = KINDS[kind]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(made(**{**SHAPE, **more, **shape})).float()
    for one in model.parameters():
        one.data = (torch.randn_like(one) * 0.2).bfloat16().float()
    model.save_pretrained(folder)
    tokenizer(pre).save(str(folder / "tokenizer.json"))
    words = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(words))
    return folder
