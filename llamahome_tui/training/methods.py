"""What each training method takes: which rows, which keys of the spec, which metrics; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from llamahome_tui import plugins
from llamahome_tui.errors import ConfigError
from llamahome_tui.training.shape import Data, Spec

Kind = Literal["rows", "pairs", "labels"]

_LIKELIHOOD: Final = ("eval_loss", "eval_perplexity", "eval_token_accuracy")
_PREFERENCE: Final = ("eval_loss", "eval_preference_accuracy", "eval_preference_margin")


@dataclass(frozen=True, slots=True)
class Method:
    """One method. `keys` are those of [method] that change what it does."""

    rows: Kind
    keys: tuple[str, ...]
    metrics: tuple[str, ...]
    whole: bool = False  # learns every token of a row, whatever data.train_on says
    generates: bool = False  # has answers that the model can be asked for: eval_exact
    reference: bool = False  # compares with the model that the run began with

    @property
    def allowed(self) -> tuple[str, ...]:
        """What evaluation.metric may name."""
        return (*self.metrics, "eval_exact") if self.generates else self.metrics

    @property
    def preference(self) -> bool:
        """Whether it learns what is better and what is worse, and not just what is written."""
        return self.rows != "rows"


METHODS: Final[dict[str, Method]] = {
    "sft": Method("rows", ("label_smoothing",), _LIKELIHOOD, generates=True),
    "pretrain": Method("rows", ("label_smoothing",), _LIKELIHOOD, whole=True),
    "dpo": Method("pairs", ("loss", "beta", "label_smoothing"), _PREFERENCE, generates=True, reference=True),
    "orpo": Method("pairs", ("beta",), _PREFERENCE, generates=True),
    "kto": Method("labels", ("beta",), _PREFERENCE, reference=True),
    "simpo": Method("pairs", ("beta", "gamma", "label_smoothing"), _PREFERENCE, generates=True),
}


@dataclass(frozen=True, slots=True)
class PluggedMethod:
    """What an entry point in `llamahome.methods` names. It is loaded to check specs: it must not import torch.

    `objective` is `module:function`, imported in the trainer alone: called as `objectives.objective_of` is, with
    ([method], trainee, read, longest), it gives an `objectives.base.Objective`.
    """

    method: Method
    objective: str


def method_of(kind: str) -> Method:
    """The method of that name, ours or a plug-in's. Raises ConfigError where its plug-in is gone or broken."""
    return METHODS.get(kind) or plugged(kind).method


def plugged(kind: str) -> PluggedMethod:
    """A plug-in's method. Raises ConfigError as `method_of` does."""
    found = plugins.named(plugins.Group.METHODS, kind, METHODS)
    if found is None:
        raise ConfigError(
            f'method.kind: there is no method "{kind[:60]}", and no package brings one',
            code="training.no_method",
            hint="see the methods: llamahome --batch train init",
        )
    made: PluggedMethod = found.load()
    return made


HIGHER: Final[dict[str, bool]] = {
    "eval_loss": False,
    "eval_perplexity": False,
    "eval_token_accuracy": True,
    "eval_preference_accuracy": True,
    "eval_preference_margin": True,
    "eval_exact": True,
}


def data_of(spec: Spec) -> Data:
    """[data] as the method takes it: what learns every token learns it of chats too."""
    return replace(spec.data, train_on="all") if method_of(spec.method.kind).whole else spec.data
