"""The course of a run, read from its journals, as another run is to follow it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.context import Context
from llamahome_tui.errors import NotFoundError, UsageError
from llamahome_tui.jobs import replay, spawn
from llamahome_tui.jobs.journal import JournalWriter
from llamahome_tui.jobs.store import Run, RunStore
from llamahome_tui.outcome import Note, Result
from llamahome_tui.training.replay_command import replay_run
from llamahome_tui.training.replaying import origin_of
from llamahome_tui.training.spec import Spec
from tests.runfolder import make_run
from tests.tinymodel import write_chats

Told = tuple[int, str, Any]


def journal(path: Path, *records: tuple[str, dict[str, Any]]) -> None:
    writer = JournalWriter(path)
    for kind, fields in records:
        writer.append(kind, **fields)
    writer.close()


def asked(step: int, op: str, value: Any = None, outcome: str = "applied") -> tuple[str, dict[str, Any]]:
    name = f"{step:013}-{op}-{value}"
    return "control", {"request": name, "op": op, "value": value, "outcome": outcome, "reason": "", "step": step}


def start(attempt: int, step: int, **more: Any) -> tuple[str, dict[str, Any]]:
    return "start", {"attempt": attempt, "from_step": step, "exact": True, "reason": "", **more}


def ended(reason: str, step: int) -> tuple[str, dict[str, Any]]:
    return "end", {"reason": reason, "step": step}


def begun(attempt: int, **changes: Any) -> tuple[str, dict[str, Any]]:
    return "begin", {"attempt": attempt, "set": {key.replace("__", "."): value for key, value in changes.items()}}


def course(tmp_path: Path, records: list[Any], begins: list[Any] | None = None, **job: Any) -> list[Told]:
    run = RunStore(tmp_path).create({"name": "a", "kind": "train", "spec": {}, **job})
    journal(run.events_path, *records)
    journal(run.supervisor_path, *(begins or []))
    return [(one["step"], one["op"], one["value"]) for one in replay.as_job(run)]


def test_what_was_applied_counts_and_each_once(tmp_path: Path) -> None:
    told = course(
        tmp_path,
        [start(1, 0), asked(3, "save"), asked(5, "lr", 0.1), asked(6, "eval", outcome="superseded"),
         asked(7, "sample", outcome="refused"), start(2, 3), asked(5, "lr", 0.1), ended("completed", 9)],
    )  # fmt: skip
    assert told == [(3, "save", None), (5, "lr", 0.1)]


def test_only_the_last_leaving_is_left_again(tmp_path: Path) -> None:
    paused = [start(1, 0), asked(4, "pause"), ended("paused", 4)]
    stopped = [start(2, 4), asked(6, "stop"), ended("stopped", 6)]
    assert course(tmp_path, paused) == [(4, "pause", None)]
    assert course(tmp_path, [*paused, *stopped]) == [(4, "save", None), (6, "stop", None)]
    assert course(tmp_path, [*paused, start(2, 4), ended("completed", 9)]) == [(4, "save", None)]
    assert course(tmp_path, [start(1, 0), ended("stopped", 0)]) == []


def test_a_rate_given_to_a_resume_is_asked_for_where_it_began(tmp_path: Path) -> None:
    records = [start(1, 0), asked(3, "lr", 0.1), asked(5, "lr", 0.2), start(2, 4), asked(6, "lr", 0.3), start(3, 2)]
    begins = [begun(1), begun(2, training__learning_rate=0.05), begun(3)]
    assert course(tmp_path, records[:4], begins[:2]) == [(3, "lr", 0.1), (4, "lr", 0.05)]
    # The third attempt fell back behind the second: the rate holds from there on.
    assert course(tmp_path, records, begins) == [(2, "lr", 0.05), (3, "lr", 0.1), (6, "lr", 0.3)]


def test_a_replay_can_be_replayed_before_it_came_to_an_end(tmp_path: Path) -> None:
    planned = [{"step": 2, "op": "lr", "value": 0.1}, {"step": 8, "op": "stop", "value": None}]
    done = {"request": "replay-000001", "op": "lr", "value": 0.1, "outcome": "applied", "step": 2}
    left = {"request": "replay-000002", "op": "stop", "value": None, "outcome": "applied", "step": 8}
    records = [start(1, 0), ("control", done)]
    assert course(tmp_path, records, replay=planned) == [(2, "lr", 0.1), (8, "stop", None)]
    told = course(tmp_path, [*records, ("control", left), ended("stopped", 8), start(2, 8)], replay=planned)
    assert told == [(2, "lr", 0.1), (8, "save", None)]


def trained(context: Context, tmp_path: Path, **first: Any) -> Run:
    """A run of the demo's model on a data file, as its journal says it was."""
    data = write_chats(tmp_path / "chats.jsonl", 48)
    spec = Spec.from_dict({"name": "a", "model": {"id": "demo"}, "data": {"train": [str(data)], "eval": 8}})
    run = RunStore(context.places).create({"name": "a", "kind": "train", "spec": spec.to_dict()})
    from llamahome_tui.jobs.recovery import sha256_of

    files = {"files": {str(data): sha256_of(data)}}
    journal(run.events_path, start(1, 0, **first), ("phase", {"phase": "model", "data": files}), asked(3, "lr", 0.1))
    return run


def test_it_becomes_a_run_that_names_its_origin(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    launched: list[Run] = []
    monkeypatch.setattr(spawn, "launch", lambda run, environ: launched.append(run))
    old = trained(context, tmp_path)
    *said, last = replay_run(context, old.id, detach=True)
    (made,) = launched
    assert isinstance(last, Result) and last.data["id"] == made.id != old.id
    assert (last.data["replay_of"], last.data["differs"]) == (old.id, [])
    assert made.name == "a-replay" and made.job["replay_of"]["run"] == old.id
    assert made.job["replay"] == last.data["replays"] == [{"step": 3, "op": "lr", "value": 0.1}]
    assert [one.text for one in said if isinstance(one, Note)] == [f"replays {old.id}: lr=0.1 after step 3"]


def test_what_differs_is_said_before_it_begins(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(spawn, "launch", lambda run, environ: None)
    old = trained(context, tmp_path, host="elsewhere", versions={"torch": "1.0"}, devices=["cpu"])
    write_chats(tmp_path / "chats.jsonl", 56)
    *said, last = replay_run(context, old.id, name="again", detach=True)
    text = "; ".join(last.data["differs"])
    assert "host was elsewhere" in text and "torch was 1.0" in text and f"data changed: {tmp_path}/chats" in text
    assert any(isinstance(one, Note) and text in one.text for one in said)
    (tmp_path / "chats.jsonl").unlink()
    with pytest.raises(NotFoundError):
        list(replay_run(context, old.id, name="third", detach=True))
    assert len(RunStore(context.places).list()) == 2


def test_what_a_replay_cannot_follow_makes_it_doubtful(tmp_path: Path) -> None:
    run = make_run(
        tmp_path, "a", done=20, end="stopped",
        extra=(start(2, 10), start(3, 12, exact=False, reason="host was x"),
               ("degrade", {"step": 15, "what": "micro-batch 512 tokens", "why": "memory ran out"})),
    )  # fmt: skip
    changes = {"training__max_steps": 50, "training__log_every": 1, "training__learning_rate": "auto"}
    journal(run.supervisor_path, begun(2, **changes))
    doubts = origin_of(run).doubts
    assert doubts == (
        "training.max_steps changed after its step 10, and here holds from the beginning",
        "its training.learning_rate became 'auto' after step 10, which a replay can't set",
        "its attempt 3 was not exact itself: host was x",
        "memory ran out in it, and may not at the same place again",
    )


def test_a_wrapped_command_has_no_course(context: Context) -> None:
    run = make_run(context.places.state, "a", kind="exec", command=("true",))
    with pytest.raises(UsageError, match="wrapped command") as refused:
        list(replay_run(context, run.id))
    assert refused.value.exit == 2 and "runs exec" in refused.value.hint
    other = make_run(context.places.state, "b", done=20)
    with pytest.raises(UsageError, match="is no name"):
        list(replay_run(context, other.id, name="a b"))
