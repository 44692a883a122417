"""Which devices a job may claim, with and without GPUs, under every form of CUDA_VISIBLE_DEVICES."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.errors import ResourceError
from llamahome_tui.jobs import devices
from llamahome_tui.jobs.devices import CPU, Claim, asked, claim, environ_for, gpus_present, visible
from tests import gpusim

UUIDS = ("GPU-aaaa", "GPU-abbb", "GPU-cccc", "GPU-dddd")


@pytest.mark.parametrize(
    ("setting", "seen"),
    [
        (None, ("0", "1", "2", "3")),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("2,0", ("2", "0")),
        (" 1 , 3 ", ("1", "3")),
        ("0,9,1", ("0",)),
        ("0,0,1", ("0",)),
        ("GPU-cccc,GPU-aaaa", ("2", "0")),
        ("GPU-ab", ("1",)),
        ("GPU-zz,0", ()),
        ("MIG-1234", ("MIG-1234",)),
    ],
)
def test_visible(setting: str | None, seen: tuple[str, ...]) -> None:
    assert visible(setting, UUIDS) == seen


@pytest.mark.parametrize(
    ("wanted", "kind", "setting", "claimed"),
    [
        ("auto", "train", None, Claim(("0", "1", "2", "3"), 1)),
        ("auto", "exec", None, Claim(("0", "1", "2", "3"), 4)),
        ("auto", "exec", "3,1", Claim(("3", "1"), 2)),
        (2, "exec", None, Claim(("0", "1", "2", "3"), 2)),
        ("2", "exec", None, Claim(("0", "1", "2", "3"), 2)),
        ([3, 1], "train", None, Claim(("3", "1"), 2)),
        ([1, 1], "train", None, Claim(("1",), 1)),
        ("cpu", "train", None, Claim((CPU,), 1)),
        (0, "exec", None, Claim((CPU,), 1)),
        ("auto", "train", "", Claim((CPU,), 1)),
    ],
)
def test_claims_with_gpus(wanted: Any, kind: str, setting: str | None, claimed: Claim) -> None:
    environ = {} if setting is None else {"CUDA_VISIBLE_DEVICES": setting}
    assert claim(wanted, kind, environ, UUIDS) == claimed


@pytest.mark.parametrize("wanted", ["auto", "", "cpu", 1, 0, "1"])
def test_without_gpus_there_is_one_device(wanted: Any) -> None:
    assert claim(wanted, "train", {}, ()) == Claim((CPU,), 1)


@pytest.mark.parametrize(
    ("wanted", "present", "setting"),
    [(2, (), None), ([0], (), None), (5, UUIDS, None), ([4], UUIDS, None), ([0], UUIDS, "1,2"), (3, UUIDS, "1,2")],
)
def test_what_is_not_there_is_refused(wanted: Any, present: tuple[str, ...], setting: str | None) -> None:
    with pytest.raises(ResourceError) as caught:
        claim(wanted, "train", {} if setting is None else {"CUDA_VISIBLE_DEVICES": setting}, present)
    assert caught.value.exit == 5 and "system show" in caught.value.hint


def test_the_child_sees_what_was_granted() -> None:
    assert environ_for(("2", "0"), True) == {"CUDA_VISIBLE_DEVICES": "2,0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert environ_for((CPU,), False) == {}
    assert environ_for((CPU,), True) == {"CUDA_VISIBLE_DEVICES": ""}


def test_a_driver_that_hangs_delays_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for index in range(2):
        (tmp_path / f"0000:0{index}:00.0").mkdir()
    monkeypatch.setattr(devices, "_ask_nvml", lambda: time.sleep(30))
    monkeypatch.setattr(devices, "_DRIVER_LISTING", tmp_path)
    begun = time.monotonic()
    assert len(gpus_present(patience_s=0.2)) == 2
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("count", [2, 8])
def test_nvml_is_asked_through_its_own_library(run_python: Any, tmp_path: Path, count: int) -> None:
    folder = gpusim.build_library(tmp_path)
    if folder is None:
        pytest.skip("no C compiler here")
    code = "from llamahome_tui.jobs.devices import gpus_present; print(len(gpus_present()), gpus_present()[0])"
    said = run_python(code, LD_LIBRARY_PATH=str(folder), NVMLSIM_GPUS=str(count))
    assert said.split()[0] == str(count) and said.split()[1].startswith("GPU-")


@pytest.fixture
def run_python() -> Any:
    import os
    import subprocess

    def run(code: str, **environ: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **environ}
        )
        return done.stdout

    return run


def test_what_a_resume_has_changed_is_asked_for_also_by_a_supervisor_that_lines_up_again() -> None:
    job = {"devices": 1, "spec": {"launch": {"devices": 2}}}
    assert asked(job) == 2
    assert asked({"devices": [0, 1], "kind": "exec"}) == [0, 1]
    assert asked({}) == "auto"


def test_a_machine_without_gpus_gives_several_processes_its_cpu_only_where_they_are_asked_for_by_name() -> None:
    job = {"kind": "train", "spec": {"launch": {"devices": 2, "strategy": "ddp"}}}
    assert devices.share_the_cpu(job) and not devices.share_the_cpu(job, {"launch.strategy": "auto"})
    assert claim(2, "train", {}, (), shared=True) == Claim((CPU,), 1)
    assert claim(2, "train", {}, ("a", "b"), shared=True) == Claim(("0", "1"), 2)
    for wanted, shared in ((2, False), (100_000, True), ([0, 1], True)):
        with pytest.raises(ResourceError):
            claim(wanted, "train", {}, (), shared=shared)
