"""Seconds from the start to the first optimiser step: `python -m tests.performance.first_step`, ours against `trl sft`.

Ours is `train start SPEC --foreground` up to its first progress event behind a step, TRL's is its command line up to
its first logged step: the same model, rows, LoRA and batch, each from nothing, in an order that alternates.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.performance import sft_bench as bench

TRL = "import sys; from trl.cli import main; sys.exit(main())"
SPEC = """
name = "first"
[model]
id = "{folder}/model"
[data]
train = ["{folder}/rows.jsonl"]
eval = 0
max_length = {length}
[training]
max_steps = 2
global_batch = 8
precision = "fp32"
[checkpoint]
every_minutes = 0
"""


def words_of(side: str, folder: Path) -> list[str]:
    if side == "ours":
        words = ["-m", "llamahome_tui", "--batch", "train", "start", f"{folder}/first.toml", "--foreground", "--json"]
        return [sys.executable, *words]
    settings = {
        "model_name_or_path": f"{folder}/model",
        "dataset_name": f"{folder}/data",
        "output_dir": f"{folder}/trl",
        "max_length": bench.MAX_LENGTH,
        "max_steps": 2,
        "per_device_train_batch_size": 8,
        "logging_steps": 1,
        "bf16": False,
        "save_strategy": "no",
        "report_to": "none",
        "use_peft": True,
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.0,
        "lora_target_modules": "all-linear",
    }
    return [
        sys.executable,
        "-c",
        TRL,
        "sft",
        *(word for key, value in settings.items() for word in (f"--{key}", str(value))),
    ]


def is_first_step(side: str, line: str) -> bool:
    if side == "trl":
        return "'loss':" in line
    try:
        record = json.loads(line).get("record") or {}
    except json.JSONDecodeError:
        return False
    return record.get("type") == "progress" and record.get("step", 0) >= 1


def seconds(side: str, folder: Path) -> float:
    """From the start of the process to the line that shows the first step; what is left of it is then ended."""
    began = time.perf_counter()
    said = []
    with subprocess.Popen(
        words_of(side, folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=bench.ROOT,
        start_new_session=True,
        env={
            **os.environ,
            "LLAMAHOME_HOME": str(folder / "home"),
            "HF_HOME": str(folder / "hf"),
            "HF_HUB_OFFLINE": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            "PYTHONUNBUFFERED": "1",
        },
    ) as process:
        assert process.stdout
        for line in process.stdout:
            said.append(line)
            if is_first_step(side, line):
                found = time.perf_counter() - began
                break
        else:
            raise RuntimeError(f"{side} ended before its first step: {''.join(said)[-3000:]}")
        for _ in process.stdout:  # two steps, and it ends by itself
            pass
    if process.returncode not in (0, -signal.SIGPIPE):
        raise RuntimeError(f"{side} ended with {process.returncode}: {''.join(said)[-3000:]}")
    return found


def compare(folder: Path, source: Path, *, rows: int, rounds: int, size: str = "small") -> dict[str, Any]:
    """The median seconds of each side, and how many times as long TRL's takes."""
    folder.mkdir(parents=True, exist_ok=True)
    bench.write_model(folder / "model", bench.write_rows(source, folder / "rows.jsonl", rows), bench.SIZES[size])
    (folder / "data").mkdir()
    (folder / "data" / "train.jsonl").write_text((folder / "rows.jsonl").read_text())
    (folder / "first.toml").write_text(SPEC.format(folder=folder, length=bench.MAX_LENGTH))
    taken: dict[str, list[float]] = {"ours": [], "trl": []}
    for number in range(rounds):
        for side in ("ours", "trl") if number % 2 == 0 else ("trl", "ours"):
            taken[side].append(seconds(side, folder))
    pairs = zip(taken["trl"], taken["ours"], strict=True)
    return {
        **{side: statistics.median(each) for side, each in taken.items()},
        "ratio": statistics.median(theirs / mine for theirs, mine in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=bench.SHARED / "gsm8k-train.jsonl")
    parser.add_argument("--rows", type=int, default=7473)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", choices=bench.SIZES, default="small")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = compare(Path(folder), asked.file, rows=asked.rows, rounds=asked.rounds, size=asked.size)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
