"""Notification: the right command for each end, JSON on stdin, no shell, bounded time, no secrets; it never raises."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import pytest

from llamahome_tui.jobs.notify import command_for, notify
from llamahome_tui.jobs.status import Status
from llamahome_tui.jobs.store import Run, RunStore


def make(tmp_path: Path, **notify: str) -> Run:
    return RunStore(tmp_path / "state").create({"name": "x", "kind": "exec", "command": ["true"], "notify": notify})


@pytest.mark.parametrize(
    ("status", "both", "end_only", "fail_only"),
    [
        (Status.COMPLETED, "end", "end", ""),
        (Status.STOPPED, "end", "end", ""),
        (Status.PAUSED, "end", "end", ""),
        (Status.FAILED, "fail", "end", "fail"),
        (Status.LOST, "fail", "end", "fail"),
        (Status.INTERRUPTED, "fail", "end", "fail"),
    ],
)
def test_which_command(tmp_path: Path, status: Status, both: str, end_only: str, fail_only: str) -> None:
    assert command_for(make(tmp_path, on_end="end", on_fail="fail"), status) == both
    assert command_for(make(tmp_path, on_end="end"), status) == end_only
    assert command_for(make(tmp_path, on_fail="fail"), status) == fail_only
    assert command_for(make(tmp_path), status) == ""


def test_the_spec_speaks_before_the_settings(tmp_path: Path) -> None:
    job = {
        "name": "x",
        "kind": "train",
        "spec": {"notify": {"on_end": "spec", "on_fail": ""}},
        "notify": {"on_end": "mine"},
    }
    assert command_for(RunStore(tmp_path).create(job), Status.COMPLETED) == "spec"


def test_the_result_arrives_and_nothing_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "very-secret-value")
    told = tmp_path / "told"
    script = tmp_path / "tell.py"
    what = "json.dumps([json.load(sys.stdin), sys.argv[1:], dict(os.environ)])"
    script.write_text(f"import json, os, sys; open({str(told)!r}, 'w').write({what})")
    run = make(tmp_path, on_end=f"{sys.executable} {script} '$(touch {tmp_path}/owned)' a;b")
    outcome = notify(run, Status.COMPLETED)
    assert outcome is not None and (outcome["code"], outcome["problem"]) == (0, "")
    result, arguments, environ = json.loads(told.read_text())
    assert (result["id"], result["status"]) == (run.id, "completed")
    assert arguments == [f"$(touch {tmp_path}/owned)", "a;b"] and not (tmp_path / "owned").exists()
    assert "SOME_API_KEY" not in environ and environ["LLAMAHOME_RUN_ID"] == run.id


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("/no/such/program x", "could not be run"),
        ("unclosed 'quote", "could not be run"),
        ("false", "exit code 1"),
        ("cat /nonexistent", "exit code 1"),
    ],
)
def test_a_command_that_fails_is_reported(tmp_path: Path, command: str, words: str) -> None:
    outcome = notify(make(tmp_path, on_end=command), Status.COMPLETED)
    assert outcome is not None and words in outcome["problem"]


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    run = make(tmp_path, on_end="sh -c 'sleep 60 & sleep 60; true'")
    begun = time.monotonic()
    outcome = notify(run, Status.COMPLETED, timeout_s=0.3)
    assert outcome is not None and "killed" in outcome["problem"] and time.monotonic() - begun < 10


def test_a_command_that_prints_without_end_takes_no_memory(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = notify(make(tmp_path, on_end="yes"), Status.COMPLETED, timeout_s=0.3)
    assert outcome is not None and "killed" in outcome["problem"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10  # KiB


def test_of_what_it_printed_the_end_is_kept(tmp_path: Path) -> None:
    outcome = notify(make(tmp_path, on_end="sh -c 'seq 100000; exit 3'"), Status.COMPLETED)
    assert outcome is not None and outcome["printed"].endswith("99999\n100000\n") and len(outcome["printed"]) == 2000
