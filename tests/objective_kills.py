"""Trainers of one objective killed at stages of their writing and at random; each run must end as an undisturbed one.

A stage is a call that puts something on disk (or takes it away) in the run's folder: the undisturbed run lists its own,
and a trainer that is to die at one kills itself just before it. A moment is a share of the time that the undisturbed
run took. Neither what is checked nor whether it holds depends on how fast the machine is.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llamahome_tui.jobs.journal import read
from llamahome_tui.jobs.store import Run
from tests.forge import Forge
from tests.integration.trainer_runs import Bench, eval_losses, losses, of
from tests.tinymodel import write_preferences

FULL = "sft of all weights"
OBJECTIVES = ("pretrain", "sft", "dpo", "orpo", "kto", "simpo", FULL)
PACKED = ("pretrain", "sft", "dpo")
FILES = {"pretrain": "chats.jsonl", "sft": "chats.jsonl", FULL: "chats.jsonl", "kto": "labels.jsonl"}
ROWS, HELD, STEPS = 20, 4, 7  # four steps are an epoch
OF_A_RUN = 4  # kills: one at a stage, the others at random
EARLY = 0.5  # a resumed trainer has less to do than the undisturbed one

# Python for the trainer: work(stage) before each call that moves something durable in the run's folder.
WATCH = """
import os, re, signal
def path_of(first, dir_fd):
    if isinstance(first, int):
        return os.readlink(f"/proc/self/fd/{first}")
    return os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}") if dir_fd is not None else "", os.fspath(first))
def watched(name):
    real = getattr(os, name)
    def call(first, *rest, **more):
        path = path_of(first, more.get("dir_fd") or more.get("src_dir_fd"))
        if path.startswith(RUN) and not path.endswith("events.jsonl"):
            short = re.sub(r"step-\\d+", "step", re.sub(r"[.][0-9a-f]+$", "", path.removeprefix(RUN)))
            work(f"{name} {short.replace('adapter_', '').replace('adapter', 'model')}")
        return real(first, *rest, **more)
    setattr(os, name, call)
for name in ("mkdir", "fsync", "replace", "rename", "unlink", "rmdir"):
    watched(name)
"""
LIST = """
def work(stage):
    with open(STAGES, "a") as file:
        file.write(stage + "\\n")
"""
DIE = """
left = TIMES
def work(stage):
    global left
    left -= stage == STAGE
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@dataclass
class Tally:
    """What a campaign did."""

    kills: Counter[str] = field(default_factory=Counter)  # by objective
    places: Counter[str] = field(default_factory=Counter)  # "stage" or the phase that a random moment fell into
    stages: Counter[str] = field(default_factory=Counter)  # kills at each that an undisturbed run has
    runs: int = 0  # compared with the undisturbed one

    @property
    def total(self) -> int:
        return sum(self.kills.values())

    def as_dict(self) -> dict[str, Any]:
        """For a result."""
        return {
            "sigkills": self.total,
            "by_objective": dict(self.kills),
            "fell_into": dict(self.places),
            "stages": len(self.stages),
            "stages_missed": list(self.stages.values()).count(0),
            "runs_compared": self.runs,
        }


def make_bench(forge: Forge, folder: Path) -> Bench:
    """A model and rows for every objective."""
    bench = Bench.make(forge, folder, rows=ROWS)
    write_preferences(folder / "pairs.jsonl", ROWS)
    write_preferences(folder / "labels.jsonl", ROWS, labels=True)
    return bench


def tables(bench: Bench, kind: str) -> dict[str, dict[str, Any]]:
    """Dropout, two micro-batches or more for a step, packing where it applies, two workers, a second epoch."""
    packed = kind in PACKED  # then 1 is the room of the longest row, and no four rows fit into that
    return {
        "method": {"kind": "sft" if kind == FULL else kind},
        "data": {
            "train": [str(bench.data.with_name(FILES.get(kind, "pairs.jsonl")))],
            "eval": HELD,
            "batching": "packed" if packed else "sorted",
        },
        "lora": {"enabled": False} if kind == FULL else {"dropout": 0.1},
        "training": {"max_steps": STEPS, "batch_size": 1 if packed else 2, "max_workers": 2},
        "checkpoint": {"every_steps": 2, "keep": 1},
        "evaluation": {"every_steps": 2},
    }


class Kills:
    """The kills of one objective. A run gets one at the stage that had the fewest, some at random, then may finish."""

    def __init__(self, bench: Bench, kind: str, seed: int, tally: Tally) -> None:
        self._bench = bench
        self._kind = kind
        self._chance = random.Random(f"{kind} {seed}")
        self._tally = tally
        self._whole = self._new_run()
        listed = self._whole.dir / "stages"
        began = time.monotonic()
        events = bench.finish(self._whole, before=watch(self._whole, LIST, STAGES=str(listed)))
        self._longest = time.monotonic() - began
        assert events[-1]["reason"] == "completed", self._whole.out_path.read_text()
        assert of(events, "progress")[-1]["epoch"] > 1 and len(losses(self._whole)) == STEPS
        assert {e["batching"] for e in of(events, "phase") if "batching" in e} == {
            tables(bench, kind)["data"]["batching"]
        }
        self._stages = Counter(listed.read_text().splitlines())
        tally.stages.update(dict.fromkeys(self._stages, 0))

    def kill(self, times: int) -> None:
        """So many kills."""
        until = self._tally.kills[self._kind] + times
        while (left := until - self._tally.kills[self._kind]) > 0:
            self._one_run(min(OF_A_RUN, left))

    def _one_run(self, kills: int) -> None:
        run = self._new_run()
        shutil.rmtree(self._bench.places.prepared, ignore_errors=True)  # so that its own workers prepare its rows
        stage = min(self._stages, key=lambda name: self._tally.stages[name])
        dies = watch(run, DIE, STAGE=stage, TIMES=self._chance.randint(1, self._stages[stage]))
        if self._died(run, self._bench.train(run, before=dies).wait(), "stage"):
            self._tally.stages[stage] += 1
        for _ in range(kills - 1):
            trainer = self._bench.train(run)
            time.sleep(self._chance.random() * self._longest * EARLY)
            trainer.kill()
            if not self._died(run, trainer.wait(), ""):
                break  # it was done before
        else:
            self._bench.finish(run)
        self._compare(run)

    def _died(self, run: Run, status: int, where: str) -> bool:
        if status != -signal.SIGKILL:
            assert status == 0, run.out_path.read_text()
            return False
        self._tally.kills[self._kind] += 1
        phases = [e for e in read(run.events_path) if e["type"] in ("start", "phase")]
        self._tally.places[where or (phases[-1].get("phase", "start") if phases else "before the start")] += 1
        return True

    def _compare(self, run: Run) -> None:
        events = list(read(run.events_path))
        assert events[-1]["type"] == "end" and events[-1]["reason"] == "completed", run.out_path.read_text()
        starts = of(events, "start")
        assert all(start["exact"] for start in starts), starts
        assert losses(run) == losses(self._whole)
        assert eval_losses(run) == eval_losses(self._whole)
        assert weights(run) == weights(self._whole)
        assert not list(run.checkpoints_dir.glob(".*"))
        self._tally.runs += 1

    def _new_run(self) -> Run:
        return self._bench.run(self._kind.replace(" ", "-"), **tables(self._bench, self._kind))


def weights(run: Run) -> bytes:
    """What the run ended with, as it lies on disk."""
    (file,) = run.artifacts_dir.glob("*/*.safetensors")
    return file.read_bytes()


def watch(run: Run, work: str, **given: str | int) -> str:
    """Python that a trainer runs first, with these names in it."""
    names = "".join(f"{name} = {value!r}\n" for name, value in {"RUN": f"{run.dir}/", **given}.items())
    return names + WATCH + work


def campaign(bench: Bench, kills: int, seed: int) -> Tally:
    """At least so many kills, spread over all objectives."""
    tally = Tally()
    for kind in OBJECTIVES:
        Kills(bench, kind, seed, tally).kill(-(-kills // len(OBJECTIVES)))
    return tally
