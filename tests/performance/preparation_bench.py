"""One side of the preparation benchmark, in a process of its own: `preparation_bench.py ours|trl FOLDER CORES CACHE`.

Prints {"seconds": ..., "cpu": ..., "rows": ..., "tokens": ..., "labels": hash of all ids and labels} as its last line.
Imports are not counted on either side, nor TRL's reading of the file; the start of our children is.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import time
from itertools import accumulate
from pathlib import Path
from typing import Any

MAX_LENGTH = 512
MARKED = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}"
    "{%- if m.role == 'assistant' %}{% generation %}{{- m.content + '<|im_end|>' }}{% endgeneration %}"
    "{%- else %}{{- m.content + '<|im_end|>' }}{%- endif %}{{- '\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|pad|>")


def write_chats(path: Path, rows: int, *, turns: int = 6, seed: int = 0) -> Path:
    """Chats of two to `turns` messages, of words that are made up, so that no two rows are the same."""
    chance = random.Random(seed)
    starts, ends = "b d f g k l m n p r s t v w z st tr kl", "a e i o u an er in on ur"
    parts = [start + end for start in starts.split() for end in ends.split()]
    words = ["".join(chance.choices(parts, k=chance.choice((1, 2, 2, 2, 3, 3, 4)))) for _ in range(30_000)]
    often = list(accumulate(1 / (rank + 10) for rank in range(len(words))))  # as words of a language are: Zipf's law

    def said(least: int, most: int) -> str:
        return " ".join(chance.choices(words, cum_weights=often, k=chance.randint(least, most))).capitalize() + "."

    with path.open("w", encoding="utf-8") as stream:
        for _ in range(rows):
            messages = []
            for _ in range(chance.randint(1, turns // 2)):
                messages.append({"role": "user", "content": said(3, 20)})
                messages.append({"role": "assistant", "content": said(5, 60)})
            stream.write(json.dumps({"messages": messages}) + "\n")
    return path


def write_model(folder: Path, chats: Path) -> Path:
    """A tokenizer of 8,000 pieces trained on the chats, a template with marks, and a Llama as small as can be."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=8000, initial_alphabet=alphabet, show_progress=False)
    with chats.open(encoding="utf-8") as stream:
        texts = [
            one["content"] for _, line in zip(range(2000), stream, strict=False) for one in json.loads(line)["messages"]
        ]
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=MAX_LENGTH,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    values = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|pad|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(values | {"chat_template": MARKED}))
    return folder


def ours(folder: Path, cores: int, cache: str) -> dict[str, Any]:
    import numpy  # noqa: F401 - imports are not counted
    import tokenizers  # noqa: F401

    from llamahome_tui.data import examples, table, writer  # noqa: F401
    from llamahome_tui.data.prepare import prepare
    from llamahome_tui.training.spec import read_spec

    text = f'[model]\nid = "{folder / "model"}"\n[data]\ntrain = ["chats.jsonl"]\neval = 0\nlong = "truncate"\n'
    text += f"max_length = {MAX_LENGTH}\n[training]\nmax_workers = {cores}\n"
    spec = read_spec(text, source="s", folder=folder, environ={})
    watch = Watch()
    made = prepare(spec, folder / "model", folder / cache)
    spent = watch.spent()
    rows = ((one.ids, [i if bit else -100 for i, bit in zip(one.ids, one.mask, strict=True)]) for one in made.train)
    return summary(spent, rows)


def trl(folder: Path, cores: int, _: str) -> dict[str, Any]:
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    lines = (folder / "chats.jsonl").read_text().splitlines()
    given = datasets.Dataset.from_list([json.loads(line) for line in lines])
    options = SFTConfig(
        output_dir=str(folder / "out"),
        assistant_only_loss=True,
        max_length=MAX_LENGTH,
        dataset_num_proc=cores,
        report_to=[],
        use_cpu=True,
        bf16=False,
    )
    spent: list[dict[str, float]] = []
    real = SFTTrainer._prepare_dataset

    def timed(*args: Any, **kwargs: Any) -> Any:
        watch = Watch()
        found = real(*args, **kwargs)
        spent.append(watch.spent())
        return found

    SFTTrainer._prepare_dataset = timed
    trainer = SFTTrainer(model=model, args=options, train_dataset=given, processing_class=tokenizer)
    return summary(spent[0], ((row["input_ids"], row["labels"]) for row in trainer.train_dataset))


class Watch:
    """Seconds on the wall, and of CPU in this process and the children it has waited for."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), sum(os.times()[:4])

    def spent(self) -> dict[str, float]:
        return {"seconds": time.perf_counter() - self._wall, "cpu": sum(os.times()[:4]) - self._cpu}


def summary(spent: dict[str, float], rows: Any) -> dict[str, Any]:
    """What is compared. The label of a row's first token counts for nothing, as nothing comes before it."""
    digest = hashlib.sha256()
    count = tokens = 0
    for ids, labels in rows:
        digest.update(json.dumps([list(ids), [-100, *list(labels)[1:]]]).encode())
        count += 1
        tokens += len(ids)
    return {**spent, "rows": count, "tokens": tokens, "labels": digest.hexdigest()}


if __name__ == "__main__":
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    side, given, cores, cache = sys.argv[1:]
    print(json.dumps({"ours": ours, "trl": trl}[side](Path(given), int(cores), cache)))
