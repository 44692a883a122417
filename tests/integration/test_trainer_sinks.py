"""Sinks of a real trainer: a killed and resumed run is one curve in them, and a bad sink changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("tensorboard")

from llamahome_tui.jobs.journal import read
from tests.integration.trainer_runs import Bench, losses, of, show
from tests.plugin_packages import EXAMPLE, box, install, write_quiz

pytestmark = pytest.mark.torch

# However slow the machine is, the sink gets to hand over everything; WANDB_API_KEY stands for any credential.
PATIENT = """
import os
from llamahome_tui.training.sinks.feeds import Patience
Patience.__init__.__defaults__ = (600.0, 60.0)
os.environ["WANDB_API_KEY"] = "canary-of-a-credential"
"""
DIES = """
import os, signal
from llamahome_tui.jobs.child import Child
emit = Child.emit
def watched(self, type, **fields):
    record = emit(self, type, **fields)
    if type == "metrics" and fields["step"] == 8 and "loss" in fields: os.kill(os.getpid(), signal.SIGKILL)
    return record
Child.emit = watched
"""


def test_a_killed_and_resumed_run_is_one_curve_in_tensorboard(bench: Bench) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = bench.run("reported", report={"to": ["tensorboard"]})
    assert bench.train(run, before=PATIENT + DIES).wait() == -9
    events = bench.finish(run, before=PATIENT)
    assert events[-1]["reason"] == "completed" and not of(events, "warning"), show(events)
    assert 0 < of(events, "start")[1]["from_step"] < 8, "some steps were trained twice"
    shown = EventAccumulator(str(run.dir / "sinks" / "tensorboard"))
    shown.Reload()
    assert {one.step: one.value for one in shown.Scalars("loss")} == pytest.approx(losses(run))
    for name in ("loss", "lr", "trained_tokens_per_s", "eval_loss"):
        steps = [one.step for one in shown.Scalars(name)]
        assert steps == sorted(set(steps)) and steps[-1] == 12, name
    written = b"".join(path.read_bytes() for path in run.dir.rglob("*") if path.is_file())
    assert b"canary-of-a-credential" not in written


def test_a_sink_that_fails_is_a_warning_of_a_run_that_completes(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "tensorboard.py").write_text("raise RuntimeError('not today')")
    broken = f"import os; os.environ['PYTHONPATH'] = {str(tmp_path)!r} + ':' + os.environ.get('PYTHONPATH', '')"
    run = bench.run("unreported", report={"to": ["tensorboard"]})
    events = bench.finish(run, before=PATIENT + broken)
    assert events[-1]["reason"] == "completed", show(events)
    (warning,) = of(events, "warning")
    assert warning["sink"] == "tensorboard" and "RuntimeError: not today" in warning["message"]
    assert events[-1]["type"] == "end" and [e["seq"] for e in read(run.events_path)] == list(range(1, len(events) + 1))


def test_a_sink_of_an_unknown_name_is_refused_before_anything_loads(bench: Bench) -> None:
    run = bench.run("misspelt", report={"to": ["tensorbord"]})
    events = bench.finish(run)
    (error,) = of(events, "error")
    assert error["code"] == "spec.invalid" and error["message"].startswith("report.to: there is no sink")
    assert not of(events, "phase")


def test_a_run_with_the_method_the_data_the_model_and_the_sink_of_a_package(bench: Bench, tmp_path: Path) -> None:
    made = install(EXAMPLE, tmp_path)
    visible = f"import os, sys; sys.path.append({str(made)!r}); os.environ['PYTHONPATH'] = os.pathsep.join(sys.path)\n"
    run = bench.run(
        "plugged",
        method={"kind": "weighted", "beta": 0.5},
        model={"id": str(box(tmp_path / "boxed", bench.model))},
        data={"train": [str(write_quiz(tmp_path / "quiz.jsonl"))]},
        report={"to": ["lines"]},
    )
    events = bench.finish(run, before=visible + PATIENT)
    assert events[-1]["reason"] == "completed" and not of(events, "warning"), show(events)
    sent = [json.loads(line) for line in (run.dir / "sinks" / "lines" / "lines.jsonl").read_text().splitlines()]
    assert {one["step"]: one["loss"] for one in sent if "loss" in one} == losses(run)
    same = bench.run("plain", data={"train": [str(write_plain(tmp_path))]})
    bench.finish(same)
    assert losses(run)[1] == pytest.approx(0.5 * losses(same)[1], rel=1e-6), "the method is half of sft"


def write_plain(folder: Path) -> Path:
    """The rows of `write_quiz` in a format of ours."""
    rows = [json.loads(line) for line in (folder / "quiz.jsonl").read_text().splitlines()]
    path = folder / "plain.jsonl"
    pairs = [(f"{row['question']} {' or '.join(row['choices'])}?", row["choices"][row["right"]]) for row in rows]
    path.write_text("".join(json.dumps({"prompt": one, "completion": other}) + "\n" for one, other in pairs))
    return path
