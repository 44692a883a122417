"""A run whose folder is lost goes on from its mirror, in a run of its own, to the very end it would have had."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from llamahome_tui.config.places import Places
from llamahome_tui.errors import ConfigError
from llamahome_tui.jobs import recovery
from llamahome_tui.jobs.journal import read
from llamahome_tui.jobs.store import Run
from llamahome_tui.start import surroundings
from llamahome_tui.training import checks, commands
from llamahome_tui.training.spec import Spec
from tests.integration.trainer_runs import Bench, adapter, checkpoint_steps, eval_losses, losses, of, show

pytestmark = pytest.mark.torch


def another_box(bench: Bench, folder: Path) -> Bench:
    """The same model and data, and a home in which no run ever was."""
    environ = {"LLAMAHOME_HOME": str(folder / "home"), "HF_HOME": str(folder / "hf")}
    places = Places.from_environ(environ)
    places.ensure()
    return Bench(bench.forge, places, environ, bench.model, bench.data)


def begin(box: Bench, mirror: Path | str, name: str) -> Run:
    """What `train start SPEC --or-resume` makes there."""
    spec = Spec.from_dict(box.spec(lora={"dropout": 0.1}, checkpoint={"mirror": str(mirror)}) | {"name": name})
    context = surroundings(box.environ, "batch")[0]
    return commands.begin(context, spec, copy=commands.copy_of(context, spec))


def goes_on(box: Bench, found: Run, run: Run, newest: int, whole: Run) -> list[dict[str, Any]]:
    """Train it to its end: what follows the step that was copied is bit for bit what followed it in `whole`."""
    events = box.finish(found)
    assert events[-1]["reason"] == "completed", show(events)
    start = of(events, "start")[0]
    assert (start["from_step"], start["exact"], start["reason"]) == (newest, True, "")
    assert f"goes on from step {newest} of {run.id}" in of(events, "warning")[0]["message"]
    after = {step: loss for step, loss in losses(whole).items() if step > newest}
    assert (losses(found), adapter(found)) == (after, adapter(whole))
    assert eval_losses(found)[12] == eval_losses(whole)[12]
    return events


def test_another_box_goes_on_from_the_mirror(bench: Bench, tmp_path: Path) -> None:
    whole = bench.run("whole", lora={"dropout": 0.1})
    assert bench.finish(whole)[-1]["reason"] == "completed"
    root = tmp_path / "mirror"
    root.mkdir()
    run = bench.run("mine", lora={"dropout": 0.1}, checkpoint={"mirror": str(root)})
    trainer = bench.train(run)
    home = root / run.id
    while not any(step.complete and step.step >= 6 for step in recovery.checkpoints_in(home)):
        assert trainer.forge.poll(trainer) is None, show(list(read(run.events_path)))
        time.sleep(0.002)
    trainer.kill()
    trainer.wait()
    shutil.rmtree(run.dir)
    newest = recovery.checkpoints_in(home)[-1].step

    box = another_box(bench, tmp_path)
    found = begin(box, root, "mine")
    events = goes_on(box, found, run, newest, whole)
    # The new run has a place of its own there, with the last ones and the best.
    mirrored = [step.step for step in recovery.checkpoints_in(root / found.id) if not recovery.verify(step.path)]
    assert mirrored == checkpoint_steps(found) and len(of(events, "warning")) == 1


def test_a_mirror_without_a_checkpoint_to_trust_fails_the_run_and_begins_nothing(bench: Bench, tmp_path: Path) -> None:
    root = tmp_path / "mirror"
    root.mkdir()
    run = bench.run("torn", lora={"dropout": 0.1}, checkpoint={"mirror": str(root), "keep": 1}, data={"eval": 0})
    assert bench.finish(run)[-1]["reason"] == "completed"
    (step,) = recovery.checkpoints_in(root / run.id)
    state = bytearray((step.path / "trainer.pt").read_bytes())
    state[len(state) // 2] ^= 1
    (step.path / "trainer.pt").write_bytes(state)
    box = another_box(bench, tmp_path)
    found = begin(box, root, "torn")
    assert box.train(found).wait() == 1
    (error,) = of(list(read(found.events_path)), "error")
    assert error["code"] == "checkpoint.mirror" and "trainer.pt is not what was written" in error["message"]
    assert error["retry"] is False and "train start SPEC" in error["hint"] and not losses(found)


def test_training_goes_on_while_the_mirror_is_gone(bench: Bench, tmp_path: Path) -> None:
    run = bench.run("gone", checkpoint={"mirror": str(tmp_path / "gone")}, recovery={"grace_s": 2})
    events = bench.finish(run)
    assert events[-1]["reason"] == "completed", show(events)
    first, last = of(events, "warning")
    assert "No such file" in first["message"] and "training goes on" in first["message"]
    assert "lacks step-12" in last["message"]
    assert not (tmp_path / "gone").exists()


def refused(bench: Bench, mirror: str, words: str) -> None:
    spec = Spec.from_dict({"name": "x", "checkpoint": {"mirror": mirror}})
    with pytest.raises(ConfigError, match=words) as error:
        checks.has_mirror(surroundings(bench.environ, "batch")[0], spec)
    assert error.value.exit == 3


def test_a_mirror_that_is_no_folder_is_refused_before_anything_starts(bench: Bench, tmp_path: Path) -> None:
    refused(bench, str(tmp_path / "gone"), r"checkpoint\.mirror: .* is no folder")
