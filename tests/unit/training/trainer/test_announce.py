"""The `start` event tells of a split that the checkpoint does not know, and of no other degradation; the end comes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

pytest.importorskip("torch")

from llamahome_tui.jobs.child import Child
from llamahome_tui.jobs.journal import JournalWriter
from llamahome_tui.jobs.report import Ending
from llamahome_tui.jobs.store import Run
from llamahome_tui.training.spec import Spec
from llamahome_tui.training.trainer import recipe
from llamahome_tui.training.trainer.checkpoint import Checkpoint

pytestmark = pytest.mark.torch

HERE: dict[str, Any] = {
    "host": "here",
    "versions": {},
    "threads": 1,
    "device": "cpu",
    "ranks": 1,
    "instructions": "AVX2",
}


@pytest.mark.parametrize(
    ("what", "step", "exact"),
    [
        ("micro-batch at most 2 rows", 6, False),
        ("micro-batch at most 2 rows", 5, True),  # the checkpoint of step 6 has it in its counters
        ("batching sorted", 6, True),
    ],
)
def test_a_split_after_the_checkpoint_is_a_reason(tmp_path: Path, what: str, step: int, exact: bool) -> None:
    run = Run("20260101-000000-mine", tmp_path)
    journal = JournalWriter(run.events_path, None)
    journal.append("degrade", step=step, what=what, why="out of memory")
    journal.append("degrade", step=6, what="batching sorted", why="it leaks")
    said: list[tuple[Any, ...]] = []
    child = cast("Child", SimpleNamespace(run=run, job={}, start=lambda *given, **_: said.append(given)))
    spec = Spec(name="mine")
    resumed = Checkpoint(tmp_path, 6, {"surroundings": HERE, "spec": spec.to_dict(), "data": {}})
    recipe.announce(child, spec, resumed, HERE)
    ((from_step, told, reason),) = said
    assert (from_step, told) == (6, exact) and ("memory ran out" in reason) is not exact
    journal.close()


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyError("best")])
def test_a_report_that_fails_does_not_keep_a_run_from_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def broken(*_given: Any) -> None:
        raise fault

    monkeypatch.setattr(recipe, "report_of", broken)
    said: list[str] = []
    child = cast("Child", SimpleNamespace(run=Run("r", tmp_path), emit=lambda _type, message: said.append(message)))
    recipe.leave_report(child, Ending("completed", {}))
    why = "No space left on device" if isinstance(fault, OSError) else "KeyError: 'best'"
    assert said == [f"the report can't be written: {why}"]
