"""The shape of a training spec: every key with its type, default and help, once; all else is made from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from llamahome_tui.config.fields import Entry, build, flatten, option, plain, schema_of


@dataclass(frozen=True, slots=True)
class Model:
    id: str = option("", "Hub id, folder, run id (its adapter goes on), or demo", "text")
    revision: str = option("main", "branch, tag or commit of a Hub id", "text")
    adapter: str = option("", "start from this adapter folder", "text")
    quantization: str = option("none", "none | int8 | nf4", words=("none", "int8", "nf4"))
    trust_remote_code: str = option("", "a commit, as consent to run the repository's code", "text")


@dataclass(frozen=True, slots=True)
class Data:
    train: tuple[str, ...] = option((), 'files, globs, or "demo"', "texts")
    weights: tuple[float, ...] = option((), "how often each entry of train counts", "numbers", above=0)
    eval: float | str = option(
        "auto",
        "auto: 2%, between 100 and 500 rows; a share, a number of rows, a file, or 0",
        "number",
        "text",
        minimum=0,
    )
    format: str = option(
        "auto",
        "auto | text | completion | alpaca | sharegpt | messages | preference | labels",
        words=("auto", "text", "completion", "alpaca", "sharegpt", "messages", "preference", "labels"),
    )
    columns: Mapping[str, str] = option({}, 'our field = "their column", e.g. { prompt = "question" }', "table")
    template: str = option("", "chat template file; empty: the model's own", "text")
    template_options: Mapping[str, Any] = option({}, "e.g. { enable_thinking = false }", "table")
    train_on: str = option(
        "assistant", "assistant | last | completion | all", words=("assistant", "last", "completion", "all")
    )
    max_length: int | Literal["auto"] = option(
        "auto",
        "tokens; auto: the longest row, capped by the model's context",
        "int",
        words=("auto",),
        minimum=8,
        maximum=1 << 24,
    )
    long: str = option(
        "drop",
        "drop | truncate | split | error; more than 1% dropped is refused unless set",
        words=("drop", "truncate", "split", "error"),
    )
    batching: str = option("auto", "auto | packed | sorted | plain", words=("auto", "packed", "sorted", "plain"))
    split_seed: int = option(42, "seed of the split into train and eval", "int", minimum=0, maximum=2**63 - 1)
    group: str = option("", "column that must not be split over train and eval", "text")


@dataclass(frozen=True, slots=True)
class Method:
    kind: str = option(
        "sft", "pretrain | sft | dpo | orpo | kto | simpo", words=("sft", "pretrain", "dpo", "orpo", "kto", "simpo")
    )
    loss: str = option("sigmoid", "dpo: sigmoid | ipo", words=("sigmoid", "ipo"))
    beta: float = option(0.1, "preference methods: strength", "number", above=0)
    gamma: float = option(0.5, "simpo: target margin", "number", minimum=0)
    label_smoothing: float = option(0.0, "share of wrong labels to expect", "number", minimum=0, maximum=0.5)


@dataclass(frozen=True, slots=True)
class Lora:
    enabled: bool = option(True, "false: full fine-tuning", "bool")
    r: int = option(16, "rank", "int", minimum=1, maximum=4096)
    alpha: float = option(32, "scale; alpha / r is what counts", "number", minimum=1e-6, maximum=1 << 20)
    dropout: float = option(0.0, "dropout before the adapter", "number", minimum=0, maximum=0.9)
    targets: str | tuple[str, ...] = option("all-linear", "all-linear, or names of modules", "text", "texts")
    variant: str = option("lora", "lora | rslora | dora", words=("lora", "rslora", "dora"))
    plus_ratio: float = option(
        0.0, "LoRA+: learning rate of B over that of A; 0: the same", "number", minimum=0, maximum=10000
    )
    train_also: tuple[str, ...] = option((), "modules trained in full beside the adapter", "texts")


@dataclass(frozen=True, slots=True)
class Training:
    epochs: float = option(1, "times over the data", "number", above=0, maximum=1_000_000)
    max_steps: int = option(0, "over 0: exactly so many steps, whatever epochs says", "int", minimum=0, maximum=10**9)
    global_batch: int = option(16, "sequences per optimiser step, over all devices", "int", minimum=1, maximum=1 << 20)
    batch_size: int | Literal["auto"] = option(
        "auto", "micro-batch per device; accumulation follows", "int", words=("auto",), minimum=1
    )
    learning_rate: float | Literal["auto"] = option(
        "auto", "LoRA 2e-4 (1e-4 from 30B; preferences 5e-6), full 1e-5", "number", words=("auto",), above=0, maximum=10
    )
    scheduler: str = option("cosine", "linear | cosine | constant | wsd", words=("linear", "cosine", "constant", "wsd"))
    warmup: float | Literal["auto"] = option(
        "auto",
        "auto: the larger of 3% and 10 steps, at most 10%; or steps, or a share",
        "number",
        words=("auto",),
        minimum=0,
    )
    optimizer: str = option(
        "auto",
        "fused adamw for LoRA, adamw_8bit for full; adamw | adamw_8bit | paged_adamw_8bit | lion_8bit | sgd",
        words=("auto", "adamw", "adamw_8bit", "paged_adamw_8bit", "lion_8bit", "sgd"),
    )
    weight_decay: float | Literal["auto"] = option(
        "auto", "0 for LoRA, 0.01 for full", "number", words=("auto",), minimum=0, maximum=10
    )
    clip: float = option(1.0, "largest gradient norm; 0: no clipping", "number", minimum=0)
    precision: str = option(
        "auto", "bf16; fp16 with scaler where bf16 is missing; fp32 on CPU", words=("auto", "bf16", "fp16", "fp32")
    )
    gradient_checkpointing: bool | float | Literal["auto"] = option(
        "auto",
        "auto | true | false, or of how many layers: a share below 1, a number from 1",
        "bool",
        "number",
        words=("auto",),
        above=0,
    )
    attention: str = option(
        "auto",
        "auto | sdpa | eager | flex_attention | flash_attention_2 | flash_attention_3",
        words=("auto", "sdpa", "eager", "flex_attention", "flash_attention_2", "flash_attention_3"),
    )
    kernels: str = option(
        "auto", "auto: liger where it is installed and equal; none | liger", words=("auto", "none", "liger")
    )
    compile: bool = option(False, "torch.compile, where it computes the same", "bool")
    neftune: float = option(0.0, "noise on embeddings", "number", minimum=0, maximum=1000)
    max_workers: int | Literal["auto"] = option(
        "auto", "processes that prepare data", "int", words=("auto",), minimum=0, maximum=1024
    )
    log_every: int = option(10, "steps between metrics", "int", minimum=1)
    seed: int = option(42, "seed of everything random", "int", minimum=0, maximum=2**32 - 1)


@dataclass(frozen=True, slots=True)
class Evaluation:
    every_steps: int | Literal["auto"] = option(
        "auto",
        "at the start, about ten times, at the end; or steps; 0: start and end",
        "int",
        words=("auto",),
        minimum=0,
    )
    metric: str = option(
        "eval_loss",
        "what decides which checkpoint is best: eval_loss | eval_perplexity | eval_token_accuracy | eval_exact | "
        "eval_preference_accuracy | eval_preference_margin",
        "text",
    )
    higher_is_better: bool = option(False, "only for a metric that does not know its direction; those above do", "bool")
    patience: int = option(
        0, "evaluations without a better one before it stops; 0: no early stopping", "int", minimum=0
    )
    generate_rows: int = option(0, "so many eval rows are answered by the model: eval_exact", "int", minimum=0)


@dataclass(frozen=True, slots=True)
class Samples:
    prompts: tuple[str, ...] = option((), "prompts answered while training", "texts")
    every_steps: int = option(0, "steps between samples; 0: only at the start and at the end", "int", minimum=0)
    max_new_tokens: int = option(128, "at most so many tokens for each", "int", minimum=1, maximum=1 << 17)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    every_steps: int = option(0, "steps between checkpoints; 0: by time only", "int", minimum=0)
    every_minutes: float = option(10, "minutes between checkpoints; 0: by steps only", "number", minimum=0)
    keep: int = option(2, "the last ones, and always the best", "int", minimum=1, maximum=100000)
    mirror: str = option("", "folder, or hf://owner/name, that each complete checkpoint is copied to", "text")


@dataclass(frozen=True, slots=True)
class Recovery:
    retries: int = option(2, "none when the same step fails the same way twice", "int", minimum=0, maximum=1000)
    oom: str = option("split", "split | fail", words=("split", "fail"))
    nan_limit: int = option(5, "steps with a non-finite loss in a row before it fails", "int", minimum=1)
    stall_s: float = option(600, "seconds without a sign of life that make a run stalled", "number", minimum=1)
    grace_s: float = option(120, "seconds a stopping run has for its checkpoint", "number", minimum=0)


@dataclass(frozen=True, slots=True)
class Launch:
    target: str = option("local", "local | slurm", words=("local", "slurm"))
    devices: Literal["auto"] | int | tuple[int, ...] = option(
        "auto", "auto | a number | [0, 1]; honours CUDA_VISIBLE_DEVICES", "int", "ints", words=("auto",), minimum=0
    )
    strategy: str = option("auto", "auto | single | ddp | fsdp", words=("auto", "single", "ddp", "fsdp"))
    nodes: int = option(1, "machines", "int", minimum=1)
    python: str = option("", "another interpreter that has torch and its family", "text")


@dataclass(frozen=True, slots=True)
class Notify:
    on_end: str = option("", "command, given the result as JSON on stdin", "text")
    on_fail: str = option("", "the same, when the run fails", "text")


@dataclass(frozen=True, slots=True)
class Report:
    to: tuple[str, ...] = option((), "sinks of metrics beside the journal: tensorboard, wandb, trackio", "texts")
    project: str = option("", "project's name there (wandb, trackio)", "text")


@dataclass(frozen=True, slots=True)
class Spec:
    """A whole training spec, checked; `read_spec` makes one from TOML, `from_dict` from what `to_dict` gave."""

    name: str = option("", "name of the run; empty: that of the spec file", "text")
    tags: tuple[str, ...] = option((), "labels to find it by", "texts")
    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    method: Method = field(default_factory=Method)
    lora: Lora = field(default_factory=Lora)
    training: Training = field(default_factory=Training)
    evaluation: Evaluation = field(default_factory=Evaluation)
    samples: Samples = field(default_factory=Samples)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    recovery: Recovery = field(default_factory=Recovery)
    launch: Launch = field(default_factory=Launch)
    notify: Notify = field(default_factory=Notify)
    report: Report = field(default_factory=Report)
    # The keys the user wrote, sorted: for a few, saying the default is consent (data.long = "drop").
    given: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def from_dict(cls, tables: Mapping[str, Any]) -> Spec:
        """The spec that `to_dict` wrote, by any version: unknown keys are left out, missing ones default."""
        spec: Spec = build(cls, flatten(tables, SCHEMA))
        return replace(spec, given=tuple(tables.get("given", ())))

    def to_dict(self) -> dict[str, Any]:
        """Nested tables of plain JSON values; lists instead of tuples."""
        tables: dict[str, Any] = {}
        for key in SCHEMA:
            *path, name = key.split(".")
            table = tables.setdefault(path[0], {}) if path else tables
            table[name] = plain(self.get(key))
        return tables | {"given": list(self.given)}

    def get(self, key: str) -> Any:
        """The value of a dotted key, as training.epochs."""
        table, _, name = key.rpartition(".")
        return getattr(getattr(self, table) if table else self, name)

    def digest(self) -> str:
        """sha256 of the values in a fixed form: the same spec gives the same digest whatever its file looked like."""
        values = {key: plain(self.get(key)) for key in SCHEMA}
        text = json.dumps(values, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


SCHEMA: dict[str, Entry] = schema_of(Spec)
REQUIRED = ("model.id", "data.train")
