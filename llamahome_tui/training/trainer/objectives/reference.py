"""The model that a run began with, in the place of the one that it trains: what preferences are measured against.

Of a new adapter that is the model without it. A run that goes on from an adapter began with that one, so its weights
are loaded a second time and stay as they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from llamahome_tui.training.trainer.batches import MicroBatch
from llamahome_tui.training.trainer.loss import Reader, log_probabilities
from llamahome_tui.training.trainer.model import Trainee

REFERENCE = "reference"

# The log-probability of each label by the reference, without gradients and dropout; draws no random number.
Refer = Callable[[MicroBatch], Any]


def keep(trainee: Trainee, start: Path | None) -> None:
    """Put the adapter that the run goes on from, if any, beside the one that learns; before the optimiser is made."""
    if start is None:
        return
    tuner, training = trainee.model.base_model, trainee.model.training
    learning = tuner.active_adapter
    trainee.model.load_adapter(start, adapter_name=REFERENCE, is_trainable=False, local_files_only=True)
    tuner.set_adapter(learning)
    trainee.model.train(training)  # loading has ended it


def refer_by(trainee: Trainee, read: Reader) -> Refer:
    """What the reference of this model makes of a micro-batch."""

    def refer(batch: MicroBatch) -> Any:
        with _in_place(trainee), torch.no_grad():
            return log_probabilities(read(batch))

    return refer


@contextlib.contextmanager
def _in_place(trainee: Trainee) -> Iterator[None]:
    model, tuner, training = trainee.model, trainee.model.base_model, trainee.model.training
    learning = tuner.active_adapter
    model.eval()
    # Not `disable_adapter()`, which looks through all modules each time.
    if REFERENCE in model.peft_config:
        tuner.set_adapter(REFERENCE, inference_mode=True)
    else:
        tuner.disable_adapter_layers()
    try:
        yield
    finally:
        if REFERENCE in model.peft_config:
            tuner.set_adapter(learning)
        else:
            tuner.enable_adapter_layers()
        model.train(training)
