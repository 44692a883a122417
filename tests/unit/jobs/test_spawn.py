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
from llamahome_tui.jobs.status import Status, derive
from llamahome_tui.jobs.store import Run, RunStore
from tests.conftest import eventually


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


def test_a_sink_of_the_spec_gets_its_credential_and_nothing_else_does(tmp_path: Path) -> None:
    given = {"HF_TOKEN": "hf_canary", "WANDB_API_KEY": "c"}
    spec = {"report": {"to": ["tensorboard", "wandb"]}}
    run = RunStore(tmp_path / "state").create({"name": "a", "kind": "train", "spec": spec})
    environ = child_environ(run, given, attempt=1, progress_fd=7)
    assert environ["WANDB_API_KEY"] == "c" and "HF_TOKEN" not in environ


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


@pytest.mark.parametrize("kills", ["true", "false"])
def test_a_scope_of_its_own_where_logout_kills(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: str
) -> None:
    """systemd with KillUserProcesses=yes: the supervisor is started through systemd-run, and only then."""
    programs = tmp_path / "programs"
    programs.mkdir()
    said = tmp_path / "said"
    (programs / "busctl").write_text(f"#!/bin/sh\necho b {kills}\n")
    (programs / "systemd-run").write_text(
        f'#!/bin/sh\necho "$@" > {said}\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n'
    )
    for program in programs.iterdir():
        program.chmod(0o700)
    (tmp_path / "runtime" / "systemd").mkdir(parents=True)
    (tmp_path / "runtime" / "systemd" / "private").touch()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    environ = {**os.environ, "XDG_SESSION_ID": "3", "XDG_RUNTIME_DIR": str(tmp_path / "runtime")}
    launch(run, environ)
    eventually(lambda: derive(run).status is Status.COMPLETED, "the end")
    assert said.exists() == (kills == "true")
    if said.exists():
        assert said.read_text().startswith("--user --scope")
    eventually(lambda: not run.live, "the end of its supervisor")


def test_a_run_that_fails_at_once_has_had_its_supervisor(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = tmp_path / "short"
    short.write_text("#!/bin/sh\nexit 9\n")
    short.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(short))
    assert launch(run, os.environ) > 0
