"""What the tools share: names of optimisers, schedules and attention, and what a batch, a warm-up, a save is."""

from __future__ import annotations

import re
from typing import Any, Final

from llamahome_tui.text import clean
from llamahome_tui.training.imports.book import CHANGES, HARMLESS, Book
from llamahome_tui.training.imports.rules import Source, names, real, short, switch, text, whole

# their word -> (ours, why it is another one; "" where it is the same)
OPTIMIZERS: Final[dict[str, tuple[str, str]]] = {
    "adamw_torch": ("adamw", ""),
    "adamw_torch_fused": ("adamw", ""),
    "adamw_hf": ("adamw", ""),
    "adamw_apex_fused": ("adamw", ""),
    "adamw_anyprecision": ("adamw", "its state is kept in fp32 here"),
    "adamw_bnb_8bit": ("adamw_8bit", ""),
    "adamw_8bit": ("adamw_8bit", ""),
    "adamw_torch_8bit": ("adamw_8bit", "8-bit state of bitsandbytes instead of torchao's"),
    "adamw_torch_4bit": ("adamw_8bit", "8-bit state instead of torchao's 4-bit state"),
    "paged_adamw_8bit": ("paged_adamw_8bit", ""),
    "paged_adamw": ("paged_adamw_8bit", "paged state is kept in 8 bits here"),
    "paged_adamw_32bit": ("paged_adamw_8bit", "paged state is kept in 8 bits here"),
    "lion": ("lion_8bit", "its state is kept in 8 bits here"),
    "lion_32bit": ("lion_8bit", "its state is kept in 8 bits here"),
    "lion_8bit": ("lion_8bit", ""),
    "paged_lion_8bit": ("lion_8bit", "the state is not paged here"),
    "paged_lion_32bit": ("lion_8bit", "its state is kept in 8 bits here, not paged"),
    "sgd": ("sgd", "it has momentum 0.9 here"),
}
SCHEDULERS: Final[dict[str, tuple[str, str]]] = {
    "linear": ("linear", ""),
    "cosine": ("cosine", ""),
    "constant": ("constant", ""),
    "constant_with_warmup": ("constant", ""),
    "polynomial": ("linear", "a polynomial of the first degree, which is the default there"),
    "warmup_stable_decay": ("wsd", "it falls linearly over the last fifth here"),
    "cosine_with_restarts": ("cosine", "one cycle, which is the default there"),
}
ATTENTION: Final[dict[str, str | None]] = {
    "sdpa": "sdpa", "eager": "eager", "flex_attention": "flex_attention", "auto": None,
    "flash_attention_2": None, "flash_attention_3": None, "fa2": None, "fa3": None, "flash_attention2": None,
    "disabled": "eager",
}  # fmt: skip
STANDARD_MODULES: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_ENDS: Final = re.compile(r"\(([\w|]+)\)(_proj)?")
_NAMES: Final = re.compile(r"[A-Za-z]\w*_proj\w*|\bWqkv\b|query_key_value")
_NO_TEXT: Final = ("false", "none", "no", "")


def optimizer(source: Source, book: Book, key: str) -> None:
    """Their name of an optimiser."""
    said = source.get(key, text)
    if said is None:
        return
    ours, other = OPTIMIZERS.get(said, ("", ""))
    if not ours:
        instead = book.values.get("training.optimizer", "adamw")
        book.leave(key, said, f"LlamaHome has no such optimiser; the spec has {instead}")
        book.default("training.optimizer", "adamw")
        return
    book.set("training.optimizer", ours, key)
    if other:
        book.change(key, said, other)


def scheduler(source: Source, book: Book, key: str) -> None:
    """Their name of a schedule; `constant` has no warm-up there."""
    said = source.get(key, text)
    if said is None:
        return
    ours, other = SCHEDULERS.get(said, ("", ""))
    if not ours:
        book.leave(key, said, "LlamaHome has no such schedule; the spec has cosine")
        book.set("training.scheduler", "cosine", key)
        return
    book.set("training.scheduler", ours, key)
    if said == "constant":
        book.set("training.warmup", 0, key)
    if other:
        book.change(key, said, other)


def warmup(source: Source, book: Book, *, silent: float | str = 0) -> None:
    """Steps win over a share, as in transformers; `silent` is what they do where neither is said."""
    if book.values.get("training.scheduler") == "constant" and "training.warmup" in book.values:
        return
    steps, share = source.get("warmup_steps", real), source.get("warmup_ratio", real)
    if steps is not None and (steps > 0 or share is None):
        if steps > 1 and not steps.is_integer():
            source.mistake("warmup_steps", f"must be a whole number of steps, or a share below 1, not {steps}")
        else:
            book.set("training.warmup", short(steps), "warmup_steps")
    elif share is not None:
        if share >= 1:
            book.leave("warmup_ratio", share, "is a share of the steps, which is below 1")
        else:
            book.set("training.warmup", short(share), "warmup_ratio")
    else:
        book.default("training.warmup", silent)


def batch(source: Source, book: Book, micro: int, micro_key: str, accumulation: int, accumulation_key: str) -> None:
    """The micro-batch, and the rows of a step: micro-batch x accumulation x devices."""
    command = source.given.command
    devices = (command.devices if command else 0) or source.get("num_processes", whole, 1)
    machines = command.machines if command else 1
    many = devices * machines
    if micro < 1 or accumulation < 1:
        key = micro_key if micro < 1 else accumulation_key
        source.mistake(key, "must be at least 1")
        return
    total = micro * accumulation * many
    book.set("training.batch_size", micro, micro_key)
    book.set("training.global_batch", total, f"{micro_key} x {accumulation_key} x {many} device{'s' * (many > 1)}")
    if many > 1 and machines == 1:
        book.set("launch.devices", devices, "the launcher's number of processes")
    if machines > 1:
        book.leave("num_machines", machines, "this version trains on one machine; global_batch counts all of them")
    if many == 1:
        reason = f"{micro} x {accumulation} on one device; trained on N of them, a step there holds N times as many"
        book.change(f"{micro_key}, {accumulation_key}", total, reason, HARMLESS)


def packing(source: Source, book: Book, key: str, *, longest: int | None) -> None:
    """Packed rows: a step there holds so many full sequences, here so many rows."""
    if source.on(key):
        book.set("data.batching", "packed", key)
        reason = (
            f"a row of a step there is a full sequence of {longest or 'many'} tokens, which holds several rows; here "
            "training.global_batch counts rows: multiply it by the rows that fit into one (see: data stats)"
        )
        book.change(key, True, reason)


def precision(source: Source, book: Book) -> None:
    """bf16, fp16, or fp32 where bf16 is switched off and fp16 is not on."""
    bf16, fp16 = source.values.get("bf16"), source.values.get("fp16")
    if bf16 not in (None, "auto", "full") and source.get("bf16", switch):
        book.set("training.precision", "bf16", "bf16")
    elif bf16 == "full":
        book.set("training.precision", "bf16", "bf16")
        book.change("bf16", "full", "adapter and optimiser states stay fp32 here", HARMLESS)
    elif fp16 is not None and source.get("fp16", switch):
        book.set("training.precision", "fp16", "fp16")
    elif bf16 not in (None, "auto"):
        book.set("training.precision", "fp32", "bf16, which is off")


def attention(source: Source, book: Book, key: str) -> None:
    """Flash attention is what auto takes where it is installed and proved equal, so it is never a reason to fail."""
    said = source.get(key, text)
    if said is None or said in _NO_TEXT:
        return
    if said not in ATTENTION:
        book.leave(
            key,
            said,
            "LlamaHome has no such attention; auto takes the fastest that is installed and proved equal",
            HARMLESS,
        )
    elif (ours := ATTENTION[said]) is not None:
        book.set("training.attention", ours, key)
    elif said != "auto":
        book.change(
            key, said, "auto takes flash attention where it is installed and proved equal on the model", HARMLESS
        )


def modules(source: Source, book: Book, key: str) -> None:
    """Names of modules for LoRA: a list, words with commas, or a regular expression."""
    value = source.values.get(key)
    if value is None or value == []:
        return
    if isinstance(value, str) and value in ("all", "all-linear"):
        book.set("lora.targets", "all-linear", key)
        return
    if (isinstance(value, str) and not re.fullmatch(r"[\w., -]+", value)) or (isinstance(value, str) and ".*" in value):
        found = _in_pattern(value)
        reason = "is a pattern, and lora.targets takes names of modules" + (
            ": these, in every part of the model" if found else "; the spec has all-linear"
        )
        book.set("lora.targets", found or "all-linear", key)
        book.change(key, value, reason)
        return
    listed = source.get(key, names, ())
    patterns = [one for one in listed if re.search(r"[\\^$*+?()|\[\]]", one)]
    if patterns:
        found = tuple(
            dict.fromkeys(name for one in listed for name in (_in_pattern(one) if one in patterns else (one,)))
        )
        book.set("lora.targets", found or "all-linear", key)
        book.change(
            key, value, "has patterns, and lora.targets takes names of modules: these, in every part of the model"
        )
    elif "all-linear" in listed or "all" in listed:
        book.set("lora.targets", "all-linear", key)
    elif listed:
        book.set("lora.targets", tuple(dict.fromkeys(listed)), key)


def _in_pattern(pattern: str) -> tuple[str, ...]:
    """The names of modules that a pattern ends in, as far as they can be read off it."""
    found: list[str] = []
    pattern = pattern[:2000]
    for group, end in _ENDS.findall(pattern):
        words = group.split("|")
        found += [word + end for word in words if (end or word.endswith("_proj")) and not word.isdigit()]
    found += _NAMES.findall(_ENDS.sub("", pattern))
    return tuple(dict.fromkeys(one for one in found if one))


def experts(source: Source, book: Book, key: str) -> None:
    """Parameters of experts for LoRA, beside its modules."""
    listed = source.get(key, names, ())
    if not listed:
        return
    short_names = tuple(dict.fromkeys(".".join(one.split(".")[-2:]) for one in listed))
    if any(re.search(r"[\\^$*+?()|\[\]]", one) for one in short_names):
        book.leave(key, listed, "is a pattern; name them in lora.targets, as experts.gate_up_proj")
        return
    targets = book.values.get("lora.targets", "all-linear")
    book.set("lora.targets", (*([targets] if isinstance(targets, str) else targets), *short_names), key)


def every(source: Source, book: Book, key: str, target: str) -> None:
    """Steps between saves or evaluations; a share of the run can't be steps before its rows are counted."""
    steps = source.get(key, real)
    if steps is None or steps <= 0:
        return
    if steps < 1:
        book.change(key, steps, f"is a share of the run; {target} counts steps, and its default is kept", HARMLESS)
    else:
        book.set(target, whole(steps), key)


def saves(source: Source, book: Book, *, silent: int | None) -> None:
    """When checkpoints are written; `silent` is their number of steps where nothing is said, None: at each epoch."""
    strategy = source.get("save_strategy", text)
    if strategy in ("no", "False", "false"):
        book.leave(
            "save_strategy",
            strategy,
            "checkpoints are what a resume goes on from: every 10 minutes, and at the end",
            HARMLESS,
        )
    elif strategy in ("epoch", "best") or (strategy is None and silent is None and not source.has("save_steps")):
        if strategy is not None:
            book.change(
                "save_strategy",
                strategy,
                "checkpoints come every 10 minutes, at each best evaluation and at the end",
                HARMLESS,
            )
    elif source.has("save_steps"):
        every(source, book, "save_steps", "checkpoint.every_steps")
    elif silent:
        book.default("checkpoint.every_steps", silent, theirs="save_steps")
    limit = source.get("save_total_limit", whole)
    if limit is not None:
        if limit >= 1:
            book.set("checkpoint.keep", limit, "save_total_limit")
        else:
            book.leave("save_total_limit", limit, "the last checkpoint is always kept", HARMLESS)


def reports(source: Source, book: Book, key: str = "report_to") -> None:
    """Where metrics go beside the journal."""
    value = source.values.get(key)
    if value is None:
        return
    wanted = source.get(key, names, ())
    if wanted == ("all",):
        book.leave(key, "all", "name the sinks in report.to: tensorboard, wandb, trackio", HARMLESS)
        return
    known = tuple(dict.fromkeys(one for one in wanted if one in ("tensorboard", "wandb", "trackio")))
    for one in wanted:
        if one not in known and one.lower() not in ("none", "[]"):
            book.leave(key, one, "LlamaHome has no such sink; tensorboard, wandb and trackio are there", HARMLESS)
    if known:
        book.set("report.to", known, key)


def run_name(source: Source, book: Book, *keys: str) -> None:
    """A run's name, made of what a name may have."""
    key = source.first(*keys)
    said = source.get(key, text, "") if key else ""
    made = re.sub(r"[^A-Za-z0-9._-]+", "-", clean(said, limit=200)).strip("-._")[:64].rstrip("-._")
    if made:
        book.set("name", made, key)


def betas(source: Source, book: Book) -> None:
    """AdamW's constants, which are 0.9, 0.999 and 1e-8 here."""
    for key, ours in (("adam_beta1", 0.9), ("adam_beta2", 0.999), ("adam_epsilon", 1e-8), ("adam_eps", 1e-8)):
        said = source.get(key, real)
        if said is not None and said != ours:
            book.leave(key, said, f"is {ours:g} here")


def best(source: Source, book: Book) -> None:
    """What decides which checkpoint is best."""
    metric = source.get("metric_for_best_model", text)
    if metric is None:
        return
    if metric in ("loss", "eval_loss"):
        book.set("evaluation.metric", "eval_loss", "metric_for_best_model")
    else:
        book.leave("metric_for_best_model", metric, "is not one of LlamaHome's metrics", CHANGES)


def patience(source: Source, book: Book, key: str) -> None:
    """Evaluations without a better one before it ends."""
    count: Any = source.get(key, whole)
    if count:
        book.set("evaluation.patience", count, key)
