"""Command lines and environments of children: marked, without secrets, and able to find this code from anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from llamahome_tui.jobs.leftovers import marks
from llamahome_tui.jobs.spawn import child_command, child_environ, launch
from llamahome_tui.jobs.store import Run, RunStore


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return RunStore(tmp_path / "state").create({"name": "a", "kind": "exec", "command": ["true"]})


def test_commands(tmp_path: Path) -> None:
    assert child_command({"kind": "exec"}, tmp_path)[1:] == ("-m", "llamahome_tui.jobs.exec_child", str(tmp_path))
    assert child_command({"kind": "train"}, tmp_path)[1:] == ("-m", "llamahome_tui.training.trainer", str(tmp_path))
    other = child_command({"kind": "train", "spec": {"launch": {"python": "/opt/py"}}}, tmp_path)
    assert other[0] == "/opt/py"
    assert other[-1] == str(tmp_path)


def test_secrets_and_foreign_marks_stay_outside(run: Run) -> None:
    given = {
        "HF_TOKEN": "hf_canary",
        "WANDB_API_KEY": "c",
        "LLAMAHOME_RUN": "outer",
        "LLAMAHOME_HOME": "/h",
        "PATH": "/bin",
    }
    environ = child_environ(run, given, attempt=2, progress_fd=7)
    assert "HF_TOKEN" not in environ
    assert "WANDB_API_KEY" not in environ
    assert environ["LLAMAHOME_HOME"] == "/h"
    assert environ["LLAMAHOME_ATTEMPT"] == "2"
    assert environ["LLAMAHOME_PROGRESS_FD"] == "7"
    assert {key: environ[key] for key in marks(run)} == {"LLAMAHOME_RUN": run.id, "LLAMAHOME_RUN_DIR": str(run.dir)}


def test_another_interpreter_finds_our_code_and_keeps_its_own_libraries(tmp_path: Path) -> None:
    """`[launch] python` with nothing of ours installed: the trainer's first modules are importable there."""
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    python = tmp_path / "bare" / "bin" / "python"
    argv = child_command({"kind": "train", "spec": {"launch": {"python": str(python)}}}, tmp_path / "none")
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(argv, capture_output=True, text=True, env=environ, cwd="/", check=False)
    assert "is not a run's folder" in done.stderr, done.stderr
    assert "No module named" not in done.stderr


def test_jobs_need_only_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import llamahome_tui.jobs.child, llamahome_tui.jobs.recovery, llamahome_tui.jobs.supervisor\n"
        "print([m for m in sys.modules if m.split('.')[0] not in sys.stdlib_module_names | {'llamahome_tui'}"
        " and m not in before])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_supervisor_that_does_not_come_up_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from llamahome_tui.errors import LlamaHomeError

    (run.dir / "spec.json").unlink()
    with pytest.raises(LlamaHomeError, match="no supervisor came up"):
        launch(run, os.environ)
