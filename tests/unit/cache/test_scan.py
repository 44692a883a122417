"""What takes disk: every category, every byte once, and who holds it."""

from __future__ import annotations

import os
from pathlib import Path

from llamahome_tui.cache.scan import scan, totals
from llamahome_tui.config.places import Places
from llamahome_tui.jobs.locks import RecordLock
from llamahome_tui.jobs.store import RunStore
from tests.conftest import RunCli
from tests.unit.models import disk

KIB = 1024


def _file(path: Path, size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size))
    return path


def test_an_empty_home_has_every_category(places: Places) -> None:
    sums = totals(scan(places, RunStore(places)))
    assert {"models", "training", "system", "bytecode", "total"} == sums.keys()
    assert sums["models"] == sums["training"] == 0


def test_everything_lands_in_its_category(places: Places) -> None:
    _file(places.hub_cache / "datasets--o--d" / "blobs" / "x", 64 * KIB)
    _file(places.prepared / "abc" / "ids.npy", 32 * KIB)
    _file(places.exports / "gsm8k" / "model.safetensors", 16 * KIB)
    _file(places.indexes / "log.idx", 8 * KIB)
    _file(places.logs / "app" / "error.log", 8 * KIB)
    run = RunStore(places).create({"name": "one", "spec": {"model": {"id": "demo"}}})
    _file(run.checkpoints_dir / "step-1" / "trainer.pt", 128 * KIB)
    entries = {(e.category.value, e.kind, e.name): e for e in scan(places, RunStore(places))}
    assert entries["models", "dataset", "o/d"].bytes == 64 * KIB
    assert entries["training", "prepared", "abc"].bytes == 32 * KIB
    assert entries["training", "export", "gsm8k"].bytes == 16 * KIB
    assert entries["system", "index", "log.idx"].bytes == 8 * KIB
    assert entries["system", "log", "app"].bytes == 8 * KIB
    assert 128 * KIB <= entries["training", "run", run.id].bytes < 160 * KIB
    largest = next(e for e in entries.values() if e.category.value != "bytecode")
    assert largest.name == run.id


def test_a_file_with_two_names_weighs_once(places: Places) -> None:
    snapshot = disk.cached(places.hub_cache, "org/tiny")
    blob = _file(snapshot.parent.parent / "blobs" / "big", 256 * KIB)
    (snapshot / "big").symlink_to(blob)
    os.link(blob, _file(places.exports / "same" / "small", KIB).parent / "big")
    total = totals(scan(places))["total"] - totals(scan(places))["bytecode"]
    assert 256 * KIB <= total < 300 * KIB


def test_links_lead_nowhere(places: Places, tmp_path: Path) -> None:
    _file(tmp_path / "outside" / "huge", 512 * KIB)
    places.prepared.mkdir()
    (places.prepared / "planted").symlink_to(tmp_path / "outside")
    assert totals(scan(places))["training"] < 8 * KIB


def test_what_a_live_run_holds_is_named(places: Places) -> None:
    disk.cached(places.hub_cache, "org/tiny")
    store = RunStore(places)
    run = store.create({"name": "one", "spec": {"model": {"id": "org/tiny", "revision": "main"}}})
    held = {e.name: e.in_use for e in scan(places, store)}
    assert held["org/tiny"] == held[run.id] == ()
    lock = RecordLock(run.trainer_lock)
    pid = os.fork()
    if pid == 0:  # a lock of this very process would not show
        ready = lock.acquire()
        (places.state / "ready").write_text(str(ready))
        while not (places.state / "done").exists():
            pass
        os._exit(0)
    try:
        while not (places.state / "ready").exists():
            pass
        held = {e.name: e.in_use for e in scan(places, store)}
        assert held["org/tiny"] == held[run.id] == (run.id,)
    finally:
        (places.state / "done").write_text("")
        os.waitpid(pid, 0)


def test_the_commands(places: Places, run_cli: RunCli) -> None:
    _file(places.prepared / "abc" / "ids.npy", 32 * KIB)
    usage = run_cli("cache", "usage", "--json").data
    assert usage["training"] == 32 * KIB and usage["total"] >= 32 * KIB
    (entry,) = (e for e in run_cli("cache", "list", "--json").data if e["name"] == "abc")
    assert (entry["category"], entry["bytes"], entry["files"], entry["in_use"]) == ("training", 32 * KIB, 1, [])
    assert "abc" in run_cli("cache", "list").out
    assert "training" in run_cli("cache", "usage").out
