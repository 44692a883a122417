"""Preparation against TRL's on the same rows and cores, with the same labels; and how it grows with the rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from llamahome_tui.data.pool import workers_of
from tests.performance import preparation_bench as bench

pytestmark = [pytest.mark.performance]

PROMISED = 3.0
SLACK = 1.5  # the machine is shared
ROWS = 20_000
ROOT = Path(__file__).resolve().parents[2]


def run(words: list[str], home: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "HF_HOME": str(home)},
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.torch
def test_preparation_against_trl(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("trl")
    bench.write_model(tmp_path / "model", bench.write_chats(tmp_path / "chats.jsonl", ROWS))
    cores = str(workers_of("auto"))

    def side(name: str, store: str) -> dict[str, Any]:
        return run([str(Path(bench.__file__)), name, str(tmp_path), cores, store], tmp_path / "home")

    first, theirs, second = side("ours", "one"), side("trl", ""), side("ours", "two")
    for mine in (first, second):
        assert {key: mine[key] for key in ("rows", "tokens", "labels")} == {
            key: theirs[key] for key in ("rows", "tokens", "labels")
        }
    seconds, cpu = (mean((first[key], second[key])) for key in ("seconds", "cpu"))
    with capsys.disabled():
        print(
            f"\npreparing {ROWS} chats ({theirs['tokens']} tokens) on {cores} cores: {seconds:.1f} s, "
            f"TRL {theirs['seconds']:.1f} s: {theirs['seconds'] / seconds:.2f} times as fast (promised: {PROMISED}); "
            f"of CPU time {theirs['cpu'] / cpu:.2f} times"
        )
    assert theirs["seconds"] / seconds >= PROMISED / SLACK


def test_growth_from_a_thousand_rows_to_a_hundred_thousand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = [
        run(["-m", "tests.performance.preparation_growth", "--rows", str(rows)], tmp_path)
        for rows in (1_000, 10_000, 100_000)
    ]
    small, middle, large = found
    with capsys.disabled():
        for one in found:
            print(f"\n{one['rows']} rows: {one['seconds']:.1f} s, {one['peak_mib']:.0f} MiB on top", end="")
        print(f"; ten times the rows take {large['seconds'] / middle['seconds']:.1f} times as long")
    assert large["seconds"] <= 10 * SLACK * middle["seconds"]
    # A hundred bytes a row, and what batches on their way take: nothing of it grows with the tokens.
    assert large["peak_mib"] - small["peak_mib"] <= SLACK * (100 * 99_000 / (1 << 20) + 24)
