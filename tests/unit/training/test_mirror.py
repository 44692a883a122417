"""Checkpoints copied to another folder and back: whole or not at all, and nothing from there is trusted unseen."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from llamahome_tui.errors import ConfigError, IntegrityError, ResourceError
from llamahome_tui.jobs import recovery
from llamahome_tui.training import mirror

FIRST, SECOND = "20260101-000000-mine", "20260102-000000-mine"


def checkpoint(folder: Path, step: int, *, name: str = "mine", best: object = None) -> Path:
    """A complete checkpoint, as small as one can be."""
    path = folder / f"step-{step}"
    path.mkdir(parents=True)
    (path / "weights").write_bytes(bytes([step]) * 4096)
    notes = {"spec": {"name": name}, "counters": {"step": step, "best": best}}
    (path / "counters.json").write_text(json.dumps(notes))
    recovery.write_complete(path, step)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_copy_is_what_was_copied_and_is_made_once(tmp_path: Path) -> None:
    source, target = checkpoint(tmp_path / "here", 3), tmp_path / "there" / "step-3"
    target.parent.mkdir()
    assert mirror.copy(source, target)
    assert {n: c for n, c in contents(target).items() if n != "complete.json"} == {
        n: c for n, c in contents(source).items() if n != "complete.json"
    }
    assert recovery.verify(target) == [] and names(target.parent) == ["step-3"]
    assert not mirror.copy(source, target)
    (target / "weights").write_bytes(b"x" * 4096)
    assert mirror.copy(source, target) and recovery.verify(target) == []


def test_a_source_that_is_not_whole_leaves_nothing(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "here", 3)
    (source / "weights").write_bytes(b"x" * 4096)
    (tmp_path / "there").mkdir()
    with pytest.raises(IntegrityError, match="sha256 differs"):
        mirror.copy(source, tmp_path / "there" / "step-3")
    assert names(tmp_path / "there") == []


def flip(path: Path) -> None:
    content = bytearray((path / "weights").read_bytes())
    content[7] ^= 1
    (path / "weights").write_bytes(content)


def relist(path: Path, name: str) -> None:
    listed = json.loads((path / "complete.json").read_text())
    listed["files"][name] = listed["files"].pop("weights")
    (path / "complete.json").write_text(json.dumps(listed))


def link(path: Path) -> None:
    secret = path.parent.parent.parent / "secret"
    secret.write_bytes((path / "weights").read_bytes())
    (path / "weights").unlink()
    (path / "weights").symlink_to(secret)


def pipe(path: Path) -> None:
    (path / "weights").unlink()
    os.mkfifo(path / "weights")


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        link,
        pipe,
        lambda path: (path / "weights").write_bytes(b"short"),
        lambda path: (path / "weights").unlink(),
        lambda path: (path / "complete.json").unlink(),
        lambda path: (path / "complete.json").write_text("{"),
        lambda path: relist(path, "../../../../secret"),
        lambda path: relist(path, "/etc/passwd"),
        lambda path: path.rename(path.with_name("step-9")),
    ],
    ids=["flipped", "link", "pipe", "cut", "gone", "unfinished", "no-json", "up", "absolute", "other-step"],
)
def test_what_is_not_whole_is_passed_over_for_the_one_before(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    root, into = tmp_path / "mirror", tmp_path / "run"
    into.mkdir()
    before = checkpoint(root / FIRST, 3)
    damage(checkpoint(root / FIRST, 6))
    found, _ = mirror.fetch(root, "mine", into)
    assert found is not None and found.step == 3 and names(into) == ["step-3"]
    assert contents(into / "step-3")["weights"] == contents(before)["weights"]


def test_what_is_passed_over_is_said_with_its_reason(tmp_path: Path) -> None:
    root = tmp_path / "mirror"
    flip(checkpoint(root / FIRST, 6))
    found, passed = mirror.fetch(root, "mine", tmp_path)
    assert found is None
    assert passed == [
        f"{FIRST}/step-6 in the mirror is passed over: weights is not what was written: its sha256 differs"
    ]


def test_the_newest_run_of_that_name_goes_first_and_brings_its_best(tmp_path: Path) -> None:
    root, into = tmp_path / "mirror", tmp_path / "run"
    into.mkdir()
    checkpoint(root / FIRST, 40)
    checkpoint(root / SECOND, 2)
    checkpoint(root / SECOND, 6, best={"path": "checkpoints/step-2"})
    checkpoint(root / "20260103-000000-mine-too", 9, name="mine-too")
    (root / "20260104-000000-mine").symlink_to(root / FIRST)
    found, passed = mirror.fetch(root, "mine", into)
    assert found == mirror.Copy(SECOND, root / SECOND / "step-6", 6, "step-2") and not passed
    assert names(into) == ["step-2", "step-6"]


def test_without_its_best_a_checkpoint_does_not_count(tmp_path: Path) -> None:
    root, into = tmp_path / "mirror", tmp_path / "run"
    into.mkdir()
    checkpoint(root / FIRST, 3)
    checkpoint(root / SECOND, 6, best={"path": "checkpoints/step-2"})
    found, passed = mirror.fetch(root, "mine", into)
    assert found is not None and found.run == FIRST and len(passed) == 1 and "step-2" in passed[0]


@pytest.mark.parametrize("path", ["../../step-2", "/checkpoints/step-2", "checkpoints/../step-2", 5, None])
def test_counters_that_lead_elsewhere_are_not_ours(tmp_path: Path, path: object) -> None:
    checkpoint(tmp_path / FIRST, 6, best={"path": path})
    assert list(mirror.copies(tmp_path, "mine")) == []


def test_a_mirror_that_is_gone_has_no_copies(tmp_path: Path) -> None:
    assert list(mirror.copies(tmp_path / "gone", "mine")) == []


def test_nothing_of_what_was_passed_over_is_taken_for_a_checkpoint(tmp_path: Path) -> None:
    root, into = tmp_path / "mirror", tmp_path / "run"
    into.mkdir()
    checkpoint(root / FIRST, 3)
    flip(checkpoint(root / SECOND, 1))
    checkpoint(root / SECOND, 5, best={"path": "checkpoints/step-1"})  # whole, and its own best is not
    flip(checkpoint(root / SECOND, 6, best={"path": "checkpoints/step-5"}))
    found, passed = mirror.fetch(root, "mine", into)
    assert found is not None and found.run == FIRST and len(passed) == 3
    assert names(into) == ["step-3"]


def test_a_full_disk_here_is_not_the_mirrors_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint(tmp_path / "mirror" / FIRST, 3)

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match="no room for"):
        mirror.fetch(tmp_path / "mirror", "mine", tmp_path)


def test_what_another_user_keeps_to_himself_is_passed_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root reads everything: scandir is made to refuse as it does for anybody else."""
    checkpoint(tmp_path / FIRST, 3)
    checkpoint(tmp_path / SECOND, 6)
    scandir, closed = os.scandir, {str(tmp_path / SECOND)}

    def refuse(path: object = ".") -> object:
        if str(path) in closed:
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", refuse)
    assert [copy.run for copy in mirror.copies(tmp_path, "mine")] == [FIRST]
    monkeypatch.setattr(os, "listdir", lambda _path=".": refuse(tmp_path / SECOND))
    with pytest.raises(ConfigError, match=r"checkpoint\.mirror: .* can't be read: Permission denied"):
        list(mirror.copies(tmp_path, "mine"))


def test_the_best_is_not_there_before_what_came_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped or killed in between, a run would go on from the best, and lose all that came after it."""
    root, into = tmp_path / "mirror", tmp_path / "run"
    into.mkdir()
    checkpoint(root / SECOND, 2)
    checkpoint(root / SECOND, 6, best={"path": "checkpoints/step-2"})
    copy, there = mirror.copy, []

    def seen(source: Path, target: Path) -> bool:
        made = copy(source, target)
        there.append([path.name for path in into.glob("step-*")])
        return made

    monkeypatch.setattr(mirror, "copy", seen)
    found, _ = mirror.fetch(root, "mine", into)
    assert found is not None and there == [[], []] and names(into) == ["step-2", "step-6"]
