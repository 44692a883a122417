"""What a supervisor does where two meet, or where it comes late; its children are real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.jobs import control, leftovers, spawn, supervisor
from llamahome_tui.jobs.child import ATTEMPT
from llamahome_tui.jobs.identity import boot_id
from llamahome_tui.jobs.journal import JournalWriter, read, tail
from llamahome_tui.jobs.ledger import Ledger
from llamahome_tui.jobs.locks import holder
from llamahome_tui.jobs.report import report_of
from llamahome_tui.jobs.report_text import asked
from llamahome_tui.jobs.retries import Recovery
from llamahome_tui.jobs.status import Status, derive
from llamahome_tui.jobs.store import RunStore
from llamahome_tui.jobs.view import summarise
from llamahome_tui.jobs.watch import Watch
from tests.conftest import eventually
from tests.toytrainer import toy_job


def test_the_child_of_a_supervisor_that_died_while_starting_it_is_adopted_and_not_swept(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(1)"]
    run = RunStore(tmp_path / "state").create({"name": "a", "kind": "exec", "command": command})
    journal = JournalWriter(run.supervisor_path)
    journal.append("begin", attempt=1, supervisor=1, events_bytes=0, host=os.uname().nodename, boot_id=boot_id())
    journal.close()
    first: list[subprocess.Popen[bytes]] = []

    def start(order: spawn.Order) -> int:
        # The one that the dead supervisor has started comes to its lock just now.
        environ = {**os.environ, **leftovers.marks(run), ATTEMPT: "1"}
        first.append(subprocess.Popen(order.argv, env=environ, start_new_session=True))
        eventually(lambda: holder(run.trainer_lock), "the first child's lock")
        return spawn.spawn_child(order)

    assert supervisor.supervise(run, start_child=start) == 0
    assert first[0].wait() == 0 and derive(run).status is Status.COMPLETED
    types = [record["type"] for record in tail(run.supervisor_path, 20)]
    assert "kill" not in types and types[-2:] == ["adopt", "exit"]


def test_a_trainer_that_had_ended_before_it_was_adopted_does_not_stay_for_ever(tmp_path: Path) -> None:
    run = RunStore(tmp_path / "state").create({"name": "a", "kind": "train"})
    journal = JournalWriter(run.events_path)
    journal.append("end", reason="completed")
    journal.close()
    recovery = Recovery(retries=0, stall_s=600, grace_s=0.05, backoff_s=1)
    adopted = Watch(run, recovery)
    journal = JournalWriter(run.supervisor_path)
    journal.append("spawn", attempt=2, events_bytes=run.events_path.stat().st_size)
    journal.close()
    another_attempt = Watch(run, recovery)
    time.sleep(0.06)
    assert adopted.grace_over and not another_attempt.grace_over


def test_a_machine_that_has_lost_the_devices_of_a_waiting_run_fails_it(tmp_path: Path) -> None:
    run = RunStore(tmp_path / "state").create({"name": "a", "kind": "exec", "command": ["true"], "devices": 64})
    assert supervisor.supervise(run) == 9
    found = derive(run)
    assert found.status is Status.FAILED and "devices = 64 cannot be had" in found.reason


@pytest.mark.parametrize(("fault", "words"), [("kill", "SIGKILL"), ("error", "toy")])
def test_a_training_that_dies_leaves_a_report_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, words: str
) -> None:
    there: list[bool] = []
    write = Ledger.write

    def seen(ledger: Ledger, type: str, **fields: Any) -> None:
        if type == "exit":
            there.append((run.artifacts_dir / "report.md").exists())
        write(ledger, type, **fields)

    job = toy_job(tmp_path, steps=6, step_s=0.0, checkpoint=2, faults={"4": fault})
    run = RunStore(tmp_path / "state").create(job)
    monkeypatch.setattr(Ledger, "write", seen)
    assert supervisor.supervise(run) == 9
    assert there == [True]  # before it is said that the run is over
    report = json.loads((run.artifacts_dir / "report.json").read_text())
    assert report["run"]["status"] == "failed" and words in report["run"]["reason"]
    assert "failed" in (run.artifacts_dir / "report.md").read_text()
    assert [a["kind"] for a in summarise(run, full=True).artifacts] == ["report", "report"]


def test_how_a_run_ended_is_written_down_also_where_its_report_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_given: Any, **_named: Any) -> None:
        raise KeyError("best")

    monkeypatch.setattr(supervisor, "report_of", broken)
    run = RunStore(tmp_path / "state").create(toy_job(tmp_path, steps=6, step_s=0.0, faults={"4": "kill"}))
    assert supervisor.supervise(run) == 9
    assert derive(run).status is Status.FAILED
    assert [record["type"] for record in read(run.supervisor_path)].count("exit") == 1


def test_what_a_supervisor_answers_names_the_step(tmp_path: Path) -> None:
    run = RunStore(tmp_path / "state").create(
        toy_job(tmp_path, steps=6, step_s=0.0, checkpoint=2, faults={"5": "kill"})
    )
    assert supervisor.supervise(run) == 9
    late = control.drop(run, "stop", {"now": False})
    again = control.drop(run, "resume", {"set": {"toy.steps": 4}})
    assert supervisor.supervise(run) == 0
    answers = {record["request"]: record for record in read(run.supervisor_path) if record["type"] == "control"}
    assert (answers[again]["outcome"], answers[again]["step"]) == ("applied", 4)
    assert answers[late]["outcome"] == "superseded" and answers[late]["step"] >= 4
    asked_for = [(one["step"], asked(one), one["outcome"]) for one in report_of(run).requests]
    assert (4, "resume toy.steps=4", "applied") in asked_for
