"""Work with a callback as outcomes: progress, at the end its value or its error, and an end when nobody reads."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from llamahome_tui.errors import DataError
from llamahome_tui.outcome import Progress
from llamahome_tui.telling import told
from tests.conftest import eventually


def outcomes(work):
    """What `told` yields, and what it returns."""
    seen = []

    def all_of_it():
        seen.append((yield from told(work, "reading")))

    found = list(all_of_it())
    return found, seen[0]


def test_progress_and_value():
    def work(progress):
        for done in range(1, 11):
            progress(done, 10)
            time.sleep(0.06)
        return "done"

    found, value = outcomes(work)
    assert value == "done"
    assert found
    assert all(
        isinstance(one, Progress) and (one.label, one.total, one.unit) == ("reading", 10, "bytes") for one in found
    )
    assert [one.done for one in found] == sorted(one.done for one in found)


def test_what_is_done_at_once_yields_nothing():
    assert outcomes(lambda _: 3) == ([], 3)


def test_an_error_is_raised_where_it_is_read():
    def work(_):
        raise DataError("no")

    with pytest.raises(DataError, match="no"):
        outcomes(work)


def test_work_that_nobody_reads_ends():
    ended = threading.Event()

    def work(progress):
        try:
            while True:
                progress(1, 2)
                time.sleep(0.01)
        finally:
            ended.set()

    reading = told(work, "x")
    next(reading)
    reading.close()
    eventually(ended.is_set, "the end of the work", timeout=5)


def test_work_ends_before_ctrl_c_goes_on():
    ended = threading.Event()

    def work(progress):
        try:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            while True:
                progress(1, 2)
                time.sleep(0.01)
        finally:
            ended.set()

    with pytest.raises(KeyboardInterrupt):
        for _ in told(work, "working"):
            pass
    assert ended.is_set()
