"""Runs made for trainer tests: a spec with small numbers, a forked trainer, and what its journal says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamahome_tui.config.places import Places
from llamahome_tui.jobs.journal import read
from llamahome_tui.jobs.store import Run, RunStore
from llamahome_tui.training.spec import Spec
from tests.forge import Forge, Trainer
from tests.tinymodel import write_chats, write_model

QUICK: dict[str, dict[str, Any]] = {
    "lora": {"r": 4, "alpha": 8.0},
    "training": {"max_steps": 12, "global_batch": 4, "log_every": 1, "learning_rate": 0.01},
    "checkpoint": {"every_steps": 3, "every_minutes": 0.0},
    "data": {"eval": 8},
}


@dataclass
class Bench:
    """A model, data and a place for runs; trainers come from the forge."""

    forge: Forge
    places: Places
    environ: dict[str, str]
    model: Path
    data: Path

    @classmethod
    def make(cls, forge: Forge, folder: Path, *, rows: int = 48, **model: Any) -> Bench:
        environ = {"LLAMAHOME_HOME": str(folder / "home"), "HF_HOME": str(folder / "hf")}
        places = Places.from_environ(environ)
        places.ensure()
        return cls(
            forge,
            places,
            environ,
            write_model(folder / "model", **model),
            write_chats(folder / "chats.jsonl", rows),
        )

    def spec(self, **tables: Mapping[str, Any]) -> dict[str, Any]:
        """QUICK with these tables merged in, as a job carries it."""
        values: dict[str, Any] = Spec(name="quick").to_dict()
        given = {"model": {"id": str(self.model)}, "data": {"train": [str(self.data)]}}
        for layer in (QUICK, given, tables):
            for table, keys in layer.items():
                values[table] |= keys
        return values

    def run(self, name: str = "quick", **tables: Mapping[str, Any]) -> Run:
        """A run that nothing works on yet."""
        spec = self.spec(**tables) | {"name": name}
        return RunStore(self.places).create({"name": name, "kind": "train", "spec": spec, "request_id": "test"})

    def train(self, run: Run, *, before: str = "") -> Trainer:
        return self.forge.train(run.dir, self.environ, before=before)

    def finish(self, run: Run, *, before: str = "") -> list[dict[str, Any]]:
        """Train to the end and give the attempt's events; what it printed is shown where it crashed."""
        status = self.train(run, before=before).wait()
        found = list(read(run.events_path))
        if status != 0:
            print(run.out_path.read_text(errors="replace"))
        return found


def of(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The events of one type."""
    return [event for event in events if event["type"] == kind]


def losses(run: Run) -> dict[int, float]:
    """The loss of each step as a reader of the journal sees it: a later attempt's words count."""
    found: dict[int, float] = {}
    for event in read(run.events_path):
        if event["type"] == "start":
            found = {step: loss for step, loss in found.items() if step <= event["from_step"]}
        if event["type"] == "metrics" and "loss" in event:
            found[event["step"]] = event["loss"]
    return found


def eval_losses(run: Run) -> dict[int, float]:
    """The evaluation loss by step."""
    return {e["step"]: e["eval_loss"] for e in read(run.events_path) if e["type"] == "metrics" and "eval_loss" in e}


def adapter(run: Run) -> bytes:
    """The final adapter's weights as they lie on disk."""
    return (run.artifacts_dir / "adapter" / "adapter_model.safetensors").read_bytes()


def checkpoint_steps(run: Run) -> list[int]:
    """Steps of the checkpoint folders."""
    return sorted(int(p.name[5:]) for p in run.checkpoints_dir.glob("step-*") if p.name[5:].isdigit())


def show(events: list[dict[str, Any]]) -> str:
    """For a failing test."""
    return "\n".join(json.dumps(event) for event in events)


__all__ = ["Bench", "adapter", "checkpoint_steps", "eval_losses", "losses", "of", "show"]
