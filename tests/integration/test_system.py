"""`system show|watch|doctor` as a user runs them, on a machine without a driver and on simulated GPUs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests import gpusim


def _environment(tmp_path: Path, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LLAMAHOME_", "XDG_", "HF_"))}
    return {**kept, "LLAMAHOME_HOME": str(tmp_path / "lh"), "HF_HOME": str(tmp_path / "hf"), **more}


def _run(environment: dict[str, str], *words: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llamahome_tui", "--batch", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=environment)


def _data(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["type"] == "result"
    return last["data"]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of the simulated driver."""
    folder = gpusim.build_library(tmp_path_factory.mktemp("nvml"))
    if folder is None:
        pytest.skip("no C compiler")
    return str(folder)


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a driver")
def test_without_a_driver_it_says_so(tmp_path: Path) -> None:
    data = _data(_run(_environment(tmp_path), "system", "show", "--json"))
    assert (data["gpus"], data["driver"], data["problem"]) == ([], None, "no NVIDIA driver")
    assert data["memory"]["total_bytes"] > 0 and data["cpu"]["cores"] > 0 and data["disk"]
    people = _run(_environment(tmp_path), "system", "show")
    assert "no NVIDIA driver" in people.stdout and people.stderr == ""


def test_eight_gpus_and_the_run_that_uses_one(tmp_path: Path, library: str) -> None:
    environment = _environment(tmp_path, LLAMAHOME_RUN="20260101-000000-demo")
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=environment)
    try:
        data = _data(
            _run(
                _environment(tmp_path, LD_LIBRARY_PATH=library, NVMLSIM_PID=str(child.pid)), "system", "show", "--json"
            )
        )
    finally:
        child.communicate(b"\n")
    assert [gpu["index"] for gpu in data["gpus"]] == list(range(8)) and data["driver"] == "575.57.08"
    (process,) = data["gpus"][0]["processes"]
    assert (process["pid"], process["run"]) == (child.pid, "20260101-000000-demo")


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["F36"])
def test_a_hung_driver_delays_neither_the_answer_nor_the_exit(tmp_path: Path, library: str, fault: str) -> None:
    began = time.monotonic()
    data = _data(_run(_environment(tmp_path, LD_LIBRARY_PATH=library, NVMLSIM_MODE="hung"), "system", "show", "--json"))
    assert data["state"] == "hung" and "does not answer" in data["problem"] and data["memory"]["total_bytes"] > 0
    assert time.monotonic() - began < 45


def test_watch_prints_a_line_for_each_second_until_interrupted(tmp_path: Path, library: str) -> None:
    environment = _environment(tmp_path, LD_LIBRARY_PATH=library)
    command = [sys.executable, "-m", "llamahome_tui", "--batch", "system", "watch", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    records = [json.loads(process.stdout.readline()) for _ in range(2)]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert [r["type"] for r in records] == ["system", "system"]
    assert len(records[0]["data"]["gpus"]) == 8
    assert process.returncode == 130


def test_doctor_names_a_command_for_whatever_is_not_well(tmp_path: Path, library: str) -> None:
    environment = _environment(
        tmp_path, LD_LIBRARY_PATH=library, NVMLSIM_MODE="lost", LANG="C", LC_ALL="C", TERM="dumb"
    )
    environment["LLAMAHOME_LAUNCH_PYTHON"] = str(tmp_path / "nowhere")
    data = _data(_run(environment, "system", "doctor", "--json", seconds=120))
    by_name: dict[str, list[str]] = {}
    for check in data["checks"]:
        assert set(check) == {"name", "state", "message", "command"}
        assert check["command"] or check["state"] == "ok"
        by_name.setdefault(check["name"], []).append(check["state"])
    assert by_name["gpu"] == ["ok", "fail"]
    assert by_name["locale"] == ["warn"] and by_name["terminal"] == ["warn"]
    assert data["ok"] is False
