"""Retries: as often as the spec says, later each time, never into the same wall twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.jobs.journal import JournalWriter
from llamahome_tui.jobs.retries import Recovery, failure_of, judge
from llamahome_tui.jobs.status import tell
from llamahome_tui.jobs.store import Run, RunStore

RECOVERY = Recovery(retries=3, stall_s=600, grace_s=120, backoff_s=2)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return RunStore(tmp_path / "state").create({"name": "a"})


def write(path: Path, type: str, **fields: Any) -> None:
    writer = JournalWriter(path)
    writer.append(type, **fields)
    writer.close()


def failure(step: int | None = 3, code: str = "x", exception: str = "E") -> dict[str, Any]:
    return {"code": code, "exception": exception, "step": step}


def attempt(run: Run, number: int, failed: dict[str, Any], **spawn: Any) -> None:
    write(run.supervisor_path, "spawn", attempt=number, events_bytes=0, **spawn)
    write(run.supervisor_path, "exit", attempt=number, failure=failed, retry=True)
    write(run.supervisor_path, "retry", attempt=number + 1)


def test_settings_of_the_spec_win() -> None:
    job = {"recovery": {"retries": 1, "backoff_s": 0.5}, "spec": {"recovery": {"retries": 5, "stall_s": 9}}}
    assert Recovery.of(job) == Recovery(5, 9, 120, 0.5)
    assert Recovery.of({"kind": "exec"}).retries == 0
    assert Recovery.of({"kind": "train"}).retries == 2
    assert Recovery.of({"recovery": {"retries": "many", "grace_s": -1, "stall_s": True}}) == Recovery(2, 600, 120, 5)


def test_each_retry_waits_twice_as_long(run: Run) -> None:
    delays = []
    for number in range(1, 4):
        verdict = judge(run, tell(run), failure(step=number), RECOVERY)
        assert verdict.again
        delays.append(verdict.delay_s)
        attempt(run, number, failure(step=number))
    assert delays == [2, 4, 8]
    verdict = judge(run, tell(run), failure(step=99), RECOVERY)
    assert not verdict.again
    assert "3 of 3" in verdict.reason


def test_the_same_way_twice_is_enough(run: Run) -> None:
    attempt(run, 1, failure(3))
    assert not judge(run, tell(run), failure(3), RECOVERY).again
    assert judge(run, tell(run), failure(4), RECOVERY).again
    assert judge(run, tell(run), failure(3, code="y"), RECOVERY).again
    assert judge(run, tell(run), failure(3, exception="F"), RECOVERY).again


def test_a_start_by_hand_begins_a_new_count(run: Run) -> None:
    for number in range(1, 4):
        attempt(run, number, failure(step=number))
    write(run.supervisor_path, "spawn", attempt=4, events_bytes=0, request="r")
    assert judge(run, tell(run), failure(step=9), RECOVERY).again


def test_what_cannot_get_better_is_not_tried(run: Run) -> None:
    write(run.events_path, "error", code="data.invalid", message="m", retry=False)
    assert not judge(run, tell(run), failure(), RECOVERY).again
    assert not judge(run, tell(run), failure(), Recovery(0, 0, 0, 0)).again


def test_how_an_attempt_failed(run: Run) -> None:
    assert failure_of(run, tell(run), None, None) == {"code": "unknown", "exception": "", "step": None}
    write(run.events_path, "start", attempt=1, from_step=7)
    assert failure_of(run, tell(run), None, "SIGKILL")["step"] == 7
    write(run.events_path, "metrics", step=12)
    write(run.events_path, "checkpoint", step=10)  # told of when it was written
    assert failure_of(run, tell(run), 3, None) == {"code": "exit 3", "exception": "", "step": 12}
    write(run.events_path, "error", code="training.nan", exception="E", step=11)
    assert failure_of(run, tell(run), 1, None) == {"code": "training.nan", "exception": "E", "step": 11}
