"""What a run is forecast to need: the question, the device it is for, and the answer by part; sizes are bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Parts:
    """Where a device's memory goes at the peak of a step."""

    weights: int = 0
    adapter: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    logits: int = 0
    workspace: int = 0

    @property
    def total(self) -> int:
        """All of them together."""
        return sum(getattr(self, one.name) for one in fields(self))

    def to_dict(self) -> dict[str, int]:
        """JSON-ready."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Target:
    """The device that is planned for. `name` is what its driver calls it, or what somebody named."""

    kind: Literal["cuda", "cpu"]
    name: str
    memory_bytes: int
    bf16: bool = True


@dataclass(frozen=True, slots=True)
class Variant:
    """One question: the spec with these keys set, at a micro-batch of so many sequences of so many tokens."""

    set: Mapping[str, Any] = field(default_factory=dict)
    sequences: int = 1
    length: int = 1
    packed: bool = False

    @property
    def tokens(self) -> int:
        """Tokens of the micro-batch, padding included."""
        return self.sequences * self.length


@dataclass(frozen=True, slots=True)
class Forecast:
    """The answer. `reason` says in words why it is an estimate by formula where it is not `traced`."""

    parts: Parts
    predicted_bytes: int
    traced: bool = False
    reason: str = ""
    host_bytes: int = 0
