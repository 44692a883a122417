"""The doctor's checks: each finding names the command that helps, on machines planted for the test."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import pytest

from llamahome_tui.config.places import Places
from llamahome_tui.resources import checks
from llamahome_tui.resources.checks import CHECKS, Patient, State
from llamahome_tui.resources.snapshot import Disk, Gpu, GpuState, Memory, Snapshot

GIB = 1024**3


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    """A healthy machine without GPUs."""
    environ = {"LLAMAHOME_HOME": str(tmp_path / "lh"), "HF_HOME": str(tmp_path / "hf"), "LANG": "C.UTF-8"}
    environ |= {"TERM": "xterm-256color", "PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    disk = Disk("models+state", "/d", 1000 * GIB, 500 * GIB, 500 * GIB)
    memory = Memory(8 * GIB, 2 * GIB, 6 * GIB)
    snapshot = Snapshot(0.0, GpuState.ABSENT, (), None, memory, (disk,), None, "no NVIDIA driver")
    places = Places.from_environ(environ)
    places.ensure()
    return Patient(places, environ, snapshot, sys.executable, logind=(tmp_path / "logind.conf",))


def test_a_healthy_machine_without_gpus_fails_nothing(patient: Patient) -> None:
    found = [finding for check in CHECKS for finding in check(patient)]
    assert [f for f in found if f.state is State.FAIL and f.name != "torch"] == []
    assert [f.name for f in found if f.state is State.WARN] == ["gpu"]
    assert all(f.command for f in found if f.state is not State.OK)


def test_no_driver_is_said_plainly(patient: Patient) -> None:
    (found,) = checks.gpu(patient)
    assert found.state is State.WARN and found.message.startswith("no NVIDIA driver")


def test_a_lost_gpu_fails(patient: Patient) -> None:
    gpus = (Gpu(0, "NVIDIA H100", "GPU-1"), Gpu(1, None, None, problem="GPU is lost"))
    snapshot = dataclasses.replace(patient.snapshot, state=GpuState.OK, gpus=gpus, driver="575.1", problem=None)
    first, second = checks.gpu(dataclasses.replace(patient, snapshot=snapshot))
    assert first.state is State.OK and "2 GPU(s)" in first.message
    assert second.state is State.FAIL and "GPU 1: GPU is lost" in second.message


@pytest.mark.parametrize(
    ("free", "state"), [(500 * GIB, State.OK), (5 * GIB, State.WARN), (1000, State.FAIL), (None, State.FAIL)]
)
def test_disk(patient: Patient, free: int | None, state: State) -> None:
    disk = Disk("models", "/d", 1000 * GIB, 1, free)
    (found,) = checks.disk(dataclasses.replace(patient, snapshot=dataclasses.replace(patient.snapshot, disk=(disk,))))
    assert found.state is state


def test_an_interpreter_without_torch_names_the_command(patient: Patient, tmp_path: Path) -> None:
    bare = tmp_path / "python"
    versions = {"torch": None, "transformers": "5.0", "peft": "1", "accelerate": "1", "safetensors": "1"}
    bare.write_text(f"#!/bin/sh\necho '{json.dumps(versions)}'\n")
    bare.chmod(0o755)
    (found,) = checks.training_packages(dataclasses.replace(patient, python=str(bare)))
    assert found.state is State.FAIL and "lacks torch" in found.message
    assert found.command == f"{bare} -m pip install 'llamahome-tui[train]'"


def test_an_interpreter_that_is_not_there(patient: Patient, tmp_path: Path) -> None:
    (found,) = checks.training_packages(dataclasses.replace(patient, python=str(tmp_path / "no" / "python")))
    assert found.state is State.FAIL and "does not run" in found.message


def test_state_folder_open_to_others(patient: Patient) -> None:
    patient.places.state.chmod(0o755)
    (found,) = checks.state_folder(patient)
    assert found.state is State.WARN and found.command.startswith("chmod 700 ")


def test_state_folder_under_a_file(patient: Patient, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    places = dataclasses.replace(patient.places, state=tmp_path / "file" / "state")
    (found,) = checks.state_folder(dataclasses.replace(patient, places=places))
    assert found.state is State.FAIL


@pytest.mark.parametrize("threat", ["T04"])
@pytest.mark.parametrize(("mode", "warned"), [(0o700, False), (0o775, True), (0o777, True), (0o1777 & ~0o020, False)])
def test_a_model_cache_others_can_write(patient: Patient, threat: str, mode: int, warned: bool) -> None:
    patient.places.hub_cache.mkdir(parents=True)
    patient.places.hub_cache.chmod(mode)
    if mode == 0o775 and os.getuid() == 0:
        os.chown(patient.places.hub_cache, 0, 12345)  # a group of others; root's own group is private to root
    elif mode == 0o775:
        warned = not checks._private_group(os.getgid(), os.getuid())
    found = list(checks.model_cache(patient))
    assert any("replace weights" in f.message for f in found) is warned


@pytest.mark.parametrize(
    ("environ", "name"), [({"LANG": "C"}, "locale"), ({"TERM": "dumb"}, "terminal"), ({"LC_ALL": "POSIX"}, "locale")]
)
def test_terminal_warnings(patient: Patient, environ: dict[str, str], name: str) -> None:
    found = list(checks.terminal(dataclasses.replace(patient, environ={**patient.environ, **environ})))
    assert [f.name for f in found if f.state is State.WARN] == [name]


@pytest.mark.parametrize(
    ("text", "state"),
    [("[Login]\n#KillUserProcesses=yes\n", State.OK), ("[Login]\nKillUserProcesses=yes\n", None), ("", State.OK)],
)
def test_logout(patient: Patient, text: str, state: State | None) -> None:
    patient.logind[0].write_text(text)
    (found,) = checks.logout(patient)
    assert (found.state is State.OK) is (state is State.OK)


def test_hostile_names_are_cleaned(patient: Patient) -> None:
    gpu = Gpu(0, "evil\x1b]52;c;AAAA\x07[/red]", "GPU-1", memory_total_bytes=1)
    snapshot = dataclasses.replace(patient.snapshot, state=GpuState.OK, gpus=(gpu,), driver="1\x1b[2J")
    (found,) = checks.gpu(dataclasses.replace(patient, snapshot=snapshot))
    assert "\x1b" not in found.message
