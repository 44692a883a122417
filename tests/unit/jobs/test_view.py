"""What a run's journals say about it: both ways of reading agree, void measurements are dropped, clocks may jump."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.jobs import history
from llamahome_tui.jobs.identity import Identity
from llamahome_tui.jobs.journal import JournalWriter
from llamahome_tui.jobs.store import Run, RunStore
from llamahome_tui.jobs.view import summarise

GONE = {**Identity.mine().fields(), "pid": 2**22 - 1, "start_ticks": 1}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    store = RunStore(tmp_path)
    spec = {"model": {"id": "demo"}, "method": {"kind": "sft"}, "evaluation": {"metric": "eval_loss"}}
    return store.create({"name": "r", "kind": "train", "spec": spec, "tags": ["t"]})


def write(run: Run, *records: dict[str, Any]) -> None:
    """A journal whose records come one second apart, by both clocks, unless they say otherwise."""
    size = sum(1 for _ in run.events_path.open()) if run.events_path.exists() else 0
    with run.events_path.open("a") as file:
        for number, record in enumerate(records, size + 1):
            frame = {"v": 1, "seq": number, "t": 1000.0 + number, "mono": 50.0 + number}
            file.write(json.dumps(frame | record, separators=(",", ":")) + "\n")


def start(attempt: int = 1, from_step: int = 0, **more: Any) -> dict[str, Any]:
    return {"type": "start", "attempt": attempt, "from_step": from_step, "exact": True, "reason": "", **GONE, **more}


def metrics(step: int, **values: float) -> dict[str, Any]:
    return {"type": "metrics", "step": step, **values}


def progress(step: int, steps: int = 100, **more: Any) -> dict[str, Any]:
    return {"type": "progress", "step": step, "steps": steps, "epoch": step / steps, "eta_s": 9.0, **more}


def end(**more: Any) -> dict[str, Any]:
    return {"type": "end", "reason": "completed", **more}


def test_an_empty_run_is_queued_and_knows_nothing(run: Run) -> None:
    view = summarise(run, full=True, queued={})
    assert (view.status, view.step, view.metrics, view.best, view.elapsed_s) == ("queued", None, {}, None, None)
    assert json.dumps(view.to_dict())


@pytest.mark.parametrize("full", [False, True])
def test_the_newest_of_everything(run: Run, full: bool) -> None:
    write(run, start(), {"type": "phase", "phase": "train"}, metrics(1, loss=3.0, lr=0.1), progress(1))
    write(run, metrics(2, loss=2.0, lr=0.2, memory_peak_bytes=7), progress(2), metrics(2, eval_loss=1.5), end())
    view = summarise(run, full=full)
    assert (view.status, view.step, view.steps, view.phase) == ("completed", 2, 100, None)
    assert view.metrics == {"loss": 2.0, "lr": 0.2, "memory_peak_bytes": 7, "eval_loss": 1.5}
    assert view.best == {"metric": "eval_loss", "value": 1.5, "step": 2, "path": None}
    assert view.memory == {"predicted_bytes": None, "measured_bytes": 7}
    assert view.elapsed_s == 7.0 and view.eta_s is None
    assert (view.model, view.method, view.tags) == ("demo", "sft", ("t",))


@pytest.mark.parametrize("full", [False, True])
def test_measurements_past_the_step_a_later_attempt_began_at_are_void(run: Run, full: bool) -> None:
    write(
        run, start(), metrics(10, loss=2.0, eval_loss=1.0), metrics(20, loss=1.0, eval_loss=0.5, odd=1.0), progress(20)
    )
    write(run, {"type": "error", "code": "x", "message": "boom"}, {"type": "end", "reason": "failed"})
    write(run, start(2, from_step=10), progress(10))
    view = summarise(run, full=full)
    assert (view.attempt, view.step) == (2, 10)
    assert view.metrics == {"loss": 2.0, "eval_loss": 1.0}
    if full:
        assert view.best is not None and view.best["value"] == 1.0
        assert [(r["attempt"], r["from_step"]) for r in view.recoveries] == [(2, 10)]


def test_the_best_evaluation_is_found_however_far_back(run: Run) -> None:
    filler = [progress(step) for step in range(1, 5000)]
    write(run, start(), metrics(1, eval_loss=0.25), *filler, metrics(5000, eval_loss=0.75), end())
    for view in (summarise(run), summarise(run, full=True)):
        assert view.best is not None and (view.best["value"], view.best["step"]) == (0.25, 1)
        assert view.metrics["eval_loss"] == 0.75


def test_what_the_trainer_recorded_as_best_comes_first(run: Run) -> None:
    best = {"metric": "eval_exact", "value": 0.9, "step": 5, "path": "checkpoints/step-5"}
    write(run, start(), metrics(5, eval_loss=0.5), {"type": "checkpoint", "step": 5, "best": best}, end(best=best))
    for full in (False, True):
        found = summarise(run, full=full).best
        assert found == {**best, "path": str(run.dir / "checkpoints/step-5")}


def test_F21_elapsed_follows_the_monotonic_clock(run: Run) -> None:
    write(run, start(t=5000.0, mono=10.0), metrics(1, loss=1.0, t=100.0, mono=15.0), end(t=90_000_000.0, mono=40.0))
    assert summarise(run).elapsed_s == summarise(run, full=True).elapsed_s == 30.0


def test_elapsed_is_the_time_of_work_over_all_attempts(run: Run) -> None:
    write(run, start(mono=10.0), metrics(1, loss=1.0, mono=15.0), start(2, 1, mono=100.0), end(mono=107.0))
    assert summarise(run).elapsed_s == summarise(run, full=True).elapsed_s == 12.0


def test_checkpoints_on_the_disk_and_artifacts(run: Run) -> None:
    from llamahome_tui.jobs.recovery import write_complete

    for step in (1, 2):
        folder = run.checkpoints_dir / f"step-{step}"
        folder.mkdir()
        (folder / "weights").write_bytes(b"x" * 100)
    write_complete(run.checkpoints_dir / "step-1", 1)
    artifact = {"type": "artifact", "kind": "adapter", "path": "artifacts/adapter", "bytes": 5, "sha256": "ab"}
    write(run, start(), {"type": "checkpoint", "step": 1, "path": "checkpoints/step-1", "bytes": 100}, artifact, end())
    view = summarise(run, full=True)
    assert [(c["step"], c["complete"]) for c in view.checkpoints] == [(1, True), (2, False)]
    assert view.checkpoints[0]["t"] == "1970-01-01T00:16:42.000Z" and view.checkpoints[1]["t"] is None
    assert [(a["kind"], a["exists"]) for a in view.artifacts] == [("adapter", False)]
    assert not {"checkpoints", "artifacts", "recoveries"} & summarise(run).to_dict().keys()


@pytest.mark.parametrize(
    "damage", [b"\0\0\0\0", b'{"v":1,"seq":9,"t":1', b"garbage\n", b'{"v":1}\n', b"\n\n", b'[{"type":"end"}]\n']
)
def test_F17_a_damaged_tail_changes_nothing(run: Run, damage: bytes) -> None:
    write(run, start(), metrics(1, loss=1.0), progress(1), end())
    before = summarise(run, full=True)
    with run.events_path.open("ab") as file:
        file.write(damage)
    after = summarise(run, full=True)
    assert (after.status, after.metrics, after.step, after.elapsed_s) == (
        before.status,
        before.metrics,
        1,
        before.elapsed_s,
    )


def test_a_broken_spec_is_shown_and_said(run: Run) -> None:
    (run.dir / "spec.json").write_text("{")
    view = summarise(Run(run.id, run.dir), full=True)
    assert view.name == "r" and "spec.json" in view.reason


def test_secrets_in_a_command_are_not_shown(tmp_path: Path) -> None:
    run = RunStore(tmp_path).create(
        {"name": "x", "kind": "exec", "command": ["curl", "-H", "token=hf_abcdefghijklmnop"]}
    )
    assert "hf_abc" not in json.dumps(summarise(run, full=True, queued={}).to_dict())


def test_a_journal_of_its_own_writer_reads_the_same(run: Run) -> None:
    writer = JournalWriter(run.events_path)
    writer.append("start", **{k: v for k, v in start().items() if k != "type"})
    for step in range(1, 400):
        writer.append("progress", step=step, steps=400)
        writer.append("metrics", step=step, loss=1 / step)
    writer.close()
    found = history.newest(run.events_path)
    assert (found.step, found.steps, found.metrics) == (399, 400, {"loss": 1 / 399})
    assert len(history.whole(run.events_path).attempts) == 1
    assert history.whole(run.events_path).attempts[0].last["step"] == 399


def test_a_run_whose_spec_is_broken_failed_and_can_be_removed(run: Run) -> None:
    from llamahome_tui.jobs.commands.removing import execute, make_plan

    (run.dir / "spec.json").write_text("{")
    store = RunStore(run.state)
    found = store.resolve("r")
    view = summarise(found)
    assert (view.status, view.adoptable) == ("failed", False) and "runs remove" in view.hint
    assert make_plan(store, found).status == "failed"
    assert execute(store, found) == [] and store.list() == []


def test_a_silent_run_of_another_machine_is_not_removed_from_here(tmp_path: Path) -> None:
    from llamahome_tui.errors import BusyError
    from llamahome_tui.jobs.commands.removing import make_plan

    store = RunStore(tmp_path / "state")
    run = store.create({"name": "a", "kind": "train"})
    there = {**Identity.mine().fields(), "host": "elsewhere"}
    for path, kind in ((run.supervisor_path, "spawn"), (run.events_path, "start")):
        journal = JournalWriter(path)
        journal.append(kind, attempt=1, events_bytes=0, from_step=0, **there)
        journal.close()
        os.utime(path, (1e9, 1e9))
    with pytest.raises(BusyError, match="only its own machine"):
        make_plan(store, run)
    journal = JournalWriter(run.events_path)
    journal.append("end", reason="completed")
    journal.close()
    assert make_plan(store, run).status == "completed"
