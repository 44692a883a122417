"""Peak memory of training steps, in a process of its own: `chunk_bench.py chunked|whole FOLDER VOCABULARY TOKENS`.

Prints {"before", "peak", "loss"} as its last line: MiB before the steps, and at most (VmHWM), and the loss of the last.
"""

from __future__ import annotations

import json
import os
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LENGTH = 1024
STEPS = 2


@dataclass
class Row:
    ids: list[int]
    mask: list[int]


def main(mode: str, folder: Path, vocabulary: int, tokens: int) -> None:
    os.environ |= {"LLAMAHOME_HOME": str(folder / "home"), "HF_HOME": str(folder / "hf")}
    import torch

    from llamahome_tui.training.auto import Micro
    from llamahome_tui.training.spec import Spec
    from llamahome_tui.training.trainer import loss, memory, model, optim
    from llamahome_tui.training.trainer.batches import Batching, Item, Items
    from llamahome_tui.training.trainer.objectives.likelihood import Likelihood
    from llamahome_tui.training.trainer.step import Stepper

    chance = random.Random(0)
    count = tokens // LENGTH
    rows = [Row([5] * 8, [1] * 8)]  # for a first step, after which libraries are loaded and the optimiser has its state
    rows += [Row([chance.randrange(5, vocabulary) for _ in range(LENGTH)], [1] * LENGTH) for _ in range(count)]
    values: Any = Spec().to_dict() | {"name": "bench"}
    values["model"]["id"] = str(folder / "model")
    torch.manual_seed(0)
    source = model.Source(folder / "model", values["model"]["id"])
    trainee = model.load(Spec.from_dict(values), source, torch.device("cpu"), print)
    stepper = Stepper(
        trainee,
        Likelihood(loss.reader(trainee.model, trainee.base, hidden=mode == "chunked")),
        optim.build("adamw", trainee.model, 1e-5, 0.0),
        None,
        Items.made([Item((row,)) for row in rows]),
        Micro("tokens", tokens),
        clip=1.0,
        batching=Batching("sorted"),
        split_on_oom=False,
        degraded=lambda what, why: None,
    )
    stepper.take([0], 1e-5)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident()
    taken = [stepper.take(range(1, count + 1), 1e-5) for _ in range(STEPS)][-1]
    peak = memory.peak_bytes(trainee.device)
    print(json.dumps({"before": before >> 20, "peak": peak >> 20, "loss": taken.loss / taken.trained}))


def resident() -> int:
    """Bytes of this process that lie in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
