"""How long training stands still for a checkpoint, over writing all of it in between, in one process, taking turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.performance, pytest.mark.torch]

SHARE = 0.5  # of the time that writing it takes
SLACK = 1.5  # the machine is shared


def test_the_pause_of_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("checkpoint_bench.py"), tmp_path],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    found = json.loads(done.stdout.splitlines()[-1])
    with capsys.disabled():
        for kind, of in found.items():
            print(
                f"\n{kind}, {of['mib']:.0f} MiB: training stands still for {1000 * of['pause']:.0f} ms, writing takes "
                f"{1000 * of['waiting']:.0f} ms: {of['pause'] / of['waiting']:.2f} (promised: {SHARE}); steps beside "
                f"the writing over steps alone: {of['beside'] / of['alone']:.2f}"
            )
    assert all(of["pause"] <= SLACK * SHARE * of["waiting"] for of in found.values()), found
