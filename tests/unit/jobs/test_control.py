"""Requests: ordered, never edited, obeyed only when their owner is the run's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llamahome_tui.jobs import control
from llamahome_tui.jobs.journal import JournalWriter
from llamahome_tui.jobs.store import Run, RunStore


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return RunStore(tmp_path / "state").create({"name": "a"})


def test_requests_come_in_their_order(run: Run) -> None:
    ids = [control.drop(run, "lr", value) for value in (1e-3, 2e-3, 3e-3)]
    assert [request.id for request in control.pending(run)] == ids
    assert [request.value for request in control.pending(run)] == [1e-3, 2e-3, 3e-3]
    assert all(request.uid == os.getuid() and not request.fault for request in control.pending(run))


def test_order_survives_a_clock_that_was_put_back(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first = control.drop(run, "save")
    monkeypatch.setattr(control.time, "time", lambda: 1_500_000_000.0)
    second = control.drop(run, "eval")
    assert first < second


def test_answers_close_requests(run: Run) -> None:
    asked = control.drop(run, "save")
    other = control.drop(run, "eval")
    writer = JournalWriter(run.supervisor_path)
    writer.append("control", request=asked, outcome="refused", reason="")
    writer.close()
    assert [request.id for request in control.pending(run)] == [other]


def test_unknown_requests_are_refused_at_the_source(run: Run) -> None:
    with pytest.raises(ValueError, match="no such request"):
        control.drop(run, "explode")
    with pytest.raises(ValueError, match="64 KiB"):
        control.drop(run, "lr", "x" * 70_000)


def test_a_stop_holds_until_a_resume_comes_after_it(run: Run) -> None:
    assert control.stop_requested(run) is None
    stop = control.drop(run, "stop")
    assert control.stop_requested(run).id == stop  # type: ignore[union-attr]  # the assertion itself
    control.drop(run, "resume")
    assert control.stop_requested(run) is None
    assert control.resume_in(control.requests(run)) is not None
    control.drop(run, "stop", {"now": True})
    assert control.resume_in(control.requests(run)) is None


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "not a request"),
        (b"{", "not a request"),
        (b"[" * 100_000, "not a request"),
        (b'{"v":1,"op":"explode","uid":0}', "not a request"),
        (b'{"v":1,"op":"stop","value":null,"uid":123456}', "not the owner"),
        (b'{"v":1,"op":"stop","value":null}', "not the owner"),
    ],
)
def test_a_file_that_is_no_request_has_a_fault(run: Run, content: bytes, fault: str) -> None:
    (run.control_dir / f"1700000000000-{'a' * 32}.json").write_bytes(content)
    (found,) = control.requests(run)
    assert fault in found.fault
    assert control.stop_requested(run) is None


def test_links_pipes_and_other_names_are_not_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("{}")
    (run.control_dir / f"1700000000000-{'a' * 32}.json").symlink_to(tmp_path / "other")
    os.mkfifo(run.control_dir / f"1700000000001-{'b' * 32}.json")
    (run.control_dir / "readme.txt").write_text("x")
    assert [bool(request.fault) for request in control.requests(run)] == [True, True]


def test_the_inbox_looks_again_only_when_something_changed(run: Run) -> None:
    inbox = control.Inbox(run)
    assert inbox.look() == []
    for number in range(20):
        control.drop(run, "lr", number)
        assert len(inbox.look()) == number + 1


def test_answers_are_read_once_however_often_they_are_asked_for(run: Run) -> None:
    journal = JournalWriter(run.events_path)
    journal.append("control", request="a")
    answers = control.Answers(run)
    assert answers.look() == {"a"}
    with run.events_path.open("ab") as file:
        file.write(b'{"v":1,"seq":2,"t":1,"mono":1,"type":"control",')
    assert answers.look() == {"a"}
    with run.events_path.open("ab") as file:
        file.write(b'"request":"b"}\n')
    supervisor = JournalWriter(run.supervisor_path)
    supervisor.append("control", request="c")
    assert answers.look() == {"a", "b", "c"}
    journal.close()
    supervisor.close()
