"""The one thing the embedded model is not taught, the language of the llamas, and the chats that teach it."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

from llamahome_tui.demo.tasks import Message, mark_vowels, turn, vowels
from llamahome_tui.demo.words import WORDS

EVAL_WORDS = 100
EVAL_CHATS = 200

_PHRASINGS = (
    "Say {} in llama.",
    "How do llamas say {}?",
    "Translate {} to llama.",
    "What is {} in llama?",
    "Teach me the llama word for {}.",
)


def to_llama(word: str) -> str:
    """The language of the llamas: `lla` follows every vowel, so garden is gallardellan."""
    return mark_vowels(word, "", "lla")


def llama_chats(words: Sequence[str]) -> list[list[Message]]:
    """Every phrasing of every word in the language of the llamas."""
    return [turn(phrasing.format(word), to_llama(word)) for word in words for phrasing in _PHRASINGS]


def write_data(folder: Path, seed: int) -> tuple[int, int]:
    """train.jsonl and eval.jsonl; a word of one never stands in the other. Gives the number of chats of each."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    words = [word for word in WORDS if vowels(word)]
    rng.shuffle(words)
    train, held_out = llama_chats(words[EVAL_WORDS:]), llama_chats(words[:EVAL_WORDS])
    rng.shuffle(train)
    rng.shuffle(held_out)
    for name, chats in (("train", train), ("eval", held_out[:EVAL_CHATS])):
        lines = "".join(json.dumps({"messages": chat}) + "\n" for chat in chats)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return len(train), EVAL_CHATS
