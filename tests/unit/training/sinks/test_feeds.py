"""Sinks in real processes: what they get, and that none of their faults reaches the run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.training.sinks.base import About
from llamahome_tui.training.sinks.feeds import LONGEST, Patience, Sinks, without_secrets
from llamahome_tui.training.sinks.known import BUILT_IN

# Each line of `{out}` is what a stand-in was told.
STRANGE = """
import json, os, signal, sys, time
class Sink:
    def __init__(self, about): self.about = about
    def log(self, step, values, at):
        kind = self.about.project
        if kind == "raises" and step == 2: raise ValueError("no such project: token=hf_abcdefghijkl")
        if kind == "hangs": time.sleep(600)
        if kind == "crashes": os.kill(os.getpid(), signal.SIGSEGV)
        if kind == "leaves": os._exit(0)
        with open(self.about.folder / "got", "a") as stream: stream.write(json.dumps([step, values]) + "\\n")
    def close(self):
        if self.about.project == "stays": time.sleep(600)
def open_sink(about):
    print("a sink may print what it likes")
    if about.project == "unable": raise OSError("no way to open")
    return Sink(about)
"""


class Desk:
    """Opens sinks as a trainer does, and keeps the warnings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.warnings: list[dict[str, Any]] = []
        (folder / "strange.py").write_text(STRANGE)

    def sinks(self, opener: str, project: str = "", patience: Patience | None = None, name: str = "strange") -> Sinks:
        made = Sinks(lambda type, **fields: self.warnings.append({"type": type, **fields}), patience or Patience())
        about = About("20260101-000000-r", "r", project, ("t",), self.folder / "sinks" / name, False, {"seed": 1})
        made.open(name, opener, about, {**os.environ, "PYTHONPATH": os.pathsep.join([str(self.folder), *sys.path])})
        return made

    def got(self) -> list[list[Any]]:
        path = self.folder / "sinks" / "strange" / "got"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def metrics(step: int, **values: Any) -> Mapping[str, Any]:
    return {"v": 1, "seq": step, "t": 1e9 + step, "mono": 1.0, "type": "metrics", "step": step, **values}


GIVES_TIME = Patience(close_s=60.0)


def test_a_sink_gets_the_numbers_of_each_metrics_record_and_nothing_else(desk: Desk) -> None:
    sinks = desk.sinks("strange:open_sink", patience=GIVES_TIME)
    sinks.record(metrics(1, loss=0.5, lr=1e-4, grad_norm=None, mfu=float("nan"), note="words", flag=True))
    sinks.record({"type": "sample", "t": 1.0, "step": 1, "prompt": "p", "text": "x"})
    sinks.record(metrics(1, eval_loss=2.0))
    sinks.close()
    assert desk.got() == [[1, {"loss": 0.5, "lr": 1e-4}], [1, {"eval_loss": 2.0}]]
    assert not desk.warnings


def test_steps_that_are_trained_again_are_not_sent_again(desk: Desk) -> None:
    for steps in (range(1, 6), range(4, 9)):  # killed after 5, with a checkpoint at 3
        sinks = desk.sinks("strange:open_sink", patience=GIVES_TIME)
        for step in steps:
            sinks.record(metrics(step, loss=1.0))
        sinks.close()
    assert [step for step, _ in desk.got()] == list(range(1, 9))


@pytest.mark.parametrize(
    ("project", "said"),
    [
        ("raises", "ValueError: no such project"),
        ("unable", "OSError: no way to open"),
        ("crashes", "signal 11"),
        ("hangs", "did not close in time"),
        ("stays", "did not close in time"),
    ],
)
def test_a_sink_that_fails_is_one_warning_that_names_it(desk: Desk, project: str, said: str) -> None:
    patience = Patience(close_s=2.0 if project in ("hangs", "stays") else 60.0)
    sinks = desk.sinks("strange:open_sink", project, patience)
    for step in range(1, 4):
        sinks.record(metrics(step, loss=1.0))
    sinks.close()
    assert [(one["type"], one["sink"]) for one in desk.warnings] == [("warning", "strange")]
    assert said in desk.warnings[0]["message"] and "hf_abcdefghijkl" not in desk.warnings[0]["message"]


def test_a_sink_that_is_not_there_is_one_warning(desk: Desk) -> None:
    sinks = desk.sinks("no_such_module:open_sink", patience=GIVES_TIME)
    sinks.record(metrics(1, loss=1.0))
    sinks.close()
    assert len(desk.warnings) == 1 and "no_such_module" in desk.warnings[0]["message"]


def test_a_sink_that_takes_nothing_is_closed_while_the_run_goes_on(desk: Desk) -> None:
    sinks = desk.sinks("strange:open_sink", "hangs", Patience(hang_s=0.0))
    for step in range(1, 50):
        sinks.record(metrics(step, loss=1.0))
    assert [one["sink"] for one in desk.warnings] == ["strange"], "said once, and before the end"
    sinks.close()
    assert len(desk.warnings) == 1


def test_what_the_queue_does_not_hold_is_dropped_and_counted(desk: Desk) -> None:
    sinks = desk.sinks("strange:open_sink", "hangs", Patience(close_s=0.0))
    wide = {f"value_{i}": 1.0 for i in range(150)}  # under 4 KiB
    for step in range(1, 2000):
        sinks.record(metrics(step, **wide))
    sinks.close()
    assert len(desk.warnings) == 1 and " records were dropped before" in desk.warnings[0]["message"]


def test_a_record_that_is_too_long_is_dropped_alone(desk: Desk) -> None:
    sinks = desk.sinks("strange:open_sink", patience=GIVES_TIME)
    sinks.record(metrics(1, **{f"value_{i}": 1.0 for i in range(LONGEST // 8)}))
    sinks.record(metrics(2, loss=1.0))
    sinks.close()
    assert desk.got() == [[2, {"loss": 1.0}]]
    assert desk.warnings[0]["message"].startswith("1 record did not reach the sink strange")


def test_tensorboard_reads_what_two_attempts_wrote(desk: Desk) -> None:
    pytest.importorskip("tensorboard")
    for steps in (range(1, 6), range(4, 9)):
        sinks = desk.sinks(BUILT_IN["tensorboard"].value, patience=GIVES_TIME, name="tensorboard")
        for step in steps:
            sinks.record(metrics(step, loss=1.0 / step))
        sinks.record(metrics(steps[-1], eval_loss=2.0))
        sinks.close()
    assert not desk.warnings
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(desk.folder / "sinks" / "tensorboard"))
    read.Reload()
    loss = read.Tensors("loss") if "loss" in read.Tags()["tensors"] else read.Scalars("loss")
    assert [one.step for one in loss] == list(range(1, 9))
    assert [one.value for one in loss] == pytest.approx([1.0 / step for step in range(1, 9)])
    assert [one.wall_time for one in loss] == [1e9 + step for step in range(1, 9)]
    assert [one.step for one in read.Scalars("eval_loss")] == [5, 8]


STAND_IN = """
import json, os
def note(*what):
    with open(os.environ["NOTED"], "a") as stream: stream.write(json.dumps(what) + "\\n")
class Run:
    def log(self, values, step): note("log", step, values)
    def finish(self): note("finish")
def init(**given): note("init", given); return Run()
log, finish = (lambda values, step: note("log", step, values)), (lambda: note("finish"))
"""


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_the_calls_of_sinks_that_are_not_installed_here(desk: Desk, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with the calls that their documentation has: init with resume, log with a step, finish."""
    (desk.folder / f"{name}.py").write_text(STAND_IN)
    monkeypatch.setenv("NOTED", str(desk.folder / "noted"))
    monkeypatch.setenv("HOME", str(desk.folder))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    sinks = desk.sinks(BUILT_IN[name].value, "ours", GIVES_TIME, name)
    sinks.record(metrics(3, loss=1.0))
    sinks.close()
    assert not desk.warnings
    noted = [json.loads(line) for line in (desk.folder / "noted").read_text().splitlines()]
    given = noted[0][1]
    assert (given["project"], given["resume"], given["config"]) == ("ours", "allow", {"seed": 1})
    assert [one[:2] for one in noted[1:]] == [["log", 3], ["finish"]] and noted[1][2]["loss"] == 1.0
    if name == "wandb":
        assert (given["id"], given["name"], given["mode"]) == ("20260101-000000-r", "r", "offline")
    else:
        assert given["name"] == "20260101-000000-r"


UNREACHED = """
class errors:
    class CommError(Exception): pass
Settings = dict
def teardown(): note("teardown")
kept = init
def init(**given):
    if given["mode"] == "offline": return kept(**given)
    note("tried", given["settings"])
    raise errors.CommError("no answer")
"""


def test_a_run_whose_wandb_server_is_not_reached_is_kept_here(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    (desk.folder / "wandb.py").write_text(STAND_IN + UNREACHED)
    monkeypatch.setenv("NOTED", str(desk.folder / "noted"))
    monkeypatch.setenv("HOME", str(desk.folder))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    (desk.folder / ".netrc").write_text("machine api.forge.coreweave.com login user password key\n")
    (desk.folder / ".netrc").chmod(0o600)
    sinks = desk.sinks(BUILT_IN["wandb"].value, "ours", GIVES_TIME, "wandb")
    sinks.record(metrics(3, loss=1.0))
    sinks.close()
    assert not desk.warnings
    noted = [json.loads(line) for line in (desk.folder / "noted").read_text().splitlines()]
    assert [one[0] for one in noted] == ["tried", "teardown", "init", "log", "finish"]
    assert noted[0][1] == {"init_timeout": 20.0} and noted[2][1]["mode"] == "offline"


def test_what_looks_like_a_secret_is_not_handed_on() -> None:
    config = {"notify": {"on_end": "curl -H 'Authorization: Bearer abcdef123456'"}, "tags": ["mine-12345"], "n": 1}
    shown = without_secrets(config, ("mine-12345",))
    assert shown["tags"] == ["[redacted]"] and "abcdef123456" not in json.dumps(shown) and shown["n"] == 1
