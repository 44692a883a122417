"""Saves beside training: of one moment, announced when whole, not begun without room; due by a clock from outside."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from llamahome_tui.jobs import recovery
from llamahome_tui.jobs.store import Run
from llamahome_tui.resources import host
from llamahome_tui.training.spec import Spec
from llamahome_tui.training.trainer import checkpoint, memory
from llamahome_tui.training.trainer.saving import Saving
from llamahome_tui.training.trainer.snapshot import Snapshot, Weights

pytestmark = pytest.mark.torch
BEST = {"metric": "eval_loss", "value": 1.0, "step": 1, "path": "checkpoints/step-1"}


class Journal:
    """What Saving needs of a child."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.step = 0
        self.events: list[dict[str, Any]] = []

    def emit(self, type: str, *, sync: bool = False, **fields: Any) -> None:
        self.events.append({"type": type, "sync": sync, **fields})


class Config:
    def save_pretrained(self, into: str) -> None:
        (Path(into) / "adapter_config.json").write_text("{}")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    return Journal(Run("run", tmp_path / "run"))


def saving(journal: Journal, lost: list[int] | None = None, clock: Any = None, **wanted: Any) -> Saving:
    values: Any = Spec().to_dict()
    values["checkpoint"] |= {"every_minutes": 0} | wanted
    given = {"clock": clock} if clock else {}
    return Saving(journal, Spec.from_dict(values), 0, "", (lost if lost is not None else []).append, **given)  # type: ignore[arg-type]


def snapshot(weight: Any) -> Snapshot:
    tied = {"a": weight, "b": weight}
    return Snapshot(Weights(tied, Config(), None), {"moment": weight, "python": (3, (1, 2), None)}, '{"v": 1}')


def begin(saving: Saving, weight: Any, step: int, **given: Any) -> None:
    saving.begin(snapshot(weight), step, given.get("best"), given.get("why", ""), given.get("again_s"), False)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Writing waits for this."""
    go, write = threading.Event(), checkpoint.write

    def waits(*given: Any) -> Any:
        assert go.wait(60)
        return write(*given)

    monkeypatch.setattr(checkpoint, "write", waits)
    return go


def test_training_goes_on_and_what_is_written_stays_that_of_the_moment(journal: Journal, held: threading.Event) -> None:
    from safetensors.torch import load_file

    keeping, weight = saving(journal, keep=1), torch.ones(3)
    begin(keeping, weight, 1)
    weight += 1  # the next step
    keeping.settle()
    assert journal.events == [] and keeping.at_step == -1 and not list(journal.run.checkpoints_dir.glob("step-*"))
    held.set()
    keeping.settle(wait=True)
    (event,) = journal.events
    assert event["type"] == "checkpoint" and event["sync"] and (event["step"], keeping.at_step) == (1, 1)
    assert 0 <= event["pause_seconds"] <= event["seconds"]
    folder = journal.run.checkpoints_dir / "step-1"
    assert recovery.verify(folder) == []
    assert all(
        torch.equal(tensor, torch.ones(3)) for tensor in load_file(folder / "adapter_model.safetensors").values()
    )
    state = torch.load(folder / "trainer.pt", weights_only=True)
    assert torch.equal(state["moment"], torch.ones(3)) and state["python"] == (3, (1, 2), None)
    begin(keeping, weight, 2)
    keeping.finish()
    assert [path.name for path in journal.run.checkpoints_dir.iterdir()] == ["step-2"]


def test_the_best_one_outlives_rotation(journal: Journal) -> None:
    keeping = saving(journal, keep=1)
    for step in (1, 2, 3):
        begin(keeping, torch.ones(3), step, best=BEST)
        keeping.settle(wait=True)
    assert sorted(path.name for path in journal.run.checkpoints_dir.iterdir()) == ["step-1", "step-3"]
    keeping.finish()


@pytest.mark.parametrize("short", ["free", "exhausted"])
def test_without_memory_for_a_copy_training_waits(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, short: str
) -> None:
    def fails(_self: Snapshot) -> Snapshot:
        raise MemoryError

    if short == "free":
        monkeypatch.setattr(memory, "free_bytes", lambda device: 10)
    else:
        monkeypatch.setattr(Snapshot, "copied", fails)
    keeping = saving(journal)
    begin(keeping, torch.ones(3), 1)
    assert [event["step"] for event in journal.events] == [1] and keeping.at_step == 1
    keeping.finish()


def test_one_that_does_not_fit_on_the_disk_is_not_begun(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "write", None)  # calling it would fail
    lost: list[int] = []
    now = [0.0]
    keeping = saving(journal, lost, lambda: now[0])
    begin(keeping, torch.empty(1 << 48, device="meta"), 4, why="before leaving", again_s=7.0)
    (event,) = journal.events
    assert event["type"] == "warning" and event["step"] == 4 and lost == [4] and keeping.at_step == -1
    assert event["message"].startswith("no room for a checkpoint before leaving (it takes ")
    assert " are free); the earlier one stays, the save is tried again in 7 s" in event["message"]
    assert list(journal.run.checkpoints_dir.iterdir()) == []
    assert not keeping.is_due(5)
    now[0] = 7.0
    assert keeping.is_due(5)
    keeping.finish()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_write_that_fails(journal: Journal, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fails(*_given: Any) -> Any:
        raise OSError(number, "what the system says")

    monkeypatch.setattr(checkpoint, "write", fails)
    lost: list[int] = []
    keeping = saving(journal, lost)
    if number == errno.EIO:
        with pytest.raises(OSError, match="what the system says"):  # at once, or when it is settled
            (begin(keeping, torch.ones(3), 1), keeping.settle(wait=True))
    else:
        begin(keeping, torch.ones(3), 1)
        keeping.settle(wait=True)
        assert lost == [1] and "(what the system says)" in journal.events[0]["message"]
    keeping.finish()
    assert [event["type"] for event in journal.events] == ["warning"] * (number == errno.ENOSPC)


def test_minutes_are_those_of_the_clock(journal: Journal) -> None:
    now = [1000.0]
    keeping = saving(journal, clock=lambda: now[0], every_minutes=10)
    now[0] += 599.9
    assert not keeping.is_due(1)
    now[0] += 0.1
    assert keeping.is_due(1) and not keeping.is_due(0), "nothing is worth keeping before the first step"
    begin(keeping, torch.ones(3), 1)
    assert not keeping.is_due(1)
    now[0] += 599.9  # counted from when it was begun, not from when it was written
    keeping.settle(wait=True)
    assert not keeping.is_due(2)
    now[0] += 0.1
    assert keeping.is_due(2)
    keeping.finish()


def test_steps_count_beside_minutes_and_neither_where_it_is_nought(journal: Journal) -> None:
    now = [0.0]
    both = saving(journal, clock=lambda: now[0], every_minutes=1, every_steps=4)
    none = saving(journal, clock=lambda: now[0], every_minutes=0, every_steps=0)
    assert [step for step in range(9) if both.is_due(step)] == [4, 8]
    now[0] = 60.0
    assert both.is_due(3) and not none.is_due(4)
    both.finish()
    none.finish()


def test_free_memory_is_what_a_container_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(host, "group_memory", lambda: (5000, 1000))
    assert memory.free_bytes(cpu) == 4000
    monkeypatch.setattr(host, "group_memory", lambda: (5000, 6000))
    assert memory.free_bytes(cpu) == 1  # 0 would be that nothing tells
    monkeypatch.setattr(host, "group_memory", lambda: (None, None))
    assert memory.free_bytes(cpu) > 5000
