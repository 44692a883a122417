"""Peak memory of a step with logits in chunks against one with whole logits, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.performance, pytest.mark.torch]

VOCABULARY = 64_000
TOKENS = 2048
MOST = 1 / 4  # of what whole logits take on top of the model
SLACK = 1.5


def test_peak_memory_with_and_without_chunks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=1024,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    found = {}
    for mode in ("chunked", "whole"):
        done = subprocess.run(
            [sys.executable, Path(__file__).with_name("chunk_bench.py"), mode, tmp_path, str(VOCABULARY), str(TOKENS)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        found[mode] = json.loads(done.stdout.splitlines()[-1])
    on_top = {mode: one["peak"] - one["before"] for mode, one in found.items()}
    with capsys.disabled():
        print(
            f"\na step of {TOKENS} trained tokens, vocabulary of {VOCABULARY}: peak {found['chunked']['peak']} MiB "
            f"({on_top['chunked']} on top of the model) with logits in chunks, {found['whole']['peak']} MiB "
            f"({on_top['whole']}) without: {on_top['chunked'] / on_top['whole']:.2f} of it"
        )
    assert found["chunked"]["loss"] == pytest.approx(found["whole"]["loss"], rel=1e-6)
    assert on_top["chunked"] <= SLACK * MOST * on_top["whole"]
