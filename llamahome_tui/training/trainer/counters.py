"""What a run counts as it goes; the part of a checkpoint that a person can read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llamahome_tui.training.auto import Micro


@dataclass(frozen=True, slots=True)
class Best:
    """The best evaluation so far, and the checkpoint that holds its weights."""

    metric: str
    value: float
    step: int
    path: str

    def better_than(self, value: float, higher: bool) -> bool:
        """Whether this stays the best beside a new value."""
        return self.value >= value if higher else self.value <= value


@dataclass(slots=True)
class Interval:
    """Sums since the last `metrics` record, so that a resumed run reports the same means.

    `trained` is what the loss is summed over: trained tokens, or rows where an objective weighs each the same.
    """

    loss: float = 0.0
    trained: int = 0
    sums: dict[str, float] = dataclasses.field(default_factory=dict)

    def add(self, loss: float, weight: int, sums: Mapping[str, float]) -> None:
        """Count a step."""
        self.loss += loss
        self.trained += weight
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def clear(self) -> None:
        """Begin anew."""
        self.loss, self.trained, self.sums = 0.0, 0, {}


@dataclass(slots=True)
class Counters:
    """Everything that moves from step to step and is no tensor. All counts go over the whole run, resumes included."""

    micro: Micro
    peak_rate: float  # of the learning-rate schedule; `control lr=X` moves it
    gradient_checkpointing: bool | float = False  # or of how many layers, as in the spec
    batching: str = ""  # how rows lie in micro-batches; "" in checkpoints from before that was chosen
    batching_reason: str = ""
    step: int = 0
    tokens: int = 0  # real tokens seen, without padding
    trained_tokens: int = 0
    skipped_steps: int = 0
    not_finite_in_a_row: int = 0
    evaluated_at: int = -1
    sampled_at: int = -1
    evaluations_without_gain: int = 0
    elapsed_s: float = 0.0
    loss_first: float | None = None
    loss_last: float | None = None
    early_stopped: bool = False
    best: Best | None = None
    interval: Interval = dataclasses.field(default_factory=Interval)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Counters:
        """Back from `to_dict`; fields this version does not know are left out."""
        known = {f.name for f in dataclasses.fields(cls)}
        found = {k: v for k, v in values.items() if k in known}
        found["best"] = Best(**found["best"]) if found.get("best") else None
        found["micro"] = Micro(**found["micro"])
        found["interval"] = Interval(**found.get("interval", {}))
        return cls(**found)
