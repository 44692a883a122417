"""Times optimiser steps on rows of given lengths, packed, sorted and plain in turns; prints one JSON object.

Run as a script by test_padding.py, in a process of its own: `padding_bench.py FOLDER`, the lengths as JSON on stdin.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROUNDS = 2  # of one step of each kind, the same step for all of them
VOCABULARY = 4000


@dataclass
class Row:
    ids: list[int]
    mask: list[int]


def main(folder: Path) -> None:
    os.environ |= {"LLAMAHOME_HOME": str(folder / "home"), "HF_HOME": str(folder / "hf")}
    import torch

    from llamahome_tui.training.auto import CALL_TOKENS, CPU_MICRO_TOKENS, Micro
    from llamahome_tui.training.layout import Order
    from llamahome_tui.training.spec import Spec
    from llamahome_tui.training.trainer import loss, model, optim
    from llamahome_tui.training.trainer.batches import Batching, Item, Items, collate
    from llamahome_tui.training.trainer.objectives.likelihood import Likelihood
    from llamahome_tui.training.trainer.step import Stepper
    from tests.tinymodel import write_model

    chance = random.Random(0)
    lengths: list[int] = json.load(sys.stdin)
    rows = [Row([chance.randrange(5, VOCABULARY) for _ in range(n)], [0] + [1] * (n - 1)) for n in lengths]
    values: Any = Spec().to_dict() | {"name": "bench"}
    values["model"]["id"] = str(write_model(folder / "model", hidden=192, layers=4, vocabulary=VOCABULARY))
    torch.manual_seed(0)
    source = model.Source(Path(values["model"]["id"]), values["model"]["id"])
    trainee = model.load(Spec.from_dict(values), source, torch.device("cpu"), print)
    read, _ = loss.reader_of(trainee.model, trainee.base, collate([rows[0]]), trainee.autocast)
    optimizer = optim.build("adamw", trainee.model, 1e-5, 0.0)
    items = Items.made([Item((row,)) for row in rows])
    order = Order(len(rows), 16, 42)

    def stepper(batching: Batching, call: int) -> Stepper:
        return Stepper(
            trainee, Likelihood(read), optimizer, None, items, Micro("tokens", CPU_MICRO_TOKENS, call),
            clip=1.0, batching=batching, split_on_oom=False, degraded=lambda what, why: None,
        )  # fmt: skip

    kinds = {
        "sorted": stepper(Batching("sorted"), CALL_TOKENS["cpu"]),
        "uncut": stepper(Batching("sorted"), 0),
        "packed": stepper(Batching("packed"), 0),
        "plain": stepper(Batching("plain"), 0),
    }
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    for round_ in range(-1, ROUNDS):  # the first one warms up
        for kind, taking in kinds.items():
            began = time.process_time()
            taken = taking.take(order.rows_of(max(0, round_)), 1e-5)
            if round_ >= 0:
                rates[kind].append(taken.tokens / (time.process_time() - began))
    paired = {
        kind: statistics.median(a / b for a, b in zip(rates["sorted"], rates[kind], strict=True)) for kind in rates
    }
    print(json.dumps({"rates": {kind: statistics.median(found) for kind, found in rates.items()}, "paired": paired}))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main(Path(sys.argv[1]))
