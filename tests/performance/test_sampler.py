"""What a sample costs: eight GPUs through the sampler against nvitop's own snapshot of the same simulated devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import gpusim
from tests.conftest import clean_environ

LIMIT, SLACK = 1.0, 1.5

# In a fresh process above the C library, so that what is measured are the bindings and us, not a Python driver.
MEASURE = """
import json, statistics, time
from llamahome_tui.resources.gpus import GpuReader, load_nvitop
nvitop = load_nvitop()
ours, theirs = GpuReader(), None
def peer():
    return [device.as_snapshot() for device in nvitop.PhysicalDevice.all()]
for _ in range(3):
    assert len(ours.read().gpus) == len(peer()) == 8
spent = {"ours": [], "peer": []}
for _ in range(30):
    for name, take in (("ours", ours.read), ("peer", peer)):
        began = time.thread_time()
        take()
        spent[name].append(time.thread_time() - began)
print(json.dumps({name: statistics.median(times) for name, times in spent.items()}))
"""


@pytest.mark.performance
def test_sampler(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library = gpusim.build_library(tmp_path)
    if library is None:
        pytest.skip("no C compiler for the simulated driver")
    environ = {**clean_environ(tmp_path / "home"), "LD_LIBRARY_PATH": str(library), "NVMLSIM_PID": str(os.getpid())}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, timeout=120, env=environ, check=True
    )
    spent = json.loads(done.stdout)
    ratio = spent["ours"] / spent["peer"]
    with capsys.disabled():
        print(
            f"\na sample of 8 GPUs: {spent['ours'] * 1e3:.2f} ms of CPU, {ratio:.2f} of nvitop's own snapshots "
            f"({spent['peer'] * 1e3:.2f} ms; limit {LIMIT})"
        )
    assert ratio <= LIMIT * SLACK
