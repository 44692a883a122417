"""Times the trainer's loop against bare torch loops on the same model and rows; prints one JSON object.

Run as a script by test_trainer.py, in a process of its own: `trainer_bench.py FOLDER`.
"""

from __future__ import annotations

import copy
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS = 6  # of each kind, between which the kinds take turns
ROUNDS = 7


def main(folder: Path) -> None:
    os.environ |= {"LLAMAHOME_HOME": str(folder / "home"), "HF_HOME": str(folder / "hf")}
    import torch

    from llamahome_tui.config.places import Places
    from llamahome_tui.data.prepare import prepare
    from llamahome_tui.jobs.child import Child
    from llamahome_tui.jobs.replay import Script
    from llamahome_tui.jobs.store import RunStore
    from llamahome_tui.training.auto import Micro
    from llamahome_tui.training.layout import Order
    from llamahome_tui.training.spec import Spec
    from llamahome_tui.training.trainer import batches, loss, model, optim
    from llamahome_tui.training.trainer.counters import Counters
    from llamahome_tui.training.trainer.loop import Held, Loop
    from llamahome_tui.training.trainer.objectives.likelihood import Likelihood
    from llamahome_tui.training.trainer.step import Stepper
    from tests.tinymodel import write_chats, write_model

    places = Places.from_environ(os.environ)
    places.ensure()
    values: Any = Spec().to_dict() | {"name": "bench"}
    values["model"]["id"] = str(write_model(folder / "model", hidden=192, layers=4, vocabulary=4000))
    values["data"] |= {"train": [str(write_chats(folder / "chats.jsonl", 400))], "eval": 0}
    values["training"] |= {"max_steps": 10_000, "learning_rate": 1e-4}
    values["checkpoint"] |= {"every_minutes": 0}
    spec = Spec.from_dict(values)
    child = Child.enter(RunStore(places).create({"name": "bench", "kind": "train", "spec": values}).dir)

    data = prepare(spec, Path(spec.model.id), None)
    torch.manual_seed(0)
    source = model.Source(Path(spec.model.id), spec.model.id)
    trainee = model.load(spec, source, torch.device("cpu"), print)
    order = Order(len(data.train), 16, 0)

    def steps(module: Any) -> tuple[Callable[[int], None], Callable[[int], None]]:
        """A bare step with the trainer's way to the loss, and one with the model's own labels and logits."""
        base = module.get_base_model()
        learning = [p for p in module.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(learning, lr=1e-4, fused=True)
        read, _ = loss.reader_of(module, base, batches.collate([data.train[0]]), trainee.autocast)

        def finish() -> None:
            torch.nn.utils.clip_grad_norm_(learning, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        def lean(step: int) -> None:
            batch = batches.collate([data.train[i] for i in order.rows_of(step)])
            (loss.cross_entropy(read(batch)) / batch.labels.shape[0]).backward()
            finish()

        def plain(step: int) -> None:
            rows = [data.train[i] for i in order.rows_of(step)]
            length = max(len(row.ids) for row in rows)
            ids = torch.zeros((len(rows), length), dtype=torch.int64)
            labels = torch.full_like(ids, -100)
            seen = torch.zeros_like(ids)
            for i, row in enumerate(rows):
                ids[i, : len(row.ids)] = torch.tensor(row.ids)
                seen[i, : len(row.ids)] = 1
                mask = torch.tensor(row.mask, dtype=torch.bool)
                labels[i, : len(row.ids)][mask] = torch.tensor(row.ids)[mask]
            module(input_ids=ids, attention_mask=seen, labels=labels).loss.backward()
            finish()

        return lean, plain

    lean, plain = steps(copy.deepcopy(trainee.model))
    optimizer = optim.build("adamw", trainee.model, 1e-4, 0.0)
    sample = batches.collate([data.train[0]])
    read, _ = loss.reader_of(trainee.model, trainee.base, sample, trainee.autocast)
    stepper = Stepper(
        trainee,
        Likelihood(read),
        optimizer,
        None,
        batches.Items.of(data.train),
        Micro("tokens", 4096),
        clip=1.0,
        batching=batches.Batching("sorted"),
        split_on_oom=True,
        degraded=lambda what, why: None,
    )
    counters = Counters(Micro("tokens", 4096), 1e-4)
    held: Any = Held(batches.Items.made([]), None, ())  # type: ignore[arg-type]  # nothing is held out, so nothing writes
    loop = Loop(child, spec, stepper, order, held, counters, 10_000, lambda now: {}, Script(()))

    def ours(_step: int) -> None:
        # The loop's own two halves of a step: a whole run would time its start and its end too.
        loop._step()
        loop._between()

    rates: dict[str, list[float]] = {"ours": [], "lean": [], "plain": []}
    for round_ in range(-1, ROUNDS):  # the first one warms up
        for name, step in (("lean", lean), ("ours", ours), ("plain", plain)):
            began = time.perf_counter()
            for i in range(STEPS):
                step(max(0, round_) * STEPS + i)
            if round_ >= 0:
                rates[name].append(STEPS / (time.perf_counter() - began))
    found = {name: statistics.median(values) for name, values in rates.items()}
    pairs = [a / b for a, b in zip(rates["ours"], rates["lean"], strict=True)]
    print(json.dumps(found | {"paired": statistics.median(pairs)}))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main(Path(sys.argv[1]))
