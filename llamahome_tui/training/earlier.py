"""What runs that ended tell a forecast: how far the last ones were off on this device, and how fast they were.

Read from their journals each time; nothing is stored, so that a removed run is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from llamahome_tui.errors import LlamaHomeError
from llamahome_tui.jobs import history

if TYPE_CHECKING:
    from llamahome_tui.jobs.store import Run, RunStore
    from llamahome_tui.training.forecast import Target
    from llamahome_tui.training.shape import Spec

_LOOKED_AT: Final = 48  # of the newest runs
_ENOUGH: Final = 3  # runs from which a constant is learned
_FACTORS: Final = (0.8, 1.25)  # a GPU's, at most
_OFFSETS: Final = (-(256 << 20), 1 << 30)  # a CPU's, at most: what its process holds besides


@dataclass(frozen=True, slots=True)
class Learned:
    """How forecasts for a device are corrected: by a factor for a GPU, by bytes for a CPU; `runs` say so."""

    factor: float = 1.0
    offset: int = 0
    runs: int = 0

    def applied(self, predicted: int) -> int:
        """The corrected forecast in bytes."""
        return max(0, round(predicted * self.factor) + self.offset)

    @property
    def words(self) -> str:
        """For a person; empty where nothing was learned."""
        if not self.runs:
            return ""
        by = f"by {self.offset / (1 << 20):+.0f} MiB" if self.offset else f"by {self.factor - 1:+.1%}"
        return f"corrected {by}, as {self.runs} runs on this device have shown"


@dataclass(frozen=True, slots=True)
class Ended:
    """A training run that completed: what it was, where, what was forecast for it, and what it measured."""

    run: Run
    spec: dict[str, Any]
    device: str
    forecast: int | None
    measured: int | None
    tokens_per_s: float | None


def ended(store: RunStore) -> Iterator[Ended]:
    """The newest training runs of this machine that completed; those that cannot be read are left out."""
    for run in list(store.list())[:_LOOKED_AT]:
        try:
            job = run.effective_job()
        except LlamaHomeError:
            continue
        spec = job.get("spec")
        first = history.first_record(run.events_path)
        newest = history.newest(run.events_path)
        if (
            not isinstance(spec, dict)
            or first is None
            or newest.last is None
            or newest.last.get("reason") != "completed"
        ):
            continue
        devices, totals = first.get("devices"), newest.last.get("totals")
        measured = totals.get("memory_peak_bytes") if isinstance(totals, dict) else None
        yield Ended(
            run,
            spec,
            str(devices[0]) if isinstance(devices, list) and devices else "",
            _whole(first.get("forecast_bytes")),
            _whole(measured),
            newest.metrics.get("tokens_per_s"),
        )


def learned(runs: list[Ended], target: Target) -> Learned:
    """The constant of a device: the median over its runs, within bounds; none from fewer than three."""
    known = [(one.forecast, one.measured) for one in runs if is_on(one, target) and one.forecast and one.measured]
    pairs = [(forecast, measured) for forecast, measured in known if forecast and measured]
    if len(pairs) < _ENOUGH:
        return Learned()
    if target.kind == "cpu":
        offset = median(measured - forecast for forecast, measured in pairs)
        return Learned(offset=round(min(max(offset, _OFFSETS[0]), _OFFSETS[1])), runs=len(pairs))
    factor = median(measured / forecast for forecast, measured in pairs)
    return Learned(factor=min(max(factor, _FACTORS[0]), _FACTORS[1]), runs=len(pairs))


def speed(runs: list[Ended], target: Target, spec: Spec) -> tuple[float, str] | None:
    """Tokens a second that the newest run of the same model, method and device reached, and its id."""
    for one in runs:
        model, method, lora = (one.spec.get(name) for name in ("model", "method", "lora"))
        if not (isinstance(model, dict) and isinstance(method, dict) and isinstance(lora, dict)):
            continue
        same = (
            model.get("id") == spec.model.id
            and model.get("quantization") == spec.model.quantization
            and method.get("kind") == spec.method.kind
            and lora.get("enabled") == spec.lora.enabled
        )
        if same and is_on(one, target) and one.tokens_per_s:
            return one.tokens_per_s, one.run.id
    return None


def is_on(one: Ended, target: Target) -> bool:
    """Whether a run was on such a device."""
    return one.device == (target.name if target.kind == "cuda" else "cpu")


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
