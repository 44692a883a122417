"""Time and peak memory of a merge against peft's merge_and_unload and save_pretrained, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.performance, pytest.mark.torch]

LARGE = int(os.environ.get("LLAMAHOME_BENCH_LAYERS", "4"))
TURNS = int(os.environ.get("LLAMAHOME_BENCH_TURNS", "1"))
SHARD_MB = 20
MOST_CPU = 1.6  # of peft's CPU time: it adds in bf16, and here sums are in float32
SHARDS = 2.0  # that the peak may be over what libraries take
SLACK = 1.5


def test_merge_against_peft(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    for name, width, layers in (("", 768, LARGE), ("-small", 64, 1)):
        config = LlamaConfig(
            vocab_size=16_000 if not name else 64, hidden_size=width, intermediate_size=2 * width,
            num_hidden_layers=layers, num_attention_heads=12 if not name else 4, num_key_value_heads=4,
            max_position_embeddings=256,
        )  # fmt: skip
        model = LlamaForCausalLM(config).to(torch.bfloat16)
        model.save_pretrained(tmp_path / f"base{name}", max_shard_size=f"{SHARD_MB}MB")
        tuned = get_peft_model(model, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))
        tuned.save_pretrained(tmp_path / f"adapter{name}")
        del model, tuned
    shards = sorted((tmp_path / "base").glob("*.safetensors"))
    assert len(shards) >= 4
    largest = max(file.stat().st_size for file in shards) / 2**20
    total = sum(file.stat().st_size for file in shards) / 2**20
    found: dict[str, Any] = {}
    for turn in range(TURNS):
        for way in ("ours", "peft"):
            done = subprocess.run(
                [sys.executable, Path(__file__).with_name("export_bench.py"), way, tmp_path / "base",
                 tmp_path / "adapter", tmp_path / f"{way}-{turn}"],
                capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            found.setdefault(way, []).append(json.loads(done.stdout.splitlines()[-1]))
    cpu = {way: min(one["cpu"] for one in each) for way, each in found.items()}
    top = {way: min(one["peak"] - one["before"] for one in each) for way, each in found.items()}
    with capsys.disabled():
        print(
            f"\na merge of {total:.0f} MiB in {len(shards)} files of at most {largest:.0f} MiB: peak "
            f"{top['ours']:.0f} MiB over the libraries, peft {top['peft']:.0f}: {top['ours'] / top['peft']:.2f} of it; "
            f"CPU time {cpu['ours']:.2f} s, peft {cpu['peft']:.2f}: {cpu['ours'] / cpu['peft']:.2f} of it"
        )
    assert top["ours"] <= SLACK * SHARDS * largest
    assert cpu["ours"] <= SLACK * MOST_CPU * cpu["peft"]
