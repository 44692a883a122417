"""Trackio: metrics in its local database; the run is found again by its name, which is the run's id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llamahome_tui.training.sinks.base import About

PROJECT = "llamahome"


class Trackio:
    """Metrics by the step of the run."""

    def __init__(self, about: About, trackio: Any) -> None:
        self._trackio = trackio
        trackio.init(project=about.project or PROJECT, name=about.id, config=dict(about.config), resume="allow")

    def log(self, step: int, values: Mapping[str, float], at: float) -> None:
        """One row."""
        self._trackio.log(dict(values), step=step)

    def close(self) -> None:
        """Finish the attempt."""
        self._trackio.finish()


def open_sink(about: About) -> Trackio:
    """A sink that logs to trackio."""
    import trackio

    return Trackio(about, trackio)
