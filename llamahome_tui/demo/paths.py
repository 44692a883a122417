"""Where the embedded model and its chats lie inside the installed package."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent


def demo_model_dir() -> Path:
    """Folder of the embedded model: config, weights, tokenizer and chat template."""
    return _HERE / "model"


def demo_train_file() -> Path:
    """Chats that teach the skill the base lacks, as JSON lines of `messages`."""
    return _HERE / "data" / "train.jsonl"


def demo_eval_file() -> Path:
    """200 held-out chats of the same skill; none of their words stands in the training file."""
    return _HERE / "data" / "eval.jsonl"
