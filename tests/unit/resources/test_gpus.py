"""The real nvitop on simulated GPUs: what a device does not tell is None, and no state of a driver raises."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from llamahome_tui.resources.gpus import NO_DRIVER, GpuReader
from llamahome_tui.resources.snapshot import GpuState
from tests import gpusim

GIB = 1024**3


def test_two_gpus_are_read_with_all_their_values() -> None:
    with gpusim.installed(gpusim.two()):
        reading = GpuReader().read()
    assert reading.state is GpuState.OK
    assert reading.driver == "575.57.08"
    assert [gpu.name for gpu in reading.gpus] == ["NVIDIA H100 80GB HBM3", "NVIDIA GeForce RTX 4090"]
    first = reading.gpus[0]
    assert (first.index, first.memory_used_bytes, first.memory_total_bytes) == (0, 10 * GIB, 80 * GIB)
    assert (first.utilization, first.temperature_c, first.power_w, first.power_limit_w) == (50.0, 45.0, 250.0, 700.0)
    assert first.uuid is not None and first.uuid.startswith("GPU-")
    assert not first.mig and first.instances == () and first.problem is None


def test_numbers_follow_the_device() -> None:
    library = gpusim.eight()
    with gpusim.installed(library):
        reader = GpuReader()
        assert [gpu.index for gpu in reader.read().gpus] == list(range(8))
        library.gpus[3].utilization, library.gpus[3].memory_used = 99, 77 * GIB
        moved = reader.read().gpus[3]
    assert (moved.utilization, moved.memory_used_bytes) == (99.0, 77 * GIB)


def test_a_process_is_named_with_its_run() -> None:
    environment = {**os.environ, "LLAMAHOME_RUN": "20260102-030405-demo"}
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=environment)
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    library = gpusim.two()
    library.gpus[0].processes = [(stranger.pid, 1 * GIB), (child.pid, 3 * GIB), (2**31 - 5, None)]
    try:
        with gpusim.installed(library):
            gpu = GpuReader().read().gpus[0]
    finally:
        for process in (child, stranger):
            process.communicate(b"\n")
    assert [(p.pid, p.memory_bytes, p.run) for p in gpu.processes] == [
        (child.pid, 3 * GIB, "20260102-030405-demo"),
        (stranger.pid, 1 * GIB, None),
        (2**31 - 5, None, None),
    ]
    assert gpu.runs == ("20260102-030405-demo",)
    assert gpu.processes[0].name is not None and gpu.processes[0].name.startswith("python")


@pytest.mark.parametrize("fault", ["F36"])
def test_a_gpu_split_by_mig_has_no_utilisation_of_its_own(fault: str) -> None:
    with gpusim.installed(gpusim.split()):
        parent, plain = GpuReader().read().gpus
    assert parent.mig and parent.utilization is None
    assert [(p.index, p.memory_used_bytes, p.utilization) for p in parent.instances] == [
        (0, 7 * GIB, None),
        (1, GIB, None),
    ]
    assert parent.instances[0].temperature_c is None and parent.instances[0].power_w is None
    assert plain.utilization == 50.0 and not plain.mig


@pytest.mark.parametrize("fault", ["F36"])
def test_a_missing_driver_is_said_and_nothing_is_printed(fault: str, capfd: pytest.CaptureFixture[str]) -> None:
    with gpusim.installed(None):
        reading = GpuReader().read()
    assert (reading.state, reading.problem, reading.gpus) == (GpuState.ABSENT, NO_DRIVER, ())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("fault", ["F36"])
@pytest.mark.parametrize(("code", "words"), [(9, "not loaded"), (18, "updated"), (4, "permission"), (999, "error")])
def test_a_driver_that_refuses_is_explained(fault: str, code: int, words: str) -> None:
    with gpusim.installed(gpusim.SimNvml([], init_error=code)):
        reading = GpuReader().read()
    assert reading.state is GpuState.FAILED
    assert reading.problem is not None and words in reading.problem


def test_a_driver_without_gpus_is_no_error() -> None:
    with gpusim.installed(gpusim.SimNvml([])):
        reading = GpuReader().read()
    assert reading.state is GpuState.ABSENT
    assert reading.problem == "the NVIDIA driver sees no GPU"


@pytest.mark.parametrize("fault", ["F36"])
@pytest.mark.parametrize("when", ["before", "between"])
def test_a_lost_gpu_does_not_hide_the_others_and_may_come_back(fault: str, when: str) -> None:
    library = gpusim.eight()
    reader = GpuReader()
    with gpusim.installed(library):
        if when == "between":
            reader.read()
        library.gpus[5].lost = True
        lost = reader.read()
        library.gpus[5].lost = False
        back = reader.read()
    assert lost.state is GpuState.OK
    assert [gpu.problem for gpu in lost.gpus] == [None] * 5 + ["GPU is lost"] + [None] * 2
    assert lost.gpus[5].memory_used_bytes is None and lost.gpus[5].utilization is None
    assert lost.gpus[6].memory_total_bytes == 80 * GIB
    assert [gpu.problem for gpu in back.gpus] == [None] * 8
