"""The queue: order, exclusive devices, moves, and the dead, whose places are given away; locks held by processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llamahome_tui.errors import UsageError
from llamahome_tui.jobs import queue
from llamahome_tui.jobs.devices import Claim
from llamahome_tui.jobs.queue import Queue
from llamahome_tui.jobs.store import Run, RunStore

HOLD = """
import sys, time
from pathlib import Path
from llamahome_tui.jobs.locks import RecordLock
assert RecordLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    found = RunStore(tmp_path)
    found.prepare()
    return found


@pytest.fixture
def supervised(store: RunStore) -> Iterator[Callable[[str], tuple[Run, subprocess.Popen[str]]]]:
    """Makes a run whose supervisor's lock is held by a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def make(name: str) -> tuple[Run, subprocess.Popen[str]]:
        run = store.create({"name": name, "kind": "exec", "command": ["true"]})
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(run.supervisor_lock)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        return run, process

    yield make
    for process in started:
        process.kill()
        process.communicate()


def add(run: Run, *candidates: str, need: int = 1) -> None:
    with Queue(run.state).locked() as opened:
        opened.add(run, Claim(candidates or ("cpu",), need), gpus=bool(candidates))


def granted(run: Run) -> tuple[str, ...] | None:
    turn = queue.turn(run)
    return turn.devices if turn is not None else None


Supervised = Callable[[str], tuple[Run, "subprocess.Popen[str]"]]


def test_first_come_first_served_on_one_device(supervised: Supervised) -> None:
    (a, _), (b, _), (c, _) = (supervised(name) for name in "abc")
    for run in (a, b, c):
        add(run)
    assert granted(b) is None
    assert granted(a) == ("cpu",) and granted(a) == ("cpu",)
    assert granted(b) is None and granted(c) is None
    assert [e.run for e in Queue(a.state).waiting()] == [b.id, c.id]
    queue.leave(a)
    assert granted(c) is None
    assert granted(b) == ("cpu",)


def test_gpus_are_exclusive_and_a_large_job_is_not_starved(supervised: Supervised) -> None:
    (a, _), (b, _), (c, _), (d, _) = (supervised(name) for name in "abcd")
    add(a, "0", "1", "2", "3")
    add(b, "0", "1", "2", "3", need=4)
    add(c, "0", "1", "2", "3")
    add(d, "7")
    assert granted(a) == ("0",)
    assert granted(c) is None  # three are free, and kept for b
    assert granted(b) is None
    assert granted(d) == ("7",)
    queue.leave(a)
    assert granted(c) is None
    assert granted(b) == ("0", "1", "2", "3")
    turn = queue.turn(b)
    assert turn is not None and turn.environ["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"


def test_two_jobs_share_a_machine_side_by_side(supervised: Supervised) -> None:
    (a, _), (b, _), (c, _) = (supervised(name) for name in "abc")
    for run in (a, b, c):
        add(run, "0", "1")
    assert (granted(a), granted(b), granted(c)) == (("0",), ("1",), None)


def test_a_place_can_be_moved_and_only_a_place(supervised: Supervised) -> None:
    (a, _), (b, _), (c, _) = (supervised(name) for name in "abc")
    for run in (a, b, c):
        add(run)
    assert granted(a) == ("cpu",)
    line = Queue(a.state)
    with line.locked() as opened:
        assert opened.move(c.id, 1) == 1
    assert [e.run for e in line.waiting()] == [c.id, b.id] and line.position(b.id) == 2
    with line.locked() as opened:
        assert opened.move(c.id, 99) == 2
    assert [e.run for e in line.waiting()] == [b.id, c.id]
    with pytest.raises(UsageError), line.locked() as opened:
        opened.move(a.id, 1)
    assert granted(a) == ("cpu",)


def test_the_dead_hold_nothing(supervised: Supervised) -> None:
    (a, process), (b, _) = supervised("a"), supervised("b")
    add(a)
    add(b)
    assert granted(a) == ("cpu",)
    process.kill()
    process.wait()
    assert granted(b) == ("cpu",)
    assert [e.run for e in Queue(a.state).entries()] == [b.id]


def test_a_trainer_without_supervisor_keeps_its_devices(supervised: Supervised) -> None:
    (a, process), (b, _) = supervised("a"), supervised("b")
    add(a)
    add(b)
    assert granted(a) == ("cpu",)
    trainer = subprocess.Popen([sys.executable, "-c", HOLD, str(a.trainer_lock)], stdout=subprocess.PIPE, text=True)
    try:
        assert trainer.stdout is not None and trainer.stdout.readline() == "held\n"
        process.kill()
        process.wait()
        assert granted(b) is None
    finally:
        trainer.kill()
        trainer.communicate()
    assert granted(b) == ("cpu",)


def test_who_has_just_come_is_given_time_to_get_a_supervisor(store: RunStore, supervised: Supervised) -> None:
    young = store.create({"name": "young", "kind": "exec"})
    add(young)
    late, _ = supervised("late")
    add(late)
    assert granted(late) is None
    assert granted(young) == ("cpu",)


def test_a_supervisor_whose_place_was_lost_lines_up_again(supervised: Supervised) -> None:
    run, _ = supervised("a")
    (run.state / "queue.jsonl").write_text("garbage\n{}\n[1]\n" + json.dumps({"run": 1}) + "\n")
    assert Queue(run.state).entries() == []
    assert granted(run) is not None


def test_jobs_of_another_host_are_left_alone(supervised: Supervised) -> None:
    run, _ = supervised("a")
    add(run)
    path = run.state / "queue.jsonl"
    other = json.loads(path.read_text()) | {"run": "elsewhere", "host": "other", "granted": ["cpu"]}
    path.write_text(json.dumps(other) + "\n" + path.read_text())
    assert granted(run) == ("cpu",)
    assert [e.run for e in Queue(run.state).entries()] == ["elsewhere", run.id]
    assert oct(path.stat().st_mode & 0o777) == "0o600"
