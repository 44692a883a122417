"""Times how long training stands still for a checkpoint; prints one JSON object.

Run as a script by test_checkpoint_pause.py, in a process of its own: `checkpoint_bench.py FOLDER`.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROUNDS = 5
ROWS = 2
STEPS = 6  # after the save begins, in which it ends


def main(folder: Path) -> None:
    os.environ |= {"LLAMAHOME_HOME": str(folder / "home"), "HF_HOME": str(folder / "hf")}
    from llamahome_tui.config.places import Places
    from tests.tinymodel import write_model

    places = Places.from_environ(os.environ)
    places.ensure()
    source = write_model(folder / "model", hidden=384, layers=6, vocabulary=8000)
    print(json.dumps({kind: measure(places, source, kind) for kind in ("lora", "full")}))


def measure(places: Any, path: Path, kind: str) -> dict[str, float]:
    """Medians over rounds in which both ways take turns, in seconds."""
    import torch

    from llamahome_tui.jobs.store import RunStore
    from llamahome_tui.training.spec import Spec
    from llamahome_tui.training.trainer import checkpoint, model, optim, snapshot
    from llamahome_tui.training.trainer.saving import Saving

    values: Any = Spec().to_dict() | {"name": kind}
    values["model"]["id"] = str(path)
    values["lora"] |= {"enabled": kind == "lora"}
    values["checkpoint"] |= {"every_minutes": 0, "keep": 1}
    spec = Spec.from_dict(values)
    child = Quiet(RunStore(places).create({"name": kind, "kind": "train", "spec": values}))
    trainee = model.load(spec, model.Source(path, str(path)), torch.device("cpu"), print)
    optimizer = optim.build("adamw", trainee.model, 1e-4, 0.0)
    ids = torch.randint(0, 8000, (ROWS, 32))

    def step() -> None:
        trainee.model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def steps() -> float:
        began = time.perf_counter()
        for _ in range(STEPS):
            step()
        return time.perf_counter() - began

    def taken() -> snapshot.Snapshot:
        return snapshot.take(trainee, optimizer, None, {})

    saving: Any = Saving(child, spec, 0, "", lambda step: None)  # type: ignore[arg-type]
    found: dict[str, list[float]] = {"waiting": [], "pause": [], "beside": [], "alone": []}
    step()
    for round_ in range(1, ROUNDS + 1):
        found["alone"].append(steps())
        began = time.perf_counter()
        checkpoint.write(child.run.checkpoints_dir, 0, taken())
        found["waiting"].append(time.perf_counter() - began)
        began = time.perf_counter()
        saving.begin(taken(), round_, None, "", None, False)
        found["pause"].append(time.perf_counter() - began)
        found["beside"].append(steps())
        saving.settle(wait=True)
    saving.finish()
    size = sum(path.stat().st_size for path in child.run.checkpoints_dir.glob(f"step-{ROUNDS}/*"))
    return {name: statistics.median(times) for name, times in found.items()} | {"mib": size / 2**20}


class Quiet:
    """A child whose records are not wanted."""

    def __init__(self, run: Any) -> None:
        self.run = run
        self.step = 0

    def emit(self, type: str, **fields: Any) -> None:
        pass


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main(Path(sys.argv[1]))
