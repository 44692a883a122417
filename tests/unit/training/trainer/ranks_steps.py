"""One rank's process: takes two steps of every objective and writes what it saw (folder, out, rank, size, store)."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from llamahome_tui.training.auto import Micro
from llamahome_tui.training.shape import Method
from llamahome_tui.training.trainer.batches import Batching, Item, Items, collate
from llamahome_tui.training.trainer.loss import reader_of
from llamahome_tui.training.trainer.model import Trainee
from llamahome_tui.training.trainer.objectives import objective_of
from llamahome_tui.training.trainer.ranks import ALONE, Ranks
from llamahome_tui.training.trainer.step import Stepper
from tests.unit.training.trainer import objective_cases as cases

STEPS = (range(7), range(7, 8), range(8, 16))  # odd, a single row (one rank has none), even


class Row:
    def __init__(self, prompt: list[int], answer: list[int]) -> None:
        self.ids = prompt + answer
        self.mask = [0] * len(prompt) + [1] * len(answer)


def item(kind: str, row: cases.Answered) -> Item:
    chosen, rejected = Row(row.prompt, row.chosen), Row(row.prompt, row.rejected)
    return Item((chosen, rejected) if kind in ("dpo", "simpo", "orpo") else (chosen,), row.good)


def take(folder: Path, case: cases.Case, ranks: Ranks) -> dict[str, Any]:
    """What three steps give, and the weights after them."""
    from peft import get_peft_model

    base = cases.load(folder)
    model = get_peft_model(base, cases.config())
    cases.fill(model)
    trainee = Trainee(model.train(), base, torch.device("cpu"), "fp32", lora=True, parameters=0)
    items = Items.made([item(case.kind, row) for step in cases.steps() for row in step])
    read, _ = reader_of(trainee.model, trainee.base, collate(items[0].sequences), trainee.autocast)
    stepper = Stepper(
        trainee, objective_of(Method(kind=case.kind, **case.method), trainee, read, 64),
        torch.optim.SGD(trainee.trainable, lr=0.1), None, items, Micro("rows", 2),
        clip=1.0, batching=Batching("sorted"), split_on_oom=True, degraded=lambda what, why: None, ranks=ranks,
    )  # fmt: skip
    taken = [replace(stepper.take(rows, 0.1), data_s=0.0) for rows in STEPS]
    return {
        "taken": [(one.loss, one.weight, one.trained, one.rows, one.grad_norm, dict(one.sums)) for one in taken],
        "weights": [one.detach().clone() for one in trainee.trainable],
    }


def main(folder: str, out: str, rank: str, size: str, store: str) -> None:
    ranks = ALONE
    if int(size) > 1:
        distributed.init_process_group("gloo", f"file://{store}", rank=int(rank), world_size=int(size))
        ranks = Ranks(int(rank), int(size))
    torch.save({case.name: take(Path(folder), case, ranks) for case in cases.CASES}, out)
    if int(size) > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
