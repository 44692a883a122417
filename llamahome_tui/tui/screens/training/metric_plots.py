"""The plots of a run's page that show only when its plots have the page to themselves: every other training metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from textual.app import ComposeResult
from textual.containers import Grid

from llamahome_tui.tui.widgets.braille import Curve, label
from llamahome_tui.tui.widgets.plot import Named, Plot
from llamahome_tui.units import human_bytes


@dataclass(frozen=True, slots=True)
class Metric:
    """What is plotted under which title, and how its newest value is written."""

    name: str
    title: str
    said: Callable[[float], str] = label


def _bytes(value: float) -> str:
    return human_bytes(int(value))


def _share(value: float) -> str:
    return f"{value:.1%}"


METRICS: Final = (
    Metric("grad_norm", "gradient norm"),
    Metric("trained_tokens_per_s", "trained tok/s"),
    Metric("samples_per_s", "samples/s"),
    Metric("memory_peak_bytes", "peak memory", _bytes),
    Metric("mfu", "MFU", _share),
    Metric("data_wait", "data wait", _share),
)


class MetricPlots(Grid):
    """A plot for each, side by side."""

    def compose(self) -> ComposeResult:
        """The plots, in the order of METRICS."""
        for metric in METRICS:
            yield Plot(metric.title, empty="not known", id=f"plot-{metric.name}")

    def show(self, curves: Mapping[str, Curve]) -> None:
        """Draw what there is of these curves."""
        for metric in METRICS:
            curve = curves.get(metric.name)
            newest = next((y for y in reversed(curve.ys) if math.isfinite(y)), None) if curve is not None else None
            if curve is not None and newest is not None:
                named = Named(metric.title, curve, metric.said(newest))
                self.query_one(f"#plot-{metric.name}", Plot).show([named])
