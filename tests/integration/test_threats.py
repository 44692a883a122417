"""The rows of the threat table that jobs answer for; the row stands in the test's id."""

from __future__ import annotations

import json
import os
import time
import uuid
from pathlib import Path

import pytest

from llamahome_tui.config.places import Places
from llamahome_tui.jobs import control, spawn
from llamahome_tui.jobs.journal import read
from llamahome_tui.jobs.status import Status, derive
from llamahome_tui.jobs.store import Run, RunStore
from tests.conftest import eventually
from tests.toytrainer import toy_job

STRANGER = 65534


def launched(places: Places, environ: dict[str, str], folder: Path) -> Run:
    run = RunStore(places).create(toy_job(folder))
    spawn.launch(run, environ)
    eventually(lambda: derive(run).status is Status.RUNNING, "the run")
    return run


def test_T09_no_secret_reaches_a_child_or_a_file(places: Places, environ: dict[str, str], tmp_path: Path) -> None:
    canary = "hf_canary" + uuid.uuid4().hex
    run = launched(places, environ | {"HF_TOKEN": canary, "WANDB_API_KEY": canary}, tmp_path)
    found = derive(run)
    for pid in (found.trainer_pid, found.supervisor_pid):
        for name in ("environ", "cmdline"):
            assert canary.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()
    control.drop(run, "stop")
    eventually(lambda: not run.live, "the end")
    for path in places.state.rglob("*"):
        if path.is_file():
            assert canary.encode() not in path.read_bytes(), path


def test_T11_what_a_run_writes_is_private(places: Places, environ: dict[str, str], tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        run = launched(places, environ, tmp_path)
    finally:
        os.umask(previous)
    control.drop(run, "stop")
    eventually(lambda: not run.live, "the end")
    for path in [run.dir, *run.dir.rglob("*"), *run.locks.iterdir()]:
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make files that belong to somebody else")
def test_T14_a_request_by_another_user_is_refused(places: Places, environ: dict[str, str], tmp_path: Path) -> None:
    run = launched(places, environ, tmp_path)
    forged = f"{int(time.time() * 1000)}-{uuid.uuid4().hex}"
    for uid in (STRANGER, 0):  # what is written in it changes nothing
        path = run.control_dir / f"{forged}.json"
        path.write_text(json.dumps({"v": 1, "op": "stop", "value": {"now": True}, "uid": uid}))
        os.chown(path, STRANGER, STRANGER)
        answer = eventually(
            lambda: next((r for r in read(run.events_path) if r["type"] == "control"), None), "the answer"
        )
        assert (answer["request"], answer["outcome"]) == (forged, "refused")
        assert str(STRANGER) in answer["reason"]
        time.sleep(0.6)
        assert derive(run).status is Status.RUNNING
    control.drop(run, "stop")
    eventually(lambda: derive(run).status is Status.STOPPED, "the owner's stop")
