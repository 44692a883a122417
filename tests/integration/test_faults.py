"""The rows of the fault table that jobs answer for, each made for real; the row stands in the test's id."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.config.places import Places
from llamahome_tui.errors import ConfigError, ResourceError
from llamahome_tui.jobs import control, spawn
from llamahome_tui.jobs.identity import Identity, boot_id, send_signal, send_signal_to_holder, start_ticks
from llamahome_tui.jobs.journal import JournalReader, JournalWriter, read, tail
from llamahome_tui.jobs.leftovers import workers_of
from llamahome_tui.jobs.locks import holder
from llamahome_tui.jobs.status import Derived, Status, derive
from llamahome_tui.jobs.store import Run, RunStore
from tests.conftest import COMMAND, clean_environ, eventually
from tests.toytrainer import toy_job


@dataclass
class Bench:
    """Runs of the toy trainer under real supervisors."""

    places: Places
    folder: Path
    environ: dict[str, str]
    store: RunStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = RunStore(self.places)

    def run(self, name: str = "toy", **toy: Any) -> Run:
        return self.store.create(toy_job(self.folder, name, **toy))

    def launched(self, name: str = "toy", *, until: Status = Status.RUNNING, steps_done: int = 1, **toy: Any) -> Run:
        run = self.run(name, **toy)
        self.launch(run, until, steps_done)
        return run

    def launch(self, run: Run, until: Status = Status.RUNNING, steps_done: int = 1) -> None:
        spawn.launch(run, self.environ)
        self.reaches(run, until)
        eventually(lambda: step_of(run) >= steps_done or derive(run).status.ended, "the first steps")

    def reaches(self, run: Run, *states: Status, timeout: float = 20) -> Derived:
        return eventually(
            lambda: found if (found := derive(run)).status in states else None,
            f"{'/'.join(states)} (it is {derive(run)})",
            timeout,
        )

    def ended(self, run: Run, *states: Status, timeout: float = 20) -> Derived:
        """The same, and nobody holds a lock any more."""
        self.reaches(run, *states, timeout=timeout)
        eventually(lambda: not run.live, "the end of all processes")
        return derive(run)


def step_of(run: Run) -> int:
    newest = tail(run.events_path, 1, {"metrics"})
    return int(newest[0]["step"]) if newest else 0


def types(path: Path) -> list[str]:
    """What happened, in its order; the report of a training that leaves none itself comes after its end."""
    return [record["type"] for record in read(path) if record["type"] != "artifact"]


def of(path: Path, kind: str) -> list[dict[str, Any]]:
    return [record for record in read(path) if record["type"] == kind]


def gapless(run: Run) -> None:
    for path in (run.events_path, run.supervisor_path):
        assert [record["seq"] for record in read(path)] == list(range(1, len(list(read(path))) + 1)), path


def kill(pid: int | None, number: int = signal.SIGKILL) -> None:
    assert pid
    os.kill(pid, number)


@pytest.fixture
def bench(places: Places, environ: dict[str, str], tmp_path: Path) -> Bench:
    return Bench(places, tmp_path, environ)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small tmpfs of the given size and gives its folder; skips where mounting is not permitted."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            pytest.skip(f"mounting a small disk is not permitted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def test_F02_a_closed_terminal_ends_the_watching_and_not_the_run(bench: Bench, home: Path) -> None:
    script = bench.folder / "work.sh"
    script.write_text("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo step $i; sleep 0.2; done\n")
    pid, master = pty.fork()
    if pid == 0:
        os.execve(
            COMMAND[0], [*COMMAND, "--batch", "runs", "exec", "--name", "x", "--", "sh", str(script)], bench.environ
        )
    run = eventually(lambda: next(iter(bench.store.list()), None), "the run")
    trainer = bench.reaches(run, Status.RUNNING).trainer_pid
    os.close(master)  # what sshd does when the connection drops
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)
    assert derive(run).trainer_pid == trainer
    bench.ended(run, Status.COMPLETED)
    assert b"step 12" in run.out_path.read_bytes()
    gapless(run)


def test_F03_supervisor_killed_training_goes_on_and_is_adopted(bench: Bench) -> None:
    run = bench.launched()
    before = derive(run)
    kill(before.supervisor_pid)
    found = bench.reaches(run, Status.UNSUPERVISED)
    assert found.trainer_pid == before.trainer_pid
    assert found.adoptable
    step = step_of(run)
    eventually(lambda: step_of(run) > step + 20, "further steps")
    assert spawn.ensure_supervised(bench.store, bench.environ) == [run.id]
    adopted = bench.reaches(run, Status.RUNNING)
    assert adopted.trainer_pid == before.trainer_pid
    eventually(lambda: of(run.supervisor_path, "adopt"), "the adoption's record")
    control.drop(run, "stop")
    assert bench.ended(run, Status.STOPPED).status is Status.STOPPED
    (exit_,) = of(run.supervisor_path, "exit")
    assert (exit_["code"], exit_["signal"], exit_["adopted"]) == (None, None, True)
    gapless(run)
    steps = [record["step"] for record in of(run.events_path, "metrics")]
    assert steps == list(range(1, len(steps) + 1))


def test_F03_many_adopters_are_one(bench: Bench) -> None:
    run = bench.launched()
    kill(derive(run).supervisor_pid)
    bench.reaches(run, Status.UNSUPERVISED)
    for _ in range(5):
        spawn.launch(run, bench.environ, wait=False)
    bench.reaches(run, Status.RUNNING)
    time.sleep(1.0)
    assert len(of(run.supervisor_path, "adopt")) == 1
    control.drop(run, "stop")
    bench.ended(run, Status.STOPPED)


def test_F03_supervisor_killed_between_the_fork_and_its_record(bench: Bench) -> None:
    """What it has not written down yet is neither lost nor done twice."""
    run = bench.launched(steps=60)
    found = derive(run)
    kill(found.supervisor_pid)
    bench.reaches(run, Status.UNSUPERVISED)
    lines = run.supervisor_path.read_bytes().splitlines(keepends=True)
    assert types(run.supervisor_path) == ["begin", "spawn"]
    run.supervisor_path.write_bytes(lines[0])  # as if it had died there
    assert derive(run).status is Status.UNSUPERVISED
    spawn.launch(run, bench.environ)
    bench.ended(run, Status.COMPLETED)
    assert types(run.supervisor_path) == ["begin", "adopt", "exit"]
    assert types(run.events_path).count("start") == 1
    # The same for an attempt that was asked for, and that nobody looked after to its end.
    control.drop(run, "resume", {"set": {"toy.steps": 90}})
    spawn.launch(run, bench.environ)
    eventually(lambda: types(run.events_path).count("start") == 2, "the second attempt")
    kill(derive(run).supervisor_pid)
    records = list(read(run.supervisor_path))
    cut = next(number for number, record in enumerate(records) if record.get("attempt") == 2) + 1
    run.supervisor_path.write_bytes(b"".join(run.supervisor_path.read_bytes().splitlines(keepends=True)[:cut]))
    eventually(lambda: derive(run).status is Status.COMPLETED, "the end")
    spawn.ensure_supervised(bench.store, bench.environ)
    eventually(lambda: types(run.supervisor_path).count("exit") == 2 and not run.live, "the record of its end")
    time.sleep(0.3)
    assert derive(run).status is Status.COMPLETED
    assert types(run.events_path).count("start") == 2
    gapless(run)


def test_F03_supervisor_killed_before_a_retry(bench: Bench) -> None:
    run = bench.run(steps=30, faults={"12": "error"}, recovery={"retries": 2, "backoff_s": 3})
    spawn.launch(run, bench.environ)
    eventually(lambda: of(run.supervisor_path, "retry"), "the retry's record")
    kill(derive(run).supervisor_pid)
    found = bench.reaches(run, Status.UNSUPERVISED)
    assert found.adoptable
    assert spawn.ensure_supervised(bench.store, bench.environ) == [run.id]
    # The same step fails the same way: the second attempt is the last.
    found = bench.ended(run, Status.FAILED)
    assert found.attempt == 2


@pytest.mark.parametrize("word", ["completed", "failed"])
def test_F03_an_end_that_nobody_saw_is_told_by_the_next_process(bench: Bench, word: str) -> None:
    told = bench.folder / "told"
    faults = {"30": "error"} if word == "failed" else {}
    job = toy_job(bench.folder, steps=40, step_s=0.02, faults=faults)
    script = bench.folder / "tell.sh"
    script.write_text(f"cat >> {told}\n")
    run = bench.store.create(job | {"notify": {"on_end": f"sh {script}"}})
    bench.launch(run)
    kill(derive(run).supervisor_pid)
    eventually(lambda: derive(run).status.value == word, "the end")
    assert not told.exists()
    for _ in range(2):
        spawn.ensure_supervised(bench.store, bench.environ)
        eventually(lambda: of(run.supervisor_path, "notify") and not run.live, "the notification")
    assert derive(run).status.value == word
    assert json.loads(told.read_text())["status"] == word
    assert types(run.supervisor_path) == ["begin", "spawn", "exit", "notify"]
    assert spawn.ensure_supervised(bench.store, bench.environ) == []


@pytest.mark.parametrize("adopted", [False, True], ids=["parent", "adopted"])
def test_F04_trainer_killed_is_failed_within_two_seconds(bench: Bench, adopted: bool) -> None:
    run = bench.launched(steps_done=25)
    if adopted:
        kill(derive(run).supervisor_pid)
        bench.reaches(run, Status.UNSUPERVISED)
        spawn.launch(run, bench.environ)
        eventually(lambda: of(run.supervisor_path, "adopt"), "the adoption's record")
    kill(derive(run).trainer_pid)
    killed = time.monotonic()
    found = bench.reaches(run, Status.FAILED, timeout=2)
    assert time.monotonic() - killed < 2
    assert found.signal == (None if adopted else "SIGKILL")
    assert found.hint
    assert found.reason
    newest = max(int(path.name[5:]) for path in run.checkpoints_dir.glob("step-*") if (path / "complete.json").exists())
    assert found.checkpoint == f"checkpoints/step-{newest}"
    gapless(run)


@pytest.fixture
def little_memory() -> Iterator[Path]:
    """A cgroup with 64 MiB: the file that takes a process into it; skips where none may be made."""
    own = [line.split(":") for line in Path("/proc/self/cgroup").read_text().splitlines()]
    one = next((path for _, names, path in own if "memory" in names.split(",")), None)
    root = Path("/sys/fs/cgroup/memory") if one is not None else Path("/sys/fs/cgroup")
    path = one if one is not None else next((path for number, _, path in own if number == "0"), "/")
    group = root / path.lstrip("/") / f"llamahome-test-{os.getpid()}"
    try:
        group.mkdir()
        limits = ("memory.limit_in_bytes",) if one is not None else ("memory.max", "memory.swap.max")
        for limit in limits:
            (group / limit).write_text("0" if "swap" in limit else str(64 << 20))
    except OSError as error:
        with suppress(OSError):
            group.rmdir()
        pytest.skip(f"no cgroup can be made here: {error}")
    yield group / "cgroup.procs"
    eventually(lambda: not (group / "cgroup.procs").read_text(), "an empty cgroup")
    group.rmdir()


def test_F04_the_out_of_memory_killer_is_named(bench: Bench, little_memory: Path) -> None:
    run = bench.run(faults={"5": "eat"}, cgroup=str(little_memory))
    bench.launch(run, until=Status.FAILED)
    found = bench.ended(run, Status.FAILED)
    assert found.signal == "SIGKILL"
    assert "out of memory" in found.reason
    assert "batch_size" in found.hint
    assert of(run.supervisor_path, "exit")[0]["oom"] is True


def test_F04_a_killed_trainer_is_tried_again_from_its_checkpoint(bench: Bench) -> None:
    run = bench.run(steps=40, recovery={"retries": 1, "backoff_s": 0.2})
    bench.launch(run, steps_done=15)
    kill(derive(run).trainer_pid)
    assert bench.ended(run, Status.COMPLETED).attempt == 2
    assert types(run.supervisor_path).count("retry") == 1
    first, second = of(run.events_path, "start")
    assert (first["from_step"], first["attempt"]) == (0, 1)
    assert second["attempt"] == 2
    assert second["from_step"] >= 10
    (retry,) = of(run.supervisor_path, "retry")
    assert retry["from_step"] == second["from_step"]
    gapless(run)


def test_F04_the_same_failure_at_the_same_step_is_not_tried_a_third_time(bench: Bench) -> None:
    run = bench.run(steps=40, faults={"15": "error"}, recovery={"retries": 9, "backoff_s": 0.1})
    bench.launch(run, until=Status.FAILED)
    found = bench.ended(run, Status.FAILED)
    assert found.attempt == 2
    assert found.failure is not None
    assert (found.failure["code"], found.failure["step"]) == ("toy.broken", 15)
    assert "twice" in of(run.supervisor_path, "exit")[-1]["reason"]


def test_F04_exit_zero_without_an_end_is_failed(bench: Bench) -> None:
    run = bench.run(faults={"3": "exit3"})
    bench.launch(run, until=Status.FAILED)
    assert derive(run).exit_code == 3


def test_F05_both_killed_is_lost_and_can_go_on(bench: Bench) -> None:
    run = bench.launched(steps_done=15)
    found = derive(run)
    kill(found.supervisor_pid)
    kill(found.trainer_pid)
    lost = bench.reaches(run, Status.LOST)
    assert "runs resume" in lost.hint
    assert not run.live
    assert spawn.ensure_supervised(bench.store, bench.environ) == []
    # A supervisor that comes anyway makes nothing up.
    assert subprocess.run(supervisor(run), env=bench.environ, check=False).returncode == 9
    assert derive(run).status is Status.LOST
    control.drop(run, "resume", {"set": {"toy.steps": 40}})
    spawn.launch(run, bench.environ)
    assert bench.ended(run, Status.COMPLETED).attempt == 2
    assert of(run.events_path, "start")[1]["from_step"] >= 10
    gapless(run)


def supervisor(run: Run) -> list[str]:
    return [sys.executable, "-m", "llamahome_tui.jobs.supervisor", str(run.dir)]


def test_F06_another_boot_is_interrupted(bench: Bench) -> None:
    run = bench.launched()
    found = derive(run)
    kill(found.supervisor_pid)
    kill(found.trainer_pid)
    bench.reaches(run, Status.LOST)
    for path in (run.events_path, run.supervisor_path):
        path.write_text(path.read_text().replace(boot_id(), "11111111-2222-3333-4444-555555555555"))
    found = derive(run)
    assert found.status is Status.INTERRUPTED
    assert "runs resume" in found.hint
    assert spawn.ensure_supervised(bench.store, bench.environ) == []
    control.drop(run, "resume", {"set": {"toy.steps": step_of(run) + 5}})
    spawn.launch(run, bench.environ)
    bench.ended(run, Status.COMPLETED)


def test_F07_a_stopped_supervisor_costs_training_nothing(bench: Bench) -> None:
    run = bench.launched(pad=2000, step_s=0.002)
    pid = derive(run).supervisor_pid

    def steps_in_a_second() -> int:
        begun, step = time.monotonic(), step_of(run)
        while time.monotonic() - begun < 1:
            time.sleep(0.01)
        return step_of(run) - step

    shares = []
    for _ in range(3):
        alone = steps_in_a_second()
        kill(pid, signal.SIGSTOP)  # its pipe fills up: 2,000 bytes a step
        stopped = steps_in_a_second()
        kill(pid, signal.SIGCONT)
        shares.append(stopped / max(1, alone))
    print("steps per second with a stopped supervisor over those with a running one:", [round(s, 2) for s in shares])
    assert max(shares) > 0.66
    control.drop(run, "stop")
    bench.ended(run, Status.STOPPED)
    gapless(run)


def test_F08_a_hang_is_stalled_with_its_stack_in_the_output(bench: Bench) -> None:
    run = bench.run(faults={"12": "hang"}, recovery={"retries": 0, "stall_s": 1, "grace_s": 1})
    bench.launch(run, until=Status.STALLED)
    found = derive(run)
    assert found.trainer_pid is not None
    assert "out.log" in found.reason
    eventually(lambda: b"stuck_in_the_loop" in run.out_path.read_bytes(), "the stack")
    assert start_ticks(found.trainer_pid) is not None  # alive: a stall is no verdict
    assert types(run.supervisor_path).count("stall") == 1
    control.drop(run, "stop")
    found = bench.ended(run, Status.STOPPED)
    assert "without a last checkpoint" in found.reason


def test_F09_a_second_supervisor_is_refused(bench: Bench) -> None:
    run = bench.launched()
    pid = derive(run).supervisor_pid
    done = subprocess.run(supervisor(run), capture_output=True, text=True, env=bench.environ, check=False)
    assert done.returncode == 0
    assert f"process {pid}" in done.stderr
    assert derive(run).supervisor_pid == pid
    assert types(run.supervisor_path) == ["begin", "spawn"]


def test_F09_a_second_trainer_is_refused(bench: Bench) -> None:
    run = bench.launched()
    pid = derive(run).trainer_pid
    program = [str(run.job["spec"]["launch"]["python"]), "-c", "", str(run.dir)]
    done = subprocess.run(program, capture_output=True, text=True, env=bench.environ, check=False)
    assert done.returncode != 0
    assert f"process {pid}" in done.stderr
    step = step_of(run)
    eventually(lambda: step_of(run) > step, "further steps")
    assert types(run.events_path).count("start") == 1


def test_F10_a_stranger_with_the_trainers_pid_gets_no_signal(bench: Bench) -> None:
    run = bench.launched()
    found = derive(run)
    dead = Identity.of(found.trainer_pid or 0)
    assert dead is not None
    kill(found.supervisor_pid)
    kill(found.trainer_pid)
    bench.reaches(run, Status.LOST)
    eventually(lambda: not Path(f"/proc/{dead.pid}").exists(), "the reaping")
    time.sleep(0.05)
    stranger = process_with_pid(dead.pid)
    try:
        assert start_ticks(stranger) != dead.start_ticks
        assert derive(run).status is Status.LOST
        assert not send_signal(dead, signal.SIGKILL)
        assert not send_signal_to_holder(run.trainer_lock, dead, signal.SIGKILL)
        assert spawn.ensure_supervised(bench.store, bench.environ) == []
        assert spawn.sweep_orphans(bench.store, bench.environ) == []
        control.drop(run, "stop", {"now": True})
        subprocess.run(supervisor(run), env=bench.environ, check=False)
        assert os.waitpid(stranger, os.WNOHANG) == (0, 0)  # alive and well
    finally:
        os.kill(stranger, signal.SIGKILL)
        os.waitpid(stranger, 0)


def process_with_pid(wanted: int) -> int:
    """A process of ours that gets just this pid; skips where the kernel doesn't let itself be asked."""
    for _ in range(200):
        try:
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(wanted - 1))
        except OSError as error:
            pytest.skip(f"pids can't be chosen here: {error}")
        pid = os.fork()
        if pid == 0:
            while True:
                signal.pause()
        if pid == wanted:
            return pid
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    pytest.skip("the pid was always taken by others")


def test_F11_a_left_over_worker_is_swept_by_the_supervisor(bench: Bench) -> None:
    note = bench.folder / "worker"
    run = bench.launched(worker=str(note))
    worker = int(note.read_text())
    assert worker in [process.pid for process in workers_of(run)]
    kill(derive(run).trainer_pid)
    bench.ended(run, Status.FAILED)
    assert start_ticks(worker) is None
    assert any(worker in record.get("pids", []) for record in of(run.supervisor_path, "kill"))


def test_F11_a_left_over_worker_of_a_lost_run_is_swept_by_the_next_process(bench: Bench) -> None:
    note = bench.folder / "worker"
    run = bench.launched(worker=str(note))
    worker = int(note.read_text())
    # The same id in another home: not meant.
    elsewhere = bench.folder / "elsewhere"
    other = Bench(Places.from_environ({"LLAMAHOME_HOME": str(elsewhere)}), bench.folder, clean_environ(elsewhere))
    twin = other.run(worker=str(bench.folder / "other"))
    twin.dir.rename(twin.dir.with_name(run.id))
    twin = Run(run.id, twin.dir.with_name(run.id))
    other.launch(twin)
    try:
        found = derive(run)
        kill(found.supervisor_pid)
        kill(found.trainer_pid)
        bench.reaches(run, Status.LOST)
        assert start_ticks(worker) is not None
        assert spawn.sweep_orphans(bench.store, bench.environ) == [run.id]
        eventually(lambda: start_ticks(worker) is None, "the sweep")
        assert derive(run).status is Status.LOST
        assert derive(twin).status is Status.RUNNING
        assert start_ticks(int((bench.folder / "other").read_text())) is not None
    finally:
        control.drop(twin, "stop", {"now": True})
        eventually(lambda: not twin.live, "the end of the other run")


def test_F12_stop_once_is_a_checkpoint_and_stopped(bench: Bench) -> None:
    run = bench.launched(checkpoint=10**6)
    asked = control.drop(run, "stop")
    bench.ended(run, Status.STOPPED)
    (end,) = of(run.events_path, "end")
    assert end["reason"] == "stopped"
    assert (run.checkpoints_dir / f"step-{end['totals']['steps']}" / "complete.json").exists()
    assert [(r["request"], r["outcome"]) for r in of(run.events_path, "control")] == [(asked, "applied")]
    assert control.pending(run) == []
    assert of(run.supervisor_path, "exit")[0]["stop"] is True
    assert not of(run.supervisor_path, "kill")


def test_F12_stop_twice_changes_nothing(bench: Bench) -> None:
    run = bench.launched(faults={"20": "hang"}, recovery={"retries": 0, "grace_s": 3})
    eventually(lambda: step_of(run) == 19, "the hang")
    control.drop(run, "stop")
    begun = time.monotonic()
    time.sleep(1)
    control.drop(run, "stop")
    bench.ended(run, Status.STOPPED)
    assert 2.5 < time.monotonic() - begun < 6  # the grace of the first stop, not of the second
    outcomes = [record["outcome"] for path in (run.events_path, run.supervisor_path) for record in of(path, "control")]
    assert sorted(outcomes) == ["applied", "superseded"]


def test_F12_stop_now_kills(bench: Bench) -> None:
    run = bench.launched(faults={"20": "hang_deaf"}, recovery={"retries": 5, "grace_s": 60, "backoff_s": 0})
    eventually(lambda: step_of(run) == 19, "the hang")
    control.drop(run, "stop")
    time.sleep(0.5)
    assert derive(run).status is Status.STOPPING
    control.drop(run, "stop", {"now": True})
    found = bench.ended(run, Status.STOPPED, timeout=3)
    assert found.attempt == 1  # nothing is tried again after a stop
    assert [record["reason"] for record in of(run.supervisor_path, "kill")] == ["now"]


def test_F12_grace_ends_in_a_kill(bench: Bench) -> None:
    run = bench.launched(faults={"20": "hang_deaf"}, recovery={"retries": 5, "grace_s": 1, "backoff_s": 0})
    eventually(lambda: step_of(run) == 19, "the hang")
    control.drop(run, "stop")
    found = bench.ended(run, Status.STOPPED, timeout=6)
    assert found.signal == "SIGKILL"
    assert [record["reason"] for record in of(run.supervisor_path, "kill")] == ["grace"]


def test_F12_a_stop_without_a_supervisor_works(bench: Bench) -> None:
    run = bench.launched()
    kill(derive(run).supervisor_pid)
    bench.reaches(run, Status.UNSUPERVISED)
    control.drop(run, "stop")
    bench.ended(run, Status.STOPPED)
    assert [record["outcome"] for record in of(run.events_path, "control")] == ["applied"]


def test_F12_a_stop_in_the_queue_and_before_a_retry(bench: Bench) -> None:
    run = bench.run()
    asked = control.drop(run, "stop")
    spawn.launch(run, bench.environ)
    bench.ended(run, Status.STOPPED)
    assert [(r["request"], r["outcome"]) for r in of(run.supervisor_path, "control")] == [(asked, "applied")]
    assert not run.events_path.exists()
    run = bench.run("second", faults={"5": "error"}, recovery={"retries": 3, "backoff_s": 30})
    spawn.launch(run, bench.environ)
    eventually(lambda: of(run.supervisor_path, "retry"), "the retry's record")
    assert derive(run).status is Status.STARTING
    control.drop(run, "stop")
    assert bench.ended(run, Status.STOPPED, timeout=3).attempt == 1


def test_F12_pause_and_go_on(bench: Bench) -> None:
    run = bench.launched(steps=100, checkpoint=10**6)
    control.drop(run, "pause")
    bench.ended(run, Status.PAUSED)
    steps = of(run.events_path, "end")[0]["totals"]["steps"]
    control.drop(run, "resume")
    spawn.launch(run, bench.environ)
    bench.ended(run, Status.COMPLETED)
    assert of(run.events_path, "start")[1]["from_step"] == steps
    numbers = [record["step"] for record in of(run.events_path, "metrics")]
    assert numbers == list(range(1, 101))
    gapless(run)


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, Status.STOPPED), (signal.SIGUSR1, Status.PAUSED), (signal.SIGINT, Status.STOPPED)],
)
def test_F12_in_the_foreground_signals_mean_checkpoint_and_exit(bench: Bench, number: int, status: Status) -> None:
    run = bench.run(checkpoint=10**6)
    code = (
        "import sys; from pathlib import Path\n"
        "from llamahome_tui.jobs.store import Run; from llamahome_tui.jobs.supervisor import supervise\n"
        "sys.exit(supervise(Run.open(Path(sys.argv[1])), foreground=True))"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(run.dir)], env=bench.environ) as process:
        bench.reaches(run, Status.RUNNING)
        eventually(lambda: step_of(run) > 3, "steps")
        trainer = derive(run).trainer_pid or 0
        assert os.getsid(trainer) == os.getsid(process.pid)
        assert os.getpgid(trainer) == trainer
        process.send_signal(number)
        assert process.wait(10) == 0
    assert derive(run).status is status
    assert len(list(run.checkpoints_dir.glob("step-*/complete.json"))) == 1


def test_F15_training_goes_on_while_the_disk_is_full(
    bench: Bench, small_disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = small_disk("3m")
    environ = bench.environ | {"LLAMAHOME_HOME": str(disk)}
    store = RunStore(disk / "state")
    beacon = bench.folder / "beacon"
    run = store.create(toy_job(bench.folder, steps=400, step_s=0.01, beacon=str(beacon), pad=200))

    def beaten() -> int:
        return int(eventually(lambda: beacon.exists() and beacon.read_text(), "the newest step"))

    spawn.launch(run, environ)
    try:
        eventually(lambda: step_of(run) > 20, "steps")
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        eventually(lambda: os.statvfs(disk).f_bavail == 0, "a full disk")
        # What page is begun can still take some records; then nothing can, while training goes on.
        stuck, since = step_of(run), beaten()

        def silent() -> bool:
            nonlocal stuck, since
            if (written := step_of(run)) != stuck:
                stuck, since = written, beaten()
            return beaten() > since + 20

        eventually(silent, "a journal that takes no more")
        begun, step = time.monotonic(), beaten()
        eventually(lambda: beaten() > step + 50, "training on a full disk")
        full_s = time.monotonic() - begun
        assert step_of(run) == stuck
        assert derive(run).status is Status.RUNNING
        filler.unlink()
        eventually(lambda: derive(run).status is Status.COMPLETED, "the end")
        eventually(lambda: not run.live, "the end of all processes")
        gapless(run)
        steps = [record["step"] for record in of(run.events_path, "metrics")]
        assert steps == list(range(1, 401))
        (warning,) = [record for record in of(run.events_path, "warning") if record["what"] == "disk_full"]
        assert warning["lost"] == 0
        assert warning["seconds"] >= full_s > 0.3
        assert JournalReader(run.events_path).poll()
    finally:
        for pid in (holder(run.trainer_lock), holder(run.supervisor_lock)):
            if pid:
                os.kill(pid, signal.SIGKILL)


def test_F17_odd_lines_in_a_journal_change_no_verdict_and_no_bound(bench: Bench) -> None:
    run = bench.launched(until=Status.COMPLETED, steps=20)
    bench.ended(run, Status.COMPLETED)
    with run.events_path.open("ab") as file:
        file.write(b"garbage\n" + b'{"v":1,"seq":98,"type":"timeless"}\n')
        file.write(b'{"v":1,"seq":99,"t":1,"mono":1,"type":"unknown"}\n' + b'{"v":7,"seq":100,"type":"end"}\n')
        for _ in range(10):
            file.write(b'{"v":1,"seq":5,"type":"big","x":"' + b"a" * (5 << 20) + b'"}\n')
        file.write(b"\0" * 4096)
    tracemalloc.start()
    assert derive(run).status is not Status.RUNNING
    reader = JournalReader(run.events_path)
    records = []
    while batch := reader.poll():
        records += batch
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reader.bad == 13
    assert [record["type"] for record in records][-2:] == ["end", "unknown"]
    assert peak < 24 << 20, peak
    JournalWriter(run.events_path).close()  # the next writer ends the tail of NULs
    assert [record["seq"] for record in tail(run.events_path, 1)] == [99]


@pytest.mark.slow
def test_F20_a_journal_of_a_million_events_is_opened_at_once(bench: Bench) -> None:
    run = bench.launched(until=Status.COMPLETED, steps=3)
    bench.ended(run, Status.COMPLETED)
    lines = run.events_path.read_bytes().splitlines(keepends=True)
    line = '{"v":1,"seq":%d,"t":1700000000.0,"mono":%d.5,"type":"metrics","step":%d,"loss":1.25,"lr":0.0002}\n'
    with run.events_path.open("wb") as file:
        file.write(lines[0])
        file.write("".join(line % (n, n, n) for n in range(2, 1_000_001)).encode())
        end = json.loads(lines[-1]) | {"seq": 1_000_001}
        file.write(json.dumps(end).encode() + b"\n")
    from llamahome_tui.jobs.view import summarise

    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        found = derive(run), tail(run.events_path, 200), summarise(run)
        seconds.append(time.perf_counter() - begun)
    print(f"status, newest 200 records and summary of 1M events: {min(seconds) * 1000:.1f} ms")
    assert found[0].status is Status.COMPLETED
    assert len(found[1]) == 200
    assert min(seconds) < 0.2


def test_F21_a_clock_that_jumps_changes_no_duration(bench: Bench) -> None:
    from llamahome_tui.jobs.view import summarise

    run = bench.launched(until=Status.COMPLETED, steps=30, step_s=0.02)
    bench.ended(run, Status.COMPLETED)
    records = list(read(run.events_path))
    true = records[-1]["mono"] - records[0]["mono"]
    for number, record in enumerate(records):
        record["t"] += -86_400 if number > 10 else 0  # the clock was put back a day in the middle
    run.events_path.write_text("".join(json.dumps(record) + "\n" for record in records))
    elapsed = summarise(run, full=True).to_dict()["elapsed_s"]
    assert elapsed == pytest.approx(true, abs=0.5)


def test_F22_a_journal_that_is_deleted_or_replaced_is_reopened(bench: Bench) -> None:
    run = bench.launched()
    reader = JournalReader(run.events_path)
    eventually(reader.poll, "records")
    run.events_path.unlink()
    eventually(lambda: reader.poll() == [] and reader.replaced == 1, "the notice")
    found = eventually(reader.poll, "the journal that its writer has begun anew")
    assert found[0]["what"] == "journal_replaced"
    copy = run.events_path.with_suffix(".copy")
    copy.write_bytes(run.events_path.read_bytes())
    copy.replace(run.events_path)
    eventually(lambda: reader.poll() and reader.replaced >= 2, "the second notice")
    control.drop(run, "stop")
    bench.ended(run, Status.STOPPED)
    assert types(run.events_path)[-1] == "end"


@pytest.mark.parametrize("fault", ["read-only", "full", "a file in its place"])
def test_F23_an_unusable_state_folder_is_refused_before_anything_starts(
    bench: Bench, small_disk: Callable[[str], Path], fault: str
) -> None:
    disk = small_disk("2m")
    (disk / "state").mkdir()
    if fault == "full":
        (disk / "filler").write_bytes(b"x" * (3 << 19))
    elif fault == "read-only":
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    else:
        (disk / "state").rmdir()
        (disk / "state").write_text("")
    wanted = ResourceError if fault == "full" else ConfigError
    with pytest.raises(wanted) as refused:
        RunStore(disk / "state").create(toy_job(bench.folder))
    assert refused.value.hint
    environ = clean_environ(disk) | {"HOME": str(bench.folder)}
    done = subprocess.run(
        [*COMMAND, "--batch", "runs", "exec", "--name", "x", "--json", "--", "touch", str(bench.folder / "started")],
        capture_output=True, text=True, env=environ, check=False,
    )  # fmt: skip
    assert done.returncode == wanted.exit_code, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["ok"] is False
    assert not (bench.folder / "started").exists()
    assert not list(disk.glob("state/runs/*"))


def test_F39_one_of_several_equal_requests_wins(bench: Bench) -> None:
    run = bench.launched()
    asked = [subprocess.Popen(dropper(run), env=bench.environ) for _ in range(3)]
    assert [process.wait(20) for process in asked] == [0, 0, 0]
    bench.ended(run, Status.STOPPED)
    outcomes = [record["outcome"] for path in (run.events_path, run.supervisor_path) for record in of(path, "control")]
    assert outcomes.count("applied") == 1
    assert types(run.events_path).count("end") == 1


def dropper(run: Run) -> list[str]:
    code = (
        "import sys; from pathlib import Path\n"
        "from llamahome_tui.jobs import control; from llamahome_tui.jobs.store import Run\n"
        "control.drop(Run.open(Path(sys.argv[1])), 'stop')"
    )
    return [sys.executable, "-c", code, str(run.dir)]
