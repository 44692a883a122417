"""The forecast of a step against its measured peak, and what a forecast of large models takes.

The whole table is `python tests/forecast_table.py`; here stand those of its configurations that differ most.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests import forecast_table

pytestmark = [pytest.mark.performance, pytest.mark.torch]

NEAR = 0.05
MOST_CPU_S = 20.0
MOST_MIB = 900
LARGE = """
import json, sys, time
from pathlib import Path
from llamahome_tui.training.forecast import Target, Variant
from llamahome_tui.training.spec import Spec
from llamahome_tui.workers.forecast.tracing import trace
spec = Spec.from_dict({"training": {"gradient_checkpointing": True, "precision": "bf16"}})
found = trace(spec, Path(sys.argv[1]), None, Target("cuda", "A100", 80 << 30), Variant({}, 2, 2048))
status = Path("/proc/self/status").read_text()
peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
print(json.dumps({"cpu_s": time.process_time(), "mib": peak / 1024, "gib": found.total / 2**30}))
"""
SHAPES = {
    "1B": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32},
    "8B": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
    "70B": {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64},
}


@pytest.mark.parametrize("name", ["small-checkpointing", "small-full-bf16", "small-dpo", "small-nf4"])
def test_a_forecast_is_near_what_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    case = next(one for one in forecast_table.CASES if one.name == name)
    folder = forecast_table.folder_of(case, tmp_path)
    predicted, measured = forecast_table.forecast(case, folder).total, forecast_table.measure(case, folder)
    error = predicted / measured - 1
    with capsys.disabled():
        print(f"\n{name}: {predicted >> 20} MiB forecast, {measured >> 20} MiB measured: {error:+.1%}")
    assert abs(error) <= NEAR


@pytest.mark.parametrize("name", SHAPES)
def test_what_a_forecast_of_a_large_model_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_key_value_heads": 8, "vocab_size": 128256,
        "max_position_embeddings": 8192, "tie_word_embeddings": False, **SHAPES[name],
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LARGE, tmp_path],
        capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    with capsys.disabled():
        print(f"\n{name}: {found['gib']:.1f} GiB forecast in {found['cpu_s']:.1f} s of CPU and {found['mib']:.0f} MiB")
    assert found["cpu_s"] < MOST_CPU_S
    assert found["mib"] < MOST_MIB
