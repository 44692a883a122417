"""The index of ended runs: a hit only while nothing has been touched, whatever is touched and however it is broken."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.jobs import control, index
from llamahome_tui.jobs.index import Index
from llamahome_tui.jobs.store import Run, RunStore
from llamahome_tui.jobs.view import summarise


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run that is over, and a clock that makes its files old enough to be trusted."""
    run = RunStore(tmp_path).create({"name": "r", "kind": "exec", "command": ["true"]})
    control.drop(run, "stop")
    monkeypatch.setattr(index, "_SETTLED_NS", 0)
    time.sleep(0.01)
    return run


def opened(run: Run) -> Index:
    return Index(run.state / "cache" / "runs.json", run.dir.parent)


def remember(run: Run) -> dict[str, Any]:
    book = opened(run)
    summary, files = book.get(run)
    assert summary is None
    view = summarise(run)
    assert view.status == "stopped"
    book.put(run, files, view.to_dict(), view.last_t)
    book.save()
    return view.to_dict()


def test_what_was_remembered_is_given_back(ended: Run) -> None:
    summary = remember(ended)
    found, _ = opened(ended).get(ended)
    assert found == summary


TOUCHES: dict[str, Callable[[Run], object]] = {
    "a record": lambda run: run.events_path.write_text('{"v":1}\n'),
    "a supervisor's record": lambda run: run.supervisor_path.write_text('{"v":1}\n'),
    "a label": lambda run: run.set_labels(tags=["x"]),
    "a request": lambda run: control.drop(run, "resume"),
    "another spec": lambda run: (run.dir / "spec.json").write_text("{}"),
    "a file put in its place": lambda run: (
        (run.dir / "new").write_bytes((run.dir / "spec.json").read_bytes()),
        (run.dir / "new").replace(run.dir / "spec.json"),
    ),
    "times set back": lambda run: os.utime(run.dir / "spec.json", (1, 1)),
}


@pytest.mark.parametrize("touch", TOUCHES.values(), ids=TOUCHES)
def test_whatever_is_touched_it_is_read_anew(ended: Run, touch: Callable[[Run], object]) -> None:
    remember(ended)
    touch(ended)
    assert opened(ended).get(ended)[0] is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"seen_by":1}', b"\xff", b'{"seen_by":"x","runs":[]}'])
def test_a_broken_index_is_no_index(ended: Run, content: bytes) -> None:
    remember(ended)
    (ended.state / "cache" / "runs.json").write_bytes(content)
    assert opened(ended).get(ended)[0] is None
    remember(ended)
    assert opened(ended).get(ended)[0] is not None


def test_another_boot_may_see_it_differently(ended: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(ended)
    monkeypatch.setattr(index, "boot_id", lambda: "another")
    assert opened(ended).get(ended)[0] is None


def test_what_has_just_changed_is_not_trusted_yet(ended: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_SETTLED_NS", 3_600_000_000_000)
    remember(ended)
    assert opened(ended).get(ended)[0] is None


def test_removed_runs_leave_the_index_and_a_read_only_folder_is_no_error(ended: Run) -> None:
    remember(ended)
    ended.dir.rename(ended.dir.parent / "aside")
    opened(ended).save()
    assert ended.id not in (ended.state / "cache" / "runs.json").read_text()
    nowhere = Index(Path("/proc/no/such"), ended.dir.parent)
    nowhere.put(ended, [[1, 1, 1]], {}, None)
    nowhere.save()
