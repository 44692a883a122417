"""A tiny random Llama with a character tokenizer and a chat template, written as a plain model folder."""

from __future__ import annotations

import json
import random
import string
from pathlib import Path

TEMPLATE = (
    "{% for message in messages %}"
    "<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
ALPHABET = string.ascii_letters + string.digits + string.punctuation + " \n"


def write_tokenizer(folder: Path) -> int:
    """Write tokenizer.json, tokenizer_config.json and the chat template; gives the size of the vocabulary."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *ALPHABET])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=" "))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "pad_token": "<|pad|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": TEMPLATE}))
    return len(vocabulary)


def write_model(
    folder: Path, *, hidden: int = 32, layers: int = 2, seed: int = 0, vocabulary: int = 0, tied: bool = False
) -> Path:
    """Write a whole model folder and give it back."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    size = max(vocabulary, write_tokenizer(folder))
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def write_chats(path: Path, rows: int, *, seed: int = 0) -> Path:
    """Write chats as JSON lines: the answer to a word is the word in capitals."""
    chance = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(rows):
            word = "".join(chance.choices(string.ascii_lowercase, k=chance.randint(2, 9)))
            messages = [{"role": "user", "content": f"say {word}"}, {"role": "assistant", "content": word.upper()}]
            file.write(json.dumps({"messages": messages}) + "\n")
    return path


def write_preferences(path: Path, rows: int, *, seed: int = 0, labels: bool = False) -> Path:
    """Write preference pairs, or labelled answers: to a word, the word in capitals is better than backwards."""
    chance = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            word = "".join(chance.choices(string.ascii_lowercase, k=chance.randint(2, 9)))
            row: dict[str, object] = {"prompt": [{"role": "user", "content": f"say {word}"}]}
            good, bad = ([{"role": "assistant", "content": text}] for text in (word.upper(), word[::-1]))
            row |= {"completion": (good, bad)[number % 2], "label": number % 2 == 0} if labels else {}
            row |= {} if labels else {"chosen": good, "rejected": bad}
            file.write(json.dumps(row) + "\n")
    return path
