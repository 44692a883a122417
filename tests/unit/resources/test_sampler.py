"""The sampler answers in time whatever the driver does, and says what it does not know."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llamahome_tui.resources.gpus import Reading
from llamahome_tui.resources.sampler import Sampler
from llamahome_tui.resources.snapshot import GpuState
from tests import gpusim


def test_a_snapshot_has_gpus_and_host(tmp_path: Path) -> None:
    with gpusim.installed(gpusim.eight()):
        sampler = Sampler(folders=(("state", tmp_path / "not" / "there" / "yet"),))
        snapshot = sampler.sample()
        sampler.stop()
    assert snapshot.state is GpuState.OK and len(snapshot.gpus) == 8 and snapshot.problem is None
    assert snapshot.cpu is not None and snapshot.cpu.cores >= 1
    assert snapshot.memory is not None and 0 < snapshot.memory.used_bytes < snapshot.memory.total_bytes
    (disk,) = snapshot.disk
    assert disk.purpose == "state" and disk.free_bytes is not None and disk.free_bytes > 0
    record = snapshot.to_dict()
    assert {"gpus", "cpu", "memory", "disk", "driver"} <= record.keys()
    assert set(record["gpus"][0]) >= {
        "index", "name", "uuid", "memory_used_bytes", "memory_total_bytes",
        "utilization", "temperature_c", "power_w", "processes",
    }  # fmt: skip


@pytest.mark.parametrize("fault", ["F36"])
def test_a_driver_that_hangs_from_the_start_delays_nobody(fault: str) -> None:
    library = gpusim.two()
    with gpusim.installed(library):
        library.hang()
        sampler = Sampler(first_answer_s=0.3)
        began = time.monotonic()
        early = sampler.sample(wait_s=0.05)
        late = sampler.sample(wait_s=0.4)
        took = time.monotonic() - began
        sampler.stop()
    assert early.state is GpuState.PENDING
    assert late.state is GpuState.HUNG and late.problem is not None and "does not answer" in late.problem
    assert late.cpu is not None and late.memory is not None
    assert took < 2


@pytest.mark.parametrize("fault", ["F36"])
def test_a_driver_that_hangs_later_leaves_names_without_stale_numbers_and_recovers(fault: str) -> None:
    library = gpusim.split()
    with gpusim.installed(library):
        sampler = Sampler(next_answer_s=0.2)
        good = sampler.sample()
        library.hang()
        at_once = sampler.sample(wait_s=0.01)
        time.sleep(0.25)
        hung = sampler.sample(wait_s=0.01)
        library.release()
        deadline = time.monotonic() + 5
        while (again := sampler.sample(wait_s=0.2)).state is not GpuState.OK and time.monotonic() < deadline:
            time.sleep(0.02)
        sampler.stop()
    assert good.state is GpuState.OK
    assert at_once.gpus == good.gpus  # a little late is no news
    assert hung.state is GpuState.HUNG
    assert [gpu.name for gpu in hung.gpus] == [gpu.name for gpu in good.gpus]
    assert all(gpu.memory_used_bytes is None and gpu.utilization is None for gpu in hung.gpus)
    assert hung.gpus[0].instances[0].memory_used_bytes is None
    assert again.gpus == good.gpus


def test_only_one_question_hangs_however_often_it_is_put() -> None:
    library = gpusim.two()
    with gpusim.installed(library):
        library.hang()
        sampler = Sampler(first_answer_s=0.1)
        for _ in range(5):
            sampler.sample(wait_s=0.02)
        assert library.calls == 1
        sampler.stop()


def test_the_background_thread_keeps_the_newest_snapshot() -> None:
    seen: list[float] = []
    answers = iter(range(10_000))
    sampler = Sampler(
        0.1, gpus=lambda: Reading(GpuState.ABSENT, problem=str(next(answers))), on_sample=lambda s: seen.append(s.t)
    )
    assert sampler.latest is None
    sampler.start()
    deadline = time.monotonic() + 5
    while len(seen) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    sampler.stop()
    assert len(seen) >= 3 and seen == sorted(seen)
    assert sampler.latest is not None and int(sampler.latest.problem or "0") >= 2


_SHOW = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from tests import gpusim
from llamahome_tui.resources.sampler import Sampler
library = gpusim.two()
context = gpusim.installed(library)
context.__enter__()
sampler = Sampler(first_answer_s=0.3, next_answer_s=0.2)
if {later!r}:
    assert sampler.sample().state == "ok"
library.hang()
sampler.sample(0.3); time.sleep(0.3)
print(sampler.sample(0.3).state.value, flush=True)
"""


@pytest.mark.parametrize("fault", ["F36"])
@pytest.mark.parametrize("later", [False, True], ids=["from-the-start", "after-the-first-answer"])
def test_a_process_with_a_hung_driver_ends_at_once(fault: str, later: bool) -> None:
    """nvitop's own exit hook would wait 120 s for the call that hangs."""
    root = str(Path(__file__).parents[3])
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _SHOW.format(root=root, later=later)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "hung", "")
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("fault", ["F36"])
@pytest.mark.parametrize(("mode", "expected"), [("steady", "ok"), ("mig", "ok"), ("lost", "ok")])
def test_the_c_library_is_read_by_an_unchanged_process(fault: str, mode: str, expected: str, tmp_path: Path) -> None:
    folder = gpusim.build_library(tmp_path)
    if folder is None:
        pytest.skip("no C compiler")
    code = (
        "from llamahome_tui.resources.sampler import Sampler\n"
        "s = Sampler().sample(); print(s.state.value, len(s.gpus), len(s.gpus[0].instances), s.gpus[-1].problem)"
    )
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder), "NVMLSIM_MODE": mode, "NVMLSIM_GPUS": "4"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)
    parts, problem = (2 if mode == "mig" else 0), ("GPU is lost" if mode == "lost" else None)
    assert (done.stdout.strip(), done.stderr) == (f"{expected} 4 {parts} {problem}", "")
