"""Checkpoints: one counts only when what complete.json says of it is true."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamahome_tui.jobs.recovery import (
    COMPLETE,
    checkpoints,
    newest_complete_checkpoint,
    set_aside_partials,
    verify,
    write_complete,
)
from llamahome_tui.jobs.store import Run, RunStore


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return RunStore(tmp_path / "state").create({"name": "a"})


def checkpoint(run: Run, step: int, *, complete: bool = True) -> Path:
    folder = run.checkpoints_dir / f"step-{step}"
    (folder / "inner").mkdir(parents=True)
    (folder / "weights").write_bytes(b"w" * 1000 + str(step).encode())
    (folder / "inner" / "state").write_bytes(b"s" * 10)
    if complete:
        assert write_complete(folder, step) == 1010 + len(str(step))
    return folder


def newest(run: Run, **options: bool) -> int | None:
    found = newest_complete_checkpoint(run, **options)
    return found.step if found else None


def test_the_newest_complete_one_counts(run: Run) -> None:
    assert newest(run) is None
    assert checkpoints(run) == []
    for step in (5, 10, 100):
        checkpoint(run, step)
    partial = checkpoint(run, 200, complete=False)
    assert newest(run) == 100
    assert [(c.step, c.complete) for c in checkpoints(run)] == [(5, True), (10, True), (100, True), (200, False)]
    (aside,) = set_aside_partials(run)
    assert aside.name == "step-200.partial"
    assert not partial.exists()
    assert (aside / "weights").exists()
    checkpoint(run, 200, complete=False)
    (again,) = set_aside_partials(run)
    assert again.name.startswith("step-200-")
    assert again.name.endswith(".partial")
    assert newest(run) == 100
    assert set_aside_partials(run) == []


def test_a_missing_or_shorter_file_is_seen_at_once(run: Run) -> None:
    checkpoint(run, 5)
    folder = checkpoint(run, 10)
    (folder / "weights").write_bytes(b"w")
    assert newest(run) == 5
    assert "1 bytes" in verify(folder)[0]
    (folder / "weights").unlink()
    assert newest(run) == 5
    assert verify(folder) == ["weights is missing"]


def test_a_flipped_bit_is_seen_by_its_hash(run: Run) -> None:
    checkpoint(run, 5)
    folder = checkpoint(run, 10)
    data = bytearray((folder / "weights").read_bytes())
    data[500] ^= 1
    (folder / "weights").write_bytes(data)
    assert newest(run) == 10
    assert newest(run, hashes=True) == 5
    assert "sha256" in verify(folder)[0]
    assert [path.name for path in set_aside_partials(run, hashes=True)] == ["step-10.partial"]
    assert newest(run) == 5


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"v":1,"files":{}}',
        '{"v":1,"files":{"../x":{"bytes":1,"sha256":""}}}',
        '{"v":1,"files":{"a":3}}',
    ],
)
def test_a_broken_complete_json_does_not_count(run: Run, text: str) -> None:
    folder = checkpoint(run, 5)
    (folder / COMPLETE).write_text(text)
    assert newest(run) is None
    assert verify(folder)


def test_links_do_not_count(run: Run, tmp_path: Path) -> None:
    folder = checkpoint(run, 5)
    target = tmp_path / "weights"
    (folder / "weights").rename(target)
    (folder / "weights").symlink_to(target)
    assert newest(run) is None
    (run.checkpoints_dir / "step-9").symlink_to(folder)
    assert [c.step for c in checkpoints(run)] == [5]


def test_complete_json_is_what_others_can_read(run: Run) -> None:
    folder = checkpoint(run, 5)
    value = json.loads((folder / COMPLETE).read_text())
    assert value["v"] == 1
    assert value["step"] == 5
    assert set(value["files"]) == {"weights", "inner/state"}
    assert value["files"]["inner/state"]["bytes"] == 10
    assert len(value["files"]["weights"]["sha256"]) == 64
