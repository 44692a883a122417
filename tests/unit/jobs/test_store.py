"""The store of runs: whole folders or none, ids that stay, words that find them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from llamahome_tui.errors import ConfigError, NotFoundError, UsageError
from llamahome_tui.jobs import control
from llamahome_tui.jobs.journal import JournalWriter
from llamahome_tui.jobs.locks import RecordLock
from llamahome_tui.jobs.store import Run, RunStore


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "state")


def test_a_run_is_made_whole_and_private(store: RunStore) -> None:
    run = store.create({"name": "My Run", "kind": "train", "spec": {"a": 1}})
    assert run.id.endswith("-my-run")
    assert run.job["name"] == "My Run"
    assert run.job["id"] == run.id
    assert run.job["created_at"].endswith("Z")
    assert sorted(path.name for path in run.dir.iterdir()) == ["artifacts", "checkpoints", "control", "spec.json"]
    for path in (run.dir, run.control_dir, store.runs, store.locks):
        assert path.stat().st_mode & 0o777 == 0o700
    assert (run.dir / "spec.json").stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in store.runs.iterdir()] == [run.id]


def test_what_a_killed_start_has_left_is_cleared_away_later(store: RunStore, tmp_path: Path) -> None:
    store.prepare()
    young, old, link = (store.runs / f".new-{word}" for word in ("young", "old", "link"))
    for folder in (young, old):
        (folder / "control").mkdir(parents=True)
    link.symlink_to(tmp_path)
    for folder in (old, link):
        os.utime(folder, (0, 0), follow_symlinks=False)
    run = store.create({"name": "a"})
    assert {path.name for path in store.runs.iterdir()} == {".new-young", ".new-link", run.id}
    assert store.list() == [run]


def test_ids_are_unique_and_newest_comes_first(store: RunStore) -> None:
    runs = [store.create({"name": "a"}) for _ in range(3)]
    assert len({run.id for run in runs}) == 3
    assert {run.id for run in store.list()} == {run.id for run in runs}
    assert store.list() == sorted(runs, key=lambda run: run.id, reverse=True)


def test_what_is_no_run_is_not_listed(store: RunStore, tmp_path: Path) -> None:
    run = store.create({"name": "a"})
    (store.runs / ".new-1").mkdir()
    (store.runs / "notes").mkdir()
    (store.runs / "20200101-000000-link").symlink_to(tmp_path)
    assert store.list() == [run]


def test_resolving(store: RunStore) -> None:
    with pytest.raises(NotFoundError, match="no run yet"):
        store.resolve("latest")
    first = store.create({"name": "alpha"})
    first.dir.rename(store.runs / "20200101-000000-alpha")
    first = Run.open(store.runs / "20200101-000000-alpha")
    second, third = store.create({"name": "alpha"}), store.create({"name": "beta"})
    assert store.resolve("latest") == store.list()[0]
    assert store.resolve(third.id) == third
    assert store.resolve("20200101") == first
    assert store.resolve("beta") == third
    with pytest.raises(UsageError) as several:
        store.resolve("alpha")
    assert set(several.value.data["candidates"]) == {first.id, second.id}
    assert several.value.exit == 2
    lock = RecordLock(second.supervisor_lock)
    assert lock.acquire()
    assert store.resolve("alpha") == second  # the live one
    assert store.live("alpha") == second
    lock.release()
    with pytest.raises(UsageError):
        store.resolve("20")
    for text in ("nothing", ""):
        with pytest.raises(NotFoundError) as missing:
            store.resolve(text)
        assert missing.value.exit == 4


def test_labels_are_replaced_whole(store: RunStore) -> None:
    run = store.create({"name": "a"})
    assert run.labels() == {}
    assert run.set_labels(tags=["x"], note="n") == {"tags": ["x"], "note": "n"}
    assert run.set_labels(note=None) == {"tags": ["x"]}
    run.labels_path.write_text("[broken")
    assert run.labels() == {}


def test_a_broken_spec_is_said(store: RunStore) -> None:
    run = store.create({"name": "a"})
    (run.dir / "spec.json").write_text("{")
    with pytest.raises(ConfigError) as broken:
        _ = Run(run.id, run.dir).job
    assert broken.value.error_code == "run.broken"


def test_resume_requests_change_the_effective_job_only(store: RunStore) -> None:
    run = store.create({"name": "a", "spec": {"training": {"max_steps": 10}}})
    control.drop(run, "resume", {"set": {"training.max_steps": 20, "lora.r": 4}})
    control.drop(run, "resume", {"set": {"training.max_steps": 30}})
    assert run.effective_job()["spec"] == {"training": {"max_steps": 30}, "lora": {"r": 4}}
    assert run.job["spec"] == {"training": {"max_steps": 10}}
    assert json.loads((run.dir / "spec.json").read_text())["spec"] == {"training": {"max_steps": 10}}


def test_a_file_in_the_place_of_the_state_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(ConfigError) as refused:
        RunStore(tmp_path / "state").create({"name": "a"})
    assert refused.value.error_code == "places.not_writable"
    assert "LLAMAHOME_HOME" in refused.value.hint


@pytest.mark.parametrize("begun", [False, True])
def test_changes_of_a_resume_count_unless_a_stop_came_before_it_began(store: RunStore, begun: bool) -> None:
    run = store.create({"name": "a", "kind": "train", "spec": {"training": {"epochs": 1}}})
    request = control.drop(run, "resume", {"set": {"training.epochs": 3}})
    assert run.effective_job()["spec"]["training"]["epochs"] == 3
    if begun:
        writer = JournalWriter(run.supervisor_path)
        writer.append("begin", attempt=2, request=request)
        writer.close()
    control.drop(run, "stop", {"now": False})
    assert run.effective_job()["spec"]["training"]["epochs"] == (3 if begun else 1)
