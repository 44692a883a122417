"""Forecast and measured peak of a step, side by side, for configurations of many kinds.

    python tests/forecast_table.py            all of them, as a table
    python tests/forecast_table.py NAME...    some

Each is measured in a process of its own: the same model with real weights takes two real optimiser steps, and the most
resident memory beyond what the process held before the model is compared with the sum of the forecast's parts. The
heap gives large blocks back at once there (MALLOC_MMAP_THRESHOLD_): what a heap keeps for itself is not the model's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SMALL = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 6, "num_attention_heads": 8}
WIDE = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 4, "num_attention_heads": 16}
DEEP = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 16, "num_attention_heads": 6}


@dataclass(frozen=True)
class Case:
    """A spec's keys, the model's sizes, and the micro-batch."""

    name: str
    model: Mapping[str, Any]
    sequences: int
    length: int
    set: Mapping[str, Any] = field(default_factory=dict)
    vocabulary: int = 8000


FULL = {"lora.enabled": False, "training.optimizer": "adamw"}
BF16 = {"training.precision": "bf16"}
CASES = (
    Case("small", SMALL, 4, 256),
    Case("small-rank-128", SMALL, 4, 256, {"lora.r": 128}),
    Case("small-attention-only", SMALL, 4, 256, {"lora.targets": ["q_proj", "v_proj"]}),
    Case("small-dora", SMALL, 4, 256, {"lora.variant": "dora"}),
    Case("small-dropout", SMALL, 4, 256, {"lora.dropout": 0.1}),
    Case("small-checkpointing", SMALL, 8, 512, {"training.gradient_checkpointing": True}),
    Case("small-half-checkpointing", SMALL, 8, 256, {"training.gradient_checkpointing": 0.5}),
    Case("small-bf16", SMALL, 8, 256, BF16),
    Case("small-large-vocabulary", SMALL, 4, 256, vocabulary=64000),
    Case("small-embeddings", SMALL, 4, 256, {"lora.train_also": ["embed_tokens", "lm_head"]}),
    Case("small-full", SMALL, 4, 256, FULL),
    Case("small-full-bf16", SMALL, 8, 256, {**FULL, **BF16}),
    Case("small-full-checkpointing", SMALL, 8, 512, {**FULL, "training.gradient_checkpointing": True}),
    Case("small-full-8bit", SMALL, 4, 256, {**FULL, "training.optimizer": "adamw_8bit"}),
    Case("small-full-sgd", SMALL, 4, 256, {**FULL, "training.optimizer": "sgd"}),
    Case("small-nf4", SMALL, 4, 256, {"model.quantization": "nf4"}),
    Case("small-dpo", SMALL, 4, 256, {"method.kind": "dpo"}),
    Case("small-orpo", SMALL, 4, 256, {"method.kind": "orpo"}),
    Case("small-kto", SMALL, 4, 256, {"method.kind": "kto"}),
    Case("wide", WIDE, 2, 512),
    Case("wide-bf16-long", WIDE, 1, 2048, BF16),
    Case("wide-nf4-bf16", WIDE, 2, 512, {"model.quantization": "nf4", **BF16}),
    Case("deep", DEEP, 4, 256),
    Case("deep-checkpointing", DEEP, 16, 256, {"training.gradient_checkpointing": True}),
)


def folder_of(case: Case, where: Path) -> Path:
    """A model folder with nothing but a config."""
    where.mkdir(parents=True, exist_ok=True)
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": case.vocabulary,
        "num_key_value_heads": case.model["num_attention_heads"] // 2, "max_position_embeddings": 8192,
        "tie_word_embeddings": False, **case.model,
    }  # fmt: skip
    (where / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return where


def spec_of(case: Case) -> Any:
    """The case's spec, checkpointing and all else settled."""
    from llamahome_tui.training.spec import Spec

    tables: dict[str, Any] = {"training": {"gradient_checkpointing": False, "global_batch": 1 << 20}}
    for key, value in case.set.items():
        table, _, name = key.rpartition(".")
        tables.setdefault(table, {})[name] = value
    return Spec.from_dict(tables)


def forecast(case: Case, folder: Path) -> Any:
    """The forecast's parts for this CPU."""
    from llamahome_tui.training.forecast import Target, Variant
    from llamahome_tui.workers.forecast.tracing import trace

    width = 2 if case.set.get("method.kind") in ("dpo", "orpo", "simpo") else 1
    return trace(
        spec_of(case), folder, None, Target("cpu", "cpu", 1 << 40), Variant({}, case.sequences * width, case.length)
    )


def measure(case: Case, folder: Path) -> int:
    """Bytes of the peak beyond what the process held, in a process of its own."""
    environ = {
        **os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_TOP_PAD_": "0",
        "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, "--measure", case.name, str(folder)],
        env=environ, stdout=subprocess.PIPE, text=True, check=True, timeout=600,
    )  # fmt: skip
    return int(done.stdout.strip().splitlines()[-1])


def _measured(case: Case, folder: Path) -> int:
    import torch
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM

    from llamahome_tui.training import auto
    from llamahome_tui.training.trainer import adapter, loss, optim, quantised
    from llamahome_tui.training.trainer.batches import Batching, Item, Items
    from llamahome_tui.training.trainer.model import ready
    from llamahome_tui.training.trainer.objectives import objective_of
    from llamahome_tui.training.trainer.step import Stepper
    from llamahome_tui.workers.forecast.tracing import _Row

    transformers.utils.logging.disable_progress_bar()
    spec = spec_of(case)
    torch.manual_seed(0)
    precision = auto.precision(spec.training.precision, device="cpu", bf16=True)
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[precision] if spec.lora.enabled else torch.float32
    _warm_up(dtype, precision, quantised=spec.model.quantization != "none")
    before = _status("VmRSS:")
    config = AutoConfig.from_pretrained(folder)
    if spec.model.quantization == "none":
        base = AutoModelForCausalLM.from_config(config, dtype=dtype)
    else:
        with tempfile.TemporaryDirectory() as kept:
            AutoModelForCausalLM.from_config(config, dtype=dtype).save_pretrained(kept)
            base = AutoModelForCausalLM.from_pretrained(
                kept, dtype=dtype, device_map={"": "cpu"},
                quantization_config=quantised.settings(spec.model.quantization, dtype, (), None),
            )  # fmt: skip
            quantised.steady(base)
        for parameter in base.parameters():  # what is not quantised still lies in the file, which counts as a whole
            if parameter.dtype == dtype:
                parameter.data = parameter.data.clone()
    model = base
    if spec.lora.enabled:
        targets = adapter.targets_of(spec, base, lambda: adapter.skeleton(folder))
        model = adapter.put_on(base, adapter.config_of(spec, targets))
    trainee = ready(spec, model, base, torch.device("cpu"), precision, lora=spec.lora.enabled)
    if part := spec.training.gradient_checkpointing:
        trainee.checkpoint_gradients(part)
    optimizer = optim.build(auto.optimizer(spec.training.optimizer, lora=trainee.lora), model, 1e-4, 0.0)
    width = 2 if spec.method.kind in ("dpo", "orpo", "simpo") else 1
    generator = torch.Generator().manual_seed(1)

    def row() -> _Row:
        ids = torch.randint(0, case.vocabulary, (case.length,), generator=generator).tolist()
        quarter = case.length // 4
        return _Row(ids, [0] * quarter + [1] * (case.length - quarter))

    items = Items.made([Item(tuple(row() for _ in range(width)), good=at % 2 == 0) for at in range(2 * case.sequences)])
    read = loss.reader(trainee.model, trainee.base, hidden=True)
    stepper = Stepper(
        trainee, objective_of(spec.method, trainee, read, case.length * width, read), optimizer, None, items,
        auto.Micro("rows", case.sequences), clip=1.0, batching=Batching("plain"), split_on_oom=False,
        degraded=lambda _what, _why: None,
    )  # fmt: skip
    import gc

    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    for _ in range(2):
        stepper.take(range(2 * case.sequences), 1e-4)
    return _status("VmHWM:") - before


def _warm_up(dtype: Any, precision: str, *, quantised: bool) -> None:
    """One step of a tiny model of the same kind: libraries are loaded, and have what they keep for good."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig

    config = LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2
    )
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    if quantised:
        with tempfile.TemporaryDirectory() as kept:
            model.save_pretrained(kept)
            four = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
            model = AutoModelForCausalLM.from_pretrained(kept, quantization_config=four, device_map={"": "cpu"})
    model = get_peft_model(model, LoraConfig(target_modules="all-linear"))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        model(input_ids=torch.zeros(1, 8, dtype=torch.long)).logits.float().sum().backward()
    optimizer = torch.optim.AdamW((one for one in model.parameters() if one.requires_grad), fused=True)
    optimizer.step()


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024


def main(words: list[str]) -> int:
    """The table on stdout."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    if words[:1] == ["--measure"]:
        case = next(one for one in CASES if one.name == words[1])
        print(_measured(case, Path(words[2])))
        return 0
    with tempfile.TemporaryDirectory() as where:
        for case in CASES:
            if words and case.name not in words:
                continue
            folder = folder_of(case, Path(where, case.name))
            parts = forecast(case, folder)
            measured = measure(case, folder)
            error = parts.total / measured - 1
            told = " ".join(f"{name[:4]} {size / 2**20:.0f}" for name, size in parts.to_dict().items())
            print(
                f"{case.name:28} {parts.total / 2**20:8.1f} {measured / 2**20:8.1f} MiB {error:+7.1%}   {told}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
