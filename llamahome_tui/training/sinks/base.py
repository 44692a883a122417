"""What a sink is: a function that opens it for a run, and an object that takes metrics; it lives in its own process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class About:
    """The run that a sink is opened for. Every attempt of it opens the sink with the same `id` and `folder`."""

    id: str
    name: str
    project: str  # of [report]; "" where the spec has none
    tags: tuple[str, ...]
    folder: Path  # the sink's own, inside the run's
    resumed: bool  # something has been sent before: go on with it
    config: Mapping[str, Any]  # the spec, without what looks like a secret


class Sink(Protocol):
    """Takes metrics in the order of their steps. May block and may raise: then it is closed, and the run goes on."""

    def log(self, step: int, values: Mapping[str, float], at: float) -> None:
        """Numbers of one step, by name; `at` is the time in seconds since 1970. It has them when this returns."""

    def close(self) -> None:
        """The attempt ends; a few seconds are left."""


class Opener(Protocol):
    """What an entry point in `llamahome.sinks` names."""

    def __call__(self, about: About) -> Sink:
        """The sink for this run."""
