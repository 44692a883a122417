"""Time and peak memory of a GGUF file against a plain load and save of the same model, each in its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.performance, pytest.mark.torch]

LAYERS = int(os.environ.get("LLAMAHOME_BENCH_LAYERS", "2"))
TYPES = os.environ.get("LLAMAHOME_BENCH_TYPES", "q8_0").split(",")
TURNS = int(os.environ.get("LLAMAHOME_BENCH_TURNS", "1"))
MOST_CPU = {"f16": 14.0, "bf16": 11.0, "q8_0": 17.0}  # of a plain save, which only copies pages
MOST_PEAK = 2.0  # of the largest tensor
SLACK = 1.5


def test_gguf_against_a_plain_save(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    import torch
    from transformers import AutoModelForCausalLM

    from tests.ggufmodel import model_of

    shape = {"hidden_size": 768, "intermediate_size": 2048, "num_attention_heads": 12, "num_key_value_heads": 4}
    model_of(tmp_path / "model", "qwen2", **shape, num_hidden_layers=LAYERS, vocab_size=16_000)
    model_of(tmp_path / "model-small", "qwen2")
    for name in ("model", "model-small"):
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype=torch.bfloat16)
        loaded.save_pretrained(tmp_path / name)
        del loaded
    size = (tmp_path / "model" / "model.safetensors").stat().st_size / 2**20
    largest = 16_000 * 768 * 2 / 2**20
    found: dict[str, Any] = {}
    for turn in range(TURNS):
        for way in ("plain", *TYPES):
            done = subprocess.run(
                [sys.executable, Path(__file__).with_name("gguf_bench.py"), way, tmp_path / "model",
                 tmp_path / f"{way}-{turn}"],
                capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            found.setdefault(way, []).append(json.loads(done.stdout.splitlines()[-1]))
    cpu = {way: min(one["cpu"] for one in each) for way, each in found.items()}
    top = {way: min(one["peak"] - one["before"] for one in each) for way, each in found.items()}
    with capsys.disabled():
        print(f"\na model of {size:.0f} MiB in bf16, largest tensor {largest:.0f} MiB; over the libraries:")
        for way in found:
            print(
                f"{way}: peak {top[way]:.0f} MiB, {top[way] / top['plain']:.2f} of a plain save's; CPU time "
                f"{cpu[way]:.2f} s, {cpu[way] / cpu['plain']:.2f} of it; {size / cpu[way]:.0f} MiB/s"
            )
    for way in TYPES:
        assert cpu[way] <= SLACK * MOST_CPU[way] * cpu["plain"]
        assert top[way] <= SLACK * MOST_PEAK * largest
