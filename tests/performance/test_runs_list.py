"""`llamahome --batch runs list` with 200 runs, against `hf version`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, clean_environ

RUNS, ROUNDS = 200, 9
LIMIT, SLACK = 0.5, 1.5
SETTLED_S = 2.1  # as `jobs/index.py` has it, and a little


def make_runs(places, count: int) -> None:
    """Ended runs with journals as a trainer writes them, made through the store and the journal themselves."""
    from llamahome_tui.jobs.identity import Identity
    from llamahome_tui.jobs.journal import JournalWriter
    from llamahome_tui.jobs.store import RunStore
    from llamahome_tui.training.spec import make_spec

    store = RunStore(places)
    document = {"name": "bench", "model": {"id": "demo"}, "data": {"train": ["demo"]}}
    spec = make_spec(document, source="test", folder=Path("/"), environ={}).to_dict()
    me = Identity.mine()
    mine = {"host": me.host, "boot_id": me.boot_id, "pid": me.pid, "start_ticks": me.start_ticks, "pidns": me.pidns}
    for number in range(count):
        run = store.create({"name": f"bench-{number}", "kind": "train", "spec": spec, "request_id": "0" * 12})
        supervisor = JournalWriter(run.supervisor_path)
        supervisor.append("spawn", attempt=1, **mine)
        trainer = JournalWriter(run.events_path)
        trainer.append("start", attempt=1, from_step=0, exact=True, **mine)
        for step in range(1, 101):
            trainer.append("progress", step=step, steps=100, epoch=step / 100, tokens=step * 900, eta_s=1.0)
            trainer.append("metrics", step=step, loss=2.0 / step, lr=1e-4, grad_norm=0.5, tokens_per_s=900.0)
        trainer.append("checkpoint", step=100, path="checkpoints/step-100", bytes=1 << 20, best=None)
        trainer.append("end", reason="completed", totals={"steps": 100}, best=None)
        trainer.close()
        supervisor.append("exit", attempt=1, code=0, signal=None)
        supervisor.close()


@pytest.mark.performance
def test_runs_list_against_hf_version(places, home, capsys, record_property) -> None:
    make_runs(places, RUNS)
    environ = clean_environ(home)
    binaries = Path(sys.executable).parent
    ours = [str(binaries / "llamahome"), "--batch", "runs", "list"]
    theirs = [str(binaries / "hf"), "version"]
    time.sleep(SETTLED_S)  # what changed a moment ago is read anew each time, and the index takes it up afterwards
    listed = subprocess.run(ours, env=environ, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert len(listed.splitlines()) == RUNS + 1
    assert listed.count("completed") == RUNS
    subprocess.run(theirs, env=environ, capture_output=True, check=True)
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(ROUNDS):
        for name, command in (("ours", ours), ("theirs", theirs)):
            began = time.perf_counter()
            subprocess.run(command, env=environ, capture_output=True, check=True)
            times[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = medians["ours"] / medians["theirs"]
    record_property("runs_list_over_hf_version", round(ratio, 3))
    with capsys.disabled():
        print(
            f"\nruns list ({RUNS} runs) {medians['ours'] * 1000:.0f} ms / hf version {medians['theirs'] * 1000:.0f} ms"
            f" = {ratio:.2f} (at most {LIMIT})"
        )
    assert ratio <= LIMIT * SLACK
