"""Copies are made beside training: what is wrong with a mirror is said and tried again, waited for only so long."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from llamahome_tui.jobs import recovery
from llamahome_tui.jobs.store import Run
from llamahome_tui.training import mirror
from llamahome_tui.training.trainer import checkpoint
from llamahome_tui.training.trainer.mirroring import Folder, Mirroring
from tests.conftest import eventually

pytestmark = pytest.mark.torch


@pytest.fixture
def run(tmp_path: Path) -> Run:
    folder = tmp_path / "runs" / "20260101-000000-mine"
    (folder / "checkpoints").mkdir(parents=True)
    return Run(folder.name, folder)


def save(run: Run, step: int) -> str:
    path = run.checkpoints_dir / f"step-{step}"
    path.mkdir()
    (path / "weights").write_bytes(bytes([step]) * 1000)
    recovery.write_complete(path, step)
    return path.name


def there(root: Path, run: Run) -> list[str]:
    home = root / run.id
    return sorted(path.name for path in home.iterdir()) if home.is_dir() else []


def test_the_last_ones_and_the_best_are_kept_there(run: Run, tmp_path: Path) -> None:
    root = tmp_path / "mirror"
    root.mkdir()
    copying = Mirroring(Folder(root), run, keep=2)
    for step in (1, 2, 3, 4, 5):
        name = save(run, step)
        copying.offer(name, "step-2" if step > 1 else "")
        eventually(lambda name=name: name in there(root, run) and not copying.in_work, "a copy")
    copying.finish(30)
    assert there(root, run) == ["step-2", "step-4", "step-5"] and copying.words() == []
    assert all(recovery.verify(root / run.id / name) == [] for name in there(root, run))


def test_a_mirror_that_is_gone_is_said_once_and_caught_up_with(run: Run, tmp_path: Path) -> None:
    root = tmp_path / "mirror"
    copying = Mirroring(Folder(root), run, keep=2, again_s=0.01)
    copying.offer(save(run, 1), "step-1")
    words: list[str] = []
    eventually(lambda: words.extend(copying.words()) or words, "a word")
    assert len(words) == 1 and "No such file" in words[0] and "training goes on" in words[0]
    for step in (2, 3):
        copying.offer(save(run, step), "step-1")
    assert not root.exists()  # a disk that is not mounted gets nothing under its name
    root.mkdir()
    eventually(lambda: there(root, run) == ["step-1", "step-3"], "the copies")
    copying.finish(30)
    assert [*words[1:], *copying.words()] == [f"the mirror {root} takes copies again: it has step-1"]


def test_a_fault_of_our_own_is_said_and_tried_again(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy, faults = mirror.copy, [KeyError("bytes")]

    def broken(source: Path, target: Path) -> bool:
        if faults:
            raise faults.pop()
        return copy(source, target)

    monkeypatch.setattr(mirror, "copy", broken)
    copying = Mirroring(Folder(tmp_path), run, keep=2, again_s=0.01)
    copying.offer(save(run, 1), "")
    eventually(lambda: there(tmp_path, run) == ["step-1"], "the copy")
    copying.finish(30)
    words = copying.words()
    assert len(words) == 2 and "KeyError: 'bytes'; training goes on" in words[0]


def test_the_end_waits_only_so_long_and_says_what_is_lacking(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    release = threading.Event()
    monkeypatch.setattr(mirror, "copy", lambda source, target: release.wait())
    copying = Mirroring(Folder(tmp_path), run, keep=2)
    copying.offer(save(run, 1), "")
    eventually(lambda: copying.in_work == "step-1", "a copy that hangs")
    copying.offer(save(run, 2), "")
    copying.finish(0.05)
    assert copying.words() == [f"the mirror {tmp_path} lacks step-2, after 0 s were waited for it"]
    checkpoint.rotate(run.checkpoints_dir, 1, "", copying.in_work)
    assert sorted(path.name for path in run.checkpoints_dir.iterdir()) == ["step-1", "step-2"]
    release.set()


def test_one_that_was_rotated_away_before_its_turn_is_no_fault(run: Run, tmp_path: Path) -> None:
    copying = Mirroring(Folder(tmp_path), run, keep=2)
    copying.offer("step-7", "")
    copying.finish(30)
    assert copying.words() == [] and there(tmp_path, run) == []
