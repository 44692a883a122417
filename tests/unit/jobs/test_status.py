"""Every row of the table of states, told by real locks of real processes and journals as they are written."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.jobs import control
from llamahome_tui.jobs.identity import Identity
from llamahome_tui.jobs.journal import JournalWriter, tail
from llamahome_tui.jobs.locks import RecordLock, holder
from llamahome_tui.jobs.status import Status, derive, signal_name
from llamahome_tui.jobs.store import Run, RunStore
from tests.conftest import eventually


class Stage:
    """A run whose journals and locks the test plays."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.children: list[int] = []

    def hold(self, lock: Path) -> int:
        """Have a process hold the lock; gives its pid."""
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            RecordLock(lock).acquire()
            signal.pause()
            os._exit(0)
        self.children.append(pid)
        eventually(lambda: holder(lock) == pid, "the lock")
        return pid

    def kill(self) -> None:
        for pid in self.children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self.children.clear()

    def supervisor(self, type: str, **fields: Any) -> None:
        self._write(self.run.supervisor_path, type, fields)

    def trainer(self, type: str, **fields: Any) -> None:
        self._write(self.run.events_path, type, fields)

    def spawn(self, attempt: int = 1, *, pid: int | None = None, **more: Any) -> None:
        size = self.run.events_path.stat().st_size if self.run.events_path.exists() else 0
        who = Identity.of(pid) if pid else None
        who = who or Identity(os.uname().nodename, Identity.mine().boot_id, 999_999, 1, Identity.mine().pidns)
        self.supervisor("spawn", attempt=attempt, events_bytes=size, **{**who.fields(), **more})

    def start(self, attempt: int = 1, **more: Any) -> None:
        self.trainer("start", attempt=attempt, from_step=0, **{**Identity.mine().fields(), "pid": 999_999, **more})

    def exit(self, **more: Any) -> None:
        self.supervisor(
            "exit", **{"attempt": 1, "code": None, "signal": "SIGKILL", "stop": False, "retry": False, **more}
        )

    @property
    def status(self) -> Status:
        return derive(self.run).status

    def _write(self, path: Path, type: str, fields: dict[str, Any]) -> None:
        writer = JournalWriter(path)
        writer.append(type, **fields)
        writer.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(RunStore(tmp_path / "state").create({"name": "a", "kind": "train"}))
    yield stage
    stage.kill()


def test_queued(stage: Stage) -> None:
    assert stage.status is Status.QUEUED
    assert derive(stage.run).adoptable
    pid = stage.hold(stage.run.supervisor_lock)
    found = derive(stage.run)
    assert (found.status, found.supervisor_pid, found.adoptable) == (Status.QUEUED, pid, False)


def test_stopped_before_it_began(stage: Stage) -> None:
    control.drop(stage.run, "stop")
    assert stage.status is Status.STOPPED
    assert not derive(stage.run).adoptable


def test_starting_running_stalled_stopping(stage: Stage) -> None:
    stage.hold(stage.run.supervisor_lock)
    pid = stage.hold(stage.run.trainer_lock)
    stage.spawn(pid=pid)
    assert stage.status is Status.STARTING
    stage.start()
    assert stage.status is Status.RUNNING
    size = stage.run.events_path.stat().st_size
    stage.supervisor("stall", attempt=1, silent_s=600.0, events_bytes=size)
    assert stage.status is Status.STALLED
    stage.trainer("metrics", step=1)
    assert stage.status is Status.RUNNING
    control.drop(stage.run, "stop")
    assert stage.status is Status.STOPPING
    assert derive(stage.run).trainer_pid == pid


def test_starting_is_seen_before_the_lock_is_taken(stage: Stage) -> None:
    stage.hold(stage.run.supervisor_lock)
    stage.spawn(pid=os.getpid())
    assert stage.status is Status.STARTING


def test_unsupervised(stage: Stage) -> None:
    stage.hold(stage.run.trainer_lock)
    stage.spawn()
    stage.start()
    found = derive(stage.run)
    assert found.status is Status.UNSUPERVISED
    assert found.adoptable
    control.drop(stage.run, "stop")
    assert stage.status is Status.STOPPING
    assert derive(stage.run).adoptable  # its grace needs somebody


def test_a_running_attempt_far_behind_a_long_journal(stage: Stage) -> None:
    stage.start()
    stage.trainer("end", reason="stopped")
    stage.exit()
    stage.hold(stage.run.supervisor_lock)
    stage.hold(stage.run.trainer_lock)
    stage.spawn(2)
    assert stage.status is Status.STARTING
    stage.start(2)
    writer = JournalWriter(stage.run.events_path)
    for number in range(3000):
        writer.append("metrics", step=number, pad="x" * 100)
    writer.close()
    assert stage.status is Status.RUNNING
    assert derive(stage.run).attempt == 2


@pytest.mark.parametrize("reason", ["completed", "stopped", "paused", "failed"])
def test_an_end_says_how_it_ended(stage: Stage, reason: str) -> None:
    stage.spawn()
    stage.start()
    if reason == "failed":
        stage.trainer("error", code="x.y", exception="E", message="it broke", hint="do: llamahome", step=3)
    stage.trainer("end", reason=reason)
    found = derive(stage.run)
    assert found.status.value == reason
    assert found.adoptable  # nobody has journalled and told it
    if reason == "failed":
        assert found.reason == "it broke"
        assert found.hint == "do: llamahome"
        assert found.failure is not None
        assert found.failure["step"] == 3
    stage.exit(code=0, signal=None)
    assert derive(stage.run).status.value == reason
    assert derive(stage.run).exit_code == 0
    assert not derive(stage.run).adoptable


def test_between_death_and_verdict_it_is_neither_running_nor_ended(stage: Stage) -> None:
    stage.hold(stage.run.supervisor_lock)
    stage.spawn()
    stage.start()
    assert stage.status is Status.STOPPING
    stage.trainer("end", reason="failed")
    assert stage.status is Status.STOPPING  # a retry may follow
    stage.exit(retry=True)
    assert stage.status is Status.STARTING
    control.drop(stage.run, "stop")
    assert stage.status is Status.STOPPING


def test_a_supervisor_that_has_only_come_to_sweep_changes_nothing(stage: Stage) -> None:
    stage.spawn(supervisor=999_998)
    stage.start()
    assert stage.status is Status.LOST
    pid = stage.hold(stage.run.supervisor_lock)
    found = derive(stage.run)
    assert (found.status, found.supervisor_pid, found.adoptable) == (Status.LOST, pid, False)
    stage.supervisor("adopt", attempt=1, supervisor=pid)
    assert stage.status is Status.STOPPING


def test_exit_zero_alone_is_no_success(stage: Stage) -> None:
    stage.spawn()
    stage.start()
    stage.exit(code=0, signal=None)
    found = derive(stage.run)
    assert found.status is Status.FAILED
    assert "exit code 0" in found.reason


def test_a_death_without_an_end(stage: Stage) -> None:
    stage.spawn()
    stage.start()
    found = derive(stage.run)
    assert found.status is Status.LOST
    assert "resume" in found.hint
    stage.exit(checkpoint="checkpoints/step-5")
    found = derive(stage.run)
    assert (found.status, found.signal, found.exit_code) == (Status.FAILED, "SIGKILL", None)
    assert found.checkpoint == "checkpoints/step-5"
    assert "memory" in found.hint
    control.drop(stage.run, "stop")  # afterwards: changes nothing
    assert stage.status is Status.FAILED


def test_a_death_after_a_stop(stage: Stage) -> None:
    stage.spawn()
    stage.start()
    control.drop(stage.run, "stop")
    assert stage.status is Status.STOPPED
    stage.exit(stop=True)
    assert stage.status is Status.STOPPED


def test_another_boot(stage: Stage) -> None:
    stage.spawn(boot_id="earlier")
    assert stage.status is Status.INTERRUPTED
    stage.start(boot_id="earlier")
    assert stage.status is Status.INTERRUPTED
    assert not derive(stage.run).adoptable
    stage.exit()  # its death was seen before the machine went down
    assert stage.status is Status.FAILED


def test_a_retry_that_is_due(stage: Stage) -> None:
    stage.spawn()
    stage.start()
    stage.trainer("end", reason="failed")
    stage.exit(retry=True)
    found = derive(stage.run)
    assert (found.status, found.adoptable) == (Status.UNSUPERVISED, True)
    control.drop(stage.run, "stop")
    assert stage.status is Status.STOPPED


def test_a_retry_that_a_restart_has_prevented(stage: Stage) -> None:
    stage.spawn(boot_id="earlier")
    stage.exit(retry=True)
    assert stage.status is Status.INTERRUPTED


def test_a_resume_that_waits(stage: Stage) -> None:
    stage.spawn()
    stage.start()
    stage.trainer("end", reason="stopped")
    stage.exit(code=0, signal=None)
    asked = control.drop(stage.run, "resume")
    assert (stage.status, derive(stage.run).adoptable) == (Status.QUEUED, True)
    stage.hold(stage.run.supervisor_lock)
    assert stage.status is Status.QUEUED
    stage.spawn(2, request=asked, pid=os.getpid())
    assert stage.status is Status.STARTING
    assert derive(stage.run).attempt == 2


def test_an_attempt_that_was_begun_and_never_seen_is_still_due(stage: Stage) -> None:
    stage.supervisor("begin", attempt=1, events_bytes=0, supervisor=999_998)
    assert (stage.status, derive(stage.run).adoptable) == (Status.QUEUED, True)
    stage.start()
    assert stage.status is Status.LOST
    asked = control.drop(stage.run, "resume")
    assert stage.status is Status.QUEUED
    pid = stage.hold(stage.run.supervisor_lock)
    size = stage.run.events_path.stat().st_size
    stage.supervisor("begin", attempt=2, events_bytes=size, request=asked, supervisor=pid)
    assert (stage.status, derive(stage.run).attempt) == (Status.STARTING, 2)
    stage.kill()
    assert (stage.status, derive(stage.run).adoptable) == (Status.QUEUED, True)
    # Its trainer was there after all, came to its end, and nobody saw it: the request is fulfilled.
    stage.start(2)
    stage.trainer("end", reason="completed")
    assert stage.status is Status.COMPLETED
    control.drop(stage.run, "stop")
    assert stage.status is Status.COMPLETED


def test_an_adopted_death_belongs_to_the_adopted_attempt(stage: Stage) -> None:
    stage.spawn()
    stage.exit(retry=True)
    # A spawn record that was never written: its supervisor died right after the fork.
    stage.start(2)
    stage.supervisor("adopt", attempt=2, **Identity.mine().fields())
    assert stage.status is Status.LOST
    stage.exit(attempt=2, signal=None)
    found = derive(stage.run)
    assert (found.status, found.attempt) == (Status.FAILED, 2)


def test_another_host_is_read_only(stage: Stage) -> None:
    stage.spawn(host="elsewhere")
    stage.start(host="elsewhere")
    found = derive(stage.run)
    assert (found.status, found.remote, found.adoptable) == (Status.RUNNING, True, False)
    assert "elsewhere" in found.reason
    os.utime(stage.run.events_path, (0, 0))
    os.utime(stage.run.supervisor_path, (0, 0))
    assert stage.status is Status.LOST
    stage.trainer("end", reason="completed")
    assert (stage.status, derive(stage.run).remote) == (Status.COMPLETED, True)


def test_another_pid_namespace_is_read_only_while_it_lives(stage: Stage) -> None:
    stage.spawn(pidns="pid:[1]")
    stage.start(pidns="pid:[1]")
    pid = stage.hold(stage.run.trainer_lock)
    assert derive(stage.run).remote
    assert pid
    stage.kill()
    # The locks of this kernel say that nobody lives any more, whatever the namespace.
    assert (stage.status, derive(stage.run).remote) == (Status.LOST, False)


def test_signal_names() -> None:
    assert signal_name(9) == "SIGKILL"
    assert signal_name(40) == "SIG40"


def test_many_adoptions_do_not_hide_the_attempt(stage: Stage) -> None:
    stage.spawn(attempt=3)
    stage.start(attempt=3)
    for number in range(20):
        stage.supervisor("adopt", attempt=3, supervisor=number)
    assert stage.status is Status.LOST
    assert derive(stage.run).attempt == 3


def test_who_waits_is_told_without_reading_the_trainers_long_journal(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.spawn()
    stage.start()
    stage.exit()
    request = control.drop(stage.run, "resume", {})
    stage.spawn(attempt=2, request=request)
    stage.supervisor("control", request=request, op="resume", outcome="applied")
    stage.exit(attempt=2, retry=True)
    stage.spawn(attempt=3)
    stage.exit(attempt=3)
    looked_at: list[Path] = []

    def noted(path: Path, count: int, *arguments: Any, **more: Any) -> Any:
        looked_at.append(path)
        return tail(path, count, *arguments, **more)

    monkeypatch.setattr(control, "tail", noted)
    assert stage.status is Status.FAILED
    assert looked_at == [stage.run.supervisor_path]
