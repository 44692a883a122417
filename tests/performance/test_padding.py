"""Padding of each way to batch on real data, and what it does to the tokens that a CPU learns from in a second."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from llamahome_tui.data.check import samples
from llamahome_tui.data.encode import Encoded, Encoder, Encoding
from llamahome_tui.data.rows import Bad
from llamahome_tui.demo.paths import demo_model_dir
from llamahome_tui.training.auto import CALL_TOKENS, CPU_MICRO_TOKENS, Micro
from llamahome_tui.training.layout import Mode, padding_share
from llamahome_tui.training.shape import Data

pytestmark = pytest.mark.performance

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
COLUMNS = {"gsm8k-train.jsonl": {"prompt": "question", "completion": "answer"}, "alpaca-en.json": {}}
LETTERS = 4  # in a token of a common vocabulary, about; the demo's tokens are single letters
MICRO = Micro("tokens", CPU_MICRO_TOKENS, CALL_TOKENS["cpu"])
UNCUT = Micro("tokens", CPU_MICRO_TOKENS)
SLACK = 1.5  # the machine is shared


@cache
def lengths_of(name: str) -> list[int]:
    """Tokens of each row, by the demo's tokenizer and template."""
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    data = Data(train=(str(path),), columns=COLUMNS[name])
    found = [sample for sample, _ in samples(path, "auto", data.columns)]
    rows = Encoder(Encoding(demo_model_dir(), data)).encode([one for one in found if not isinstance(one, Bad)])
    lengths = [len(row.sequences[0].ids) for row in rows if isinstance(row, Encoded)]
    assert len(lengths) == len(found)
    return lengths


@pytest.mark.parametrize("name", COLUMNS)
def test_padding_share_of_each_mode(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    letters = lengths_of(name)
    lines = [f"\n{name}: share of padding in steps of 16 rows, micro-batches of {CPU_MICRO_TOKENS} tokens"]
    for title, lengths in (
        ("tokens of one letter", letters),
        (f"tokens of {LETTERS} letters", [max(2, length // LETTERS) for length in letters]),
    ):
        shares = {
            mode: padding_share(lengths, global_batch=16, micro=MICRO, seed=42, mode=mode) for mode in get_args(Mode)
        }
        uncut = padding_share(lengths, global_batch=16, micro=UNCUT, seed=42, mode="sorted")
        lines.append(
            f"  {title} (mean {sum(lengths) / len(lengths):.0f}, longest {max(lengths)}): "
            + ", ".join(f"{mode} {share:.1%}" for mode, share in shares.items())
            + f"; sorted into as few micro-batches as fit {uncut:.1%}"
        )
        assert shares["packed"] == 0 < shares["sorted"] < min(uncut, shares["plain"])
    with capsys.disabled():
        print("\n".join(lines))


@pytest.mark.torch
@pytest.mark.parametrize("name", COLUMNS)
def test_real_tokens_per_cpu_second(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What auto takes on a CPU rests on this: sorted rows against packed ones, and against rows as they come."""
    pytest.importorskip("torch")
    lengths = [min(510, max(2, length // LETTERS)) for length in lengths_of(name)]
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("padding_bench.py"), tmp_path],
        input=json.dumps(lengths),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    found = json.loads(done.stdout.splitlines()[-1])
    with capsys.disabled():
        print(
            f"\n{name}: real tokens per CPU second: "
            + ", ".join(f"{kind} {rate:.0f}" for kind, rate in found["rates"].items())
            + "; sorted over the others: "
            + ", ".join(f"{kind} {ratio:.2f}" for kind, ratio in found["paired"].items() if kind != "sorted")
        )
    for kind in ("packed", "plain", "uncut"):
        assert found["paired"][kind] * SLACK >= 1, f"{kind} beats sorted on a CPU"
