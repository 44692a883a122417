"""What a run can minimise, each in a file of its own, and which of them a spec asks for."""

from __future__ import annotations

from llamahome_tui import plugins
from llamahome_tui.training.methods import METHODS, plugged
from llamahome_tui.training.shape import Method
from llamahome_tui.training.trainer.loss import Reader
from llamahome_tui.training.trainer.model import Trainee
from llamahome_tui.training.trainer.objectives.base import Objective
from llamahome_tui.training.trainer.objectives.kto import Kto
from llamahome_tui.training.trainer.objectives.likelihood import Likelihood
from llamahome_tui.training.trainer.objectives.pairs import Dpo, Ipo, Orpo, Simpo
from llamahome_tui.training.trainer.objectives.reference import refer_by

__all__ = ["Objective", "objective_of"]


def objective_of(
    method: Method, trainee: Trainee, read: Reader, longest: int, plain: Reader | None = None
) -> Objective:
    """The objective of [method], over what `read` makes of a micro-batch; no sequence is over `longest` tokens.

    `plain` reads the reference, whose adapter is off: of a compiled model that is another one.
    """
    refer = refer_by(trainee, plain or read)
    if method.kind == "dpo" and method.loss == "ipo":
        return Ipo(read, refer, method.beta)
    if method.kind == "dpo":
        return Dpo(read, refer, method.beta, method.label_smoothing)
    if method.kind == "simpo":
        return Simpo(read, method.beta, method.gamma, method.label_smoothing)
    if method.kind == "orpo":
        return Orpo(read, method.beta)
    if method.kind == "kto":
        return Kto(read, refer, method.beta, longest)
    if method.kind not in METHODS:
        made: Objective = plugins.resolve(plugged(method.kind).objective)(method, trainee, read, longest)
        return made
    return Likelihood(read, method.label_smoothing)
