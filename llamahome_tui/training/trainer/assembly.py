"""What every rank of a run builds alike: the model, how it is read, and what takes the steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from llamahome_tui.config.places import Places
from llamahome_tui.jobs.store import RunStore
from llamahome_tui.models.locate import Located, at_revision, locate
from llamahome_tui.training import auto, weights
from llamahome_tui.training.methods import method_of
from llamahome_tui.training.spec import Spec
from llamahome_tui.training.trainer import batches, checkpoint, kernels, model, optim, proof, rng
from llamahome_tui.training.trainer.batches import Batching, Items, Row
from llamahome_tui.training.trainer.checkpoint import Checkpoint
from llamahome_tui.training.trainer.counters import Counters
from llamahome_tui.training.trainer.loss import Reader, reader, reader_of
from llamahome_tui.training.trainer.model import Source, Trainee
from llamahome_tui.training.trainer.objectives import objective_of, reference
from llamahome_tui.training.trainer.ranks import Ranks
from llamahome_tui.training.trainer.step import Stepper

MULTIPLE: dict[auto.Device, int] = {"cpu": 1, "cuda": 8}  # of tokens: what tensor cores like lengths to be


def find_model(spec: Spec, places: Places) -> Located:
    """The model's folder; `train start` has pinned branches to commits and names of runs to ids."""
    return locate(at_revision(spec.model.id, spec.model.revision), places, RunStore(places))


def loaded(
    spec: Spec, located: Located, device: Any, warn: Callable[[str], None], resumed: Checkpoint | None
) -> Trainee:
    """The model, with the same first weights in every rank."""
    rng.seed(spec.training.seed)
    source = Source(located.path, weights.base_name(located), located.adapter)
    trainee = model.load(spec, source, device, warn, resumed.path if resumed else None)
    if method_of(spec.method.kind).reference:
        reference.keep(trainee, Path(spec.model.adapter) if spec.model.adapter else located.adapter)
    return trainee


@dataclass(frozen=True, slots=True)
class Reading:
    """How an objective reads the model: the plain way, whether in chunks, and rows to hold a faster one against it."""

    plain: Reader
    chunked: bool
    tried: Callable[[], batches.MicroBatch]


def reading_of(
    spec: Spec, trainee: Trainee, rows: Sequence[Row], items: Items, degraded: Callable[[str, str], None]
) -> Reading:
    """Find out, and give the model the kernels that its spec asks for and that give the same."""
    sample = batches.collate([rows[items.filled.index(min(items.filled))]]).to(trainee.device)
    plain, chunked = reader_of(trainee.model, trainee.base, sample, trainee.autocast)
    multiple = MULTIPLE["cpu" if trainee.device.type == "cpu" else "cuda"]

    def tried() -> batches.MicroBatch:
        return proof.batch_of(rows, items.filled, multiple=multiple)

    kernels.choose(trainee, plain, spec.training, tried, degraded)
    return Reading(plain, chunked, tried)


def stepper_of(
    spec: Spec,
    trainee: Trainee,
    items: Items,
    counters: Counters,
    reading: Reading,
    batching: Batching,
    resumed: Checkpoint | None,
    ranks: Ranks,
    warn: Callable[[str], None],
    degraded: Callable[[str, str], None],
) -> Stepper:
    """What takes the run's steps, as the counters have settled them, with everything at its checkpoint's state."""
    if counters.gradient_checkpointing and not trainee.checkpoint_gradients(counters.gradient_checkpointing):
        warn("training.gradient_checkpointing: this model does not know its layers one by one, and recomputes all")
    optimizer = optim.build(
        auto.optimizer(spec.training.optimizer, lora=trainee.lora),
        trainee.model,
        counters.peak_rate,
        auto.weight_decay(spec.training.weight_decay, lora=trainee.lora),
        plus_ratio=spec.lora.plus_ratio,
    )
    scaler = torch.amp.GradScaler(trainee.device.type) if trainee.precision == "fp16" else None
    read = reading.plain
    if spec.training.compile:
        again = partial(reader, trainee.model, trainee.base, hidden=reading.chunked)
        read = kernels.compiled(trainee, reading.plain, again, reading.tried(), degraded)
    if ranks.rank:
        rng.seed(spec.training.seed + ranks.rank)  # dropout of its own
    if resumed:
        checkpoint.restore(resumed, trainee, optimizer, scaler, ranks.rank)
    else:
        ranks.align(trainee.trainable)
    return Stepper(
        trainee,
        objective_of(spec.method, trainee, read, max(items.filled), reading.plain),
        optimizer,
        scaler,
        items,
        counters.micro,
        clip=spec.training.clip,
        batching=batching,
        split_on_oom=spec.recovery.oom == "split",
        degraded=degraded,
        ranks=ranks,
    )
