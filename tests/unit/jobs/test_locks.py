"""Record locks: held by one process, seen by all, given back by death, and never dropped by looking."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from pathlib import Path

from llamahome_tui.jobs.locks import RecordLock, holder
from tests.conftest import eventually


def in_child(act) -> int:  # type: ignore[no-untyped-def]  # a lambda
    """Exit status of a forked child that does `act`."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(int(act() or 0))
        except BaseException:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_one_holder(tmp_path: Path) -> None:
    lock = RecordLock(tmp_path / "a")
    assert holder(lock.path) is None
    assert lock.acquire()
    assert lock.held
    assert holder(lock.path) == os.getpid()
    me = os.getpid()
    assert in_child(lambda: 7 if holder(lock.path) == me and not RecordLock(lock.path).acquire() else 1) == 7
    lock.release()
    assert holder(lock.path) is None
    assert in_child(lambda: 7 if RecordLock(lock.path).acquire() else 1) == 7


def test_looking_from_within_does_not_drop_it(tmp_path: Path) -> None:
    lock = RecordLock(tmp_path / "a")
    assert lock.acquire()
    for _ in range(5):
        assert holder(lock.path) == os.getpid()
        assert not RecordLock(lock.path).acquire()
        link = tmp_path / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path)
        assert holder(link / "a") == os.getpid()
    assert in_child(lambda: 7 if holder(lock.path) else 1) == 7
    lock.release()


def test_threads_cannot_drop_each_others_lock(tmp_path: Path) -> None:
    lock = RecordLock(tmp_path / "a")
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            holder(lock.path)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(50):
            assert lock.acquire()
            assert in_child(lambda: 7 if holder(lock.path) else 1) == 7
            lock.release()
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_fork_holds_nothing_and_its_end_takes_nothing(tmp_path: Path) -> None:
    lock = RecordLock(tmp_path / "a")
    assert lock.acquire()

    def child() -> int:
        lock.release()  # not its own: without effect
        return 7 if not lock.held and holder(lock.path) == os.getppid() else 1

    assert in_child(child) == 7
    assert in_child(lambda: 7 if holder(lock.path) else 1) == 7
    lock.release()


def test_death_gives_it_back(tmp_path: Path) -> None:
    path = tmp_path / "a"

    def hold(path: Path) -> None:
        RecordLock(path).acquire()
        signal.pause()

    child = multiprocessing.get_context("fork").Process(target=hold, args=(path,))
    child.start()
    eventually(lambda: holder(path) == child.pid, "the lock")
    os.kill(child.pid or 0, signal.SIGKILL)
    child.join()
    assert holder(path) is None
    assert RecordLock(path).acquire()


def test_blocking_waits(tmp_path: Path) -> None:
    first, second = RecordLock(tmp_path / "a"), RecordLock(tmp_path / "a")
    assert first.acquire()
    assert not second.acquire(blocking=True, timeout=0.05)
    threading.Timer(0.1, first.release).start()
    assert second.acquire(blocking=True, timeout=5)
    second.release()
