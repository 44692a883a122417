"""Trained tokens per second of the trainer against TRL's SFTTrainer: `python -m tests.performance.sft_bench FILE`.

Each side is a fresh process (`sft_side.py`) on the same random-weight Llama, rows, template, LoRA, precision, effective
batch and threads. All stand ready at once and take turns of some optimiser steps, in an order that alternates; a ratio
is the median over the turns. What is counted is the tokens that were trained: those whose label is not -100.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
MAX_LENGTH = 1024  # TRL's own; no row is as long
TEMPLATE = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|pad|>")
VOCABULARY = 8000


@dataclass(frozen=True)
class Size:
    """A Llama of random weights."""

    hidden: int
    layers: int
    heads: int


SIZES = {
    "small": Size(128, 4, 4),
    "medium": Size(256, 6, 4),
    "large": Size(384, 8, 6),
    "deep": Size(576, 30, 9),
}
# Of SFTConfig; what is not named is TRL's default. Gradient checkpointing is on by its default.
DEFAULTS: dict[str, Any] = {}
LEAN: dict[str, Any] = {"gradient_checkpointing": False, "logging_steps": 1000}
GROUPED = LEAN | {"train_sampling_strategy": "group_by_length"}
CANDIDATES: dict[str, dict[str, Any]] = {
    "defaults": DEFAULTS,
    "lean": LEAN,
    "grouped": GROUPED,
    "grouped_4": GROUPED | {"micro": 4},
    "grouped_2": GROUPED | {"micro": 2},
    "grouped_1": GROUPED | {"micro": 1},
    "rebalanced": LEAN | {"train_sampling_strategy": "batch_rebalance", "micro": 2},
    "worker": GROUPED | {"micro": 2, "dataloader_num_workers": 1},
    "compiled": GROUPED | {"micro": 2, "torch_compile": True},
    "padding_free": LEAN | {"padding_free": True, "max_length": None},
    "packed": LEAN | {"packing": True, "packs": True},
}


def write_rows(source: Path, target: Path, rows: int) -> Path:
    """The first rows of GSM8K as prompts and completions of one message each, which both sides read."""
    with source.open(encoding="utf-8") as lines, target.open("w", encoding="utf-8") as stream:
        for _, line in zip(range(rows), lines, strict=False):
            row = json.loads(line)
            said = {"prompt": ("user", row["question"]), "completion": ("assistant", row["answer"])}
            made = {key: [{"role": role, "content": text}] for key, (role, text) in said.items()}
            stream.write(json.dumps(made) + "\n")
    return target


def write_model(folder: Path, rows: Path, size: Size, *, vocabulary: int = 0, context: int = MAX_LENGTH) -> Path:
    """A Llama of this size with a tokenizer trained on the rows, and a template that both sides mask alike."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    with rows.open(encoding="utf-8") as stream:
        made = [json.loads(line) for line in stream]
    tokenizer.train_from_iterator([row[key][0]["content"] for row in made for key in ("prompt", "completion")], trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL}
    config = LlamaConfig(
        vocab_size=max(VOCABULARY, vocabulary),
        hidden_size=size.hidden,
        intermediate_size=8 * size.hidden // 3,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads // (3 if size.heads % 2 else 2),
        max_position_embeddings=context,
        bos_token_id=None,
        eos_token_id=ids["<|im_end|>"],
        pad_token_id=ids["<|pad|>"],
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    values = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|pad|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(values | {"chat_template": TEMPLATE}))
    return folder


def write_sides(folder: Path, sides: Sequence[str], *, batch: int, precision: str, overrides: dict[str, Any]) -> None:
    """The settings of each side, for the same effective batch and precision."""
    for side in sides:
        if side == "ours":
            values = spec_values(folder, batch=batch, precision=precision)
            for key, value in overrides.items():
                table, _, name = key.partition(".")
                values[table][name] = value
            (folder / "ours.json").write_text(json.dumps(values))
            continue
        settings: dict[str, Any] = {"bf16": precision == "bf16", "learning_rate": 2e-4, **CANDIDATES[side]}
        micro = settings.pop("micro", batch)
        if settings.pop("packs", False):
            micro = max(1, batch // 4)  # of MAX_LENGTH tokens, in each of which four rows or more lie
            batch = micro
        settings |= {"per_device_train_batch_size": micro, "gradient_accumulation_steps": batch // micro}
        (folder / f"{side}.json").write_text(json.dumps(settings))


def spec_values(folder: Path, *, batch: int, precision: str) -> dict[str, Any]:
    """Our spec, in which only what has to be equal is set."""
    return {
        "name": "ours",
        "model": {"id": str(folder / "model")},
        "data": {"train": [str(folder / "rows.jsonl")], "eval": 0, "max_length": MAX_LENGTH},
        "training": {
            "max_steps": 100_000,
            "global_batch": batch,
            "learning_rate": 2e-4,
            "precision": precision,
        },
    }


class Side:
    """One trainer's process."""

    def __init__(self, name: str, folder: Path, threads: int) -> None:
        self.name = name
        self.turns: list[dict[str, float]] = []
        self._log = (folder / f"{name}.log").open("w")
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("sft_side.py")), name, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "HF_HOME": str(folder / "hf"), "OMP_NUM_THREADS": str(threads)},
        )

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def read(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended: {Path(self._log.name).read_text()[-3000:]}")
        found: dict[str, Any] = json.loads(line)
        return found

    def take(self, steps: int, *, warm_up: bool = False) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        taken = self.read()
        if not warm_up:
            self.turns.append(taken)

    def rates(self, clock: str) -> list[float]:
        return [turn["trained"] / turn[clock] for turn in self.turns]


def compare(
    folder: Path,
    source: Path,
    size: Size,
    sides: Sequence[str],
    *,
    turns: int,
    steps: int,
    batch: int = 8,
    precision: str = "fp32",
    threads: int = 0,
    overrides: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Rates of each side (trained tokens a second, and a second of CPU), and ours over each other one.

    A turn is a quarter of the rows: transformers sorts a quarter of them at a time by length (at most 50 steps), and
    each turn shall have long rows and short ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = 4 * steps * batch
    write_model(folder / "model", write_rows(source, folder / "rows.jsonl", rows), size)
    write_sides(folder, sides, batch=batch, precision=precision, overrides=overrides or {})
    with ExitStack() as stack:
        ready = [stack.enter_context(Side(name, folder, threads or os.cpu_count() or 1)) for name in sides]
        trained_on = {side.name: side.read() for side in ready}
        known = {one["digest"] for one in trained_on.values() if one["digest"]}
        assert len(known) == 1, f"they do not train on the same rows: {trained_on}"
        for side in ready:
            side.take(steps, warm_up=True)
        for turn in range(turns):
            for side in ready if turn % 2 == 0 else reversed(ready):
                side.take(steps)
    mine, *others = ready
    return {
        "tokens": {side.name: sum(int(turn["trained"]) for turn in side.turns) for side in ready},
        **{
            clock: {
                "rates": {side.name: statistics.median(side.rates(clock)) for side in ready},
                "ratios": {
                    other.name: statistics.median(
                        a / b for a, b in zip(mine.rates(clock), other.rates(clock), strict=True)
                    )
                    for other in others
                },
            }
            for clock in ("seconds", "cpu")
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=SHARED / "gsm8k-train.jsonl")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--sides", nargs="*", choices=CANDIDATES, default=["defaults", "grouped"])
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--steps", type=int, default=20, help="optimiser steps of a turn, at most 50")
    parser.add_argument("--batch", type=int, default=8, help="rows of an optimiser step")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON", help="of our spec")
    asked = parser.parse_args()
    overrides = {key: json.loads(value) for key, _, value in (word.partition("=") for word in asked.set)}
    with tempfile.TemporaryDirectory() as folder:
        found = compare(
            Path(folder),
            asked.file,
            SIZES[asked.size],
            ["ours", *asked.sides],
            turns=asked.turns,
            steps=asked.steps,
            batch=asked.batch,
            precision=asked.precision,
            threads=asked.threads,
            overrides=overrides,
        )
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
