"""What a run can minimise, each in a file of its own, and which of them a spec asks for."""

from __future__ import annotations

from llamahome_tui.training.shape import Method
from llamahome_tui.training.trainer.loss import Reader
from llamahome_tui.training.trainer.objectives.base import Objective
from llamahome_tui.training.trainer.objectives.likelihood import Likelihood

__all__ = ["Objective", "objective_of"]


def objective_of(method: Method, read: Reader) -> Objective:
    """The objective of [method], over what `read` makes of a micro-batch."""
    return Likelihood(read, method.label_smoothing)
