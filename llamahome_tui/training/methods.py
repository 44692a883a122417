"""What each training method takes: which rows, which keys of the spec, which metrics; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

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
    def preference(self) -> bool:
        """Whether it learns what is better and what is worse, and not just what is written."""
        return self.rows != "rows"


METHODS: Final[dict[str, Method]] = {
    "sft": Method("rows", ("label_smoothing",), _LIKELIHOOD, generates=True),
    "pretrain": Method("rows", ("label_smoothing",), _LIKELIHOOD, whole=True),
}
HIGHER: Final[dict[str, bool]] = {
    "eval_loss": False,
    "eval_perplexity": False,
    "eval_token_accuracy": True,
    "eval_preference_accuracy": True,
    "eval_preference_margin": True,
    "eval_exact": True,
}
