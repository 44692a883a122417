"""What a run's journals tell, folded record by record: curves, newest values, events; a plain value, no widget.

A resumed run begins again at `from_step`: what an earlier attempt measured past it is dropped.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llamahome_tui.batch.records import Standing, happening, numbers
from llamahome_tui.tui.widgets.braille import Curve
from llamahome_tui.tui.widgets.lines import Line
from llamahome_tui.tui.widgets.plot import Trace

KEPT_EVENTS = 2000
# What is drawn: our name of the curve, the metric's name, its tone.
CURVES: dict[str, str] = {
    "loss": "first",
    "eval_loss": "second",
    "lr": "third",
    "tokens_per_s": "first",
    "memory_peak_bytes": "second",
    "eval_exact": "third",
    "grad_norm": "second",
    "trained_tokens_per_s": "first",
    "samples_per_s": "first",
    "mfu": "third",
    "data_wait": "third",
}
_TONES = {
    "error": "bad", "kill": "bad", "warning": "warn", "degrade": "warn", "stall": "warn", "retry": "warn",
    "checkpoint": "busy", "artifact": "ok", "adopt": "dim", "phase": "dim", "start": "accent",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Told:
    """The story so far, for the screen: nothing in it changes any more."""

    step: int = 0
    steps: int = 0
    eta_s: float | None = None
    epoch: float | None = None
    phase: str = ""
    attempt: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    events: tuple[Line, ...] = ()
    records: int = 0
    missing: int = 0  # records that `seq` says there were and that are not there

    @property
    def share(self) -> float | None:
        """Done part, 0 to 1; None while the number of steps is unknown."""
        return min(1.0, self.step / self.steps) if self.steps else None


class Story:
    """Takes records of both journals in any portions; `told()` is the state for the screen."""

    def __init__(self) -> None:
        self._standing = Standing()
        self._traces = {name: Trace() for name in CURVES}
        self._events: deque[tuple[float, Line]] = deque(maxlen=KEPT_EVENTS)
        self._phase, self._attempt = "", 0
        self._epoch: float | None = None
        self._eval: dict[str, float] = {}
        self._records = self._missing = 0
        self._seq: dict[str, int] = {}
        self._phases: set[str] = set()

    def take(self, source: str, records: Iterable[Mapping[str, Any]]) -> None:
        """Fold in records of one journal (`trainer` or `supervisor`), in their order."""
        for record in records:
            self._count(source, record)
            if source == "trainer":
                self._standing.take(record)
                self._measure(record)
            said = happening(source, record)
            if said and not self._again(record):
                self._event(source, record, said)

    def _again(self, record: Mapping[str, Any]) -> bool:
        """Whether this is a phase that the attempt has been in before: back to training after each evaluation."""
        if record.get("type") == "start":
            self._phases.clear()
        if record.get("type") != "phase":
            return False
        phase = str(record.get("phase"))
        seen = phase in self._phases
        self._phases.add(phase)
        return seen

    def _count(self, source: str, record: Mapping[str, Any]) -> None:
        seq = record.get("seq")
        if isinstance(seq, int):
            before = self._seq.get(source)
            if before is not None and seq > before + 1:
                self._missing += seq - before - 1
            self._seq[source] = seq
        self._records += 1

    def _measure(self, record: Mapping[str, Any]) -> None:
        match record.get("type"):
            case "start":
                self._attempt = int(_number(record.get("attempt")) or 1)
                for trace in self._traces.values():
                    trace.cut(_number(record.get("from_step")) or 0.0)
                if isinstance(record.get("steps"), int):
                    self._standing.steps = record["steps"]
            case "phase":
                self._phase = str(record.get("phase") or "")
            case "progress":
                epoch = _number(record.get("epoch"))
                self._epoch = self._epoch if epoch is None else epoch
            case "metrics":
                found = numbers(record)
                step = _number(record.get("step"))
                if step is None:
                    return
                for name, trace in self._traces.items():
                    if name in record:
                        trace.add(step, found.get(name))
                self._eval.update({name: value for name, value in found.items() if name.startswith("eval_")})
            case "end":
                self._phase = ""

    def _event(self, source: str, record: Mapping[str, Any], said: str) -> None:
        at = _number(record.get("t")) or 0.0
        kind = str(record.get("type"))
        tone = _TONES.get(kind, "")
        if kind == "end":
            tone = (
                "ok" if record.get("reason") == "completed" else "bad" if record.get("reason") == "failed" else "busy"
            )
        line = (f"{time.strftime('%H:%M:%S', time.localtime(at))}  {said}", tone)
        if self._events and at < self._events[-1][0]:
            # The two journals arrive in turns: put a late record where its time says.
            later = []
            while self._events and self._events[-1][0] > at:
                later.append(self._events.pop())
            self._events.append((at, line))
            self._events.extend(reversed(later))
        else:
            self._events.append((at, line))

    def told(self) -> Told:
        """The state now."""
        standing = self._standing
        return Told(
            step=standing.step,
            steps=standing.steps,
            eta_s=standing.eta_s,
            epoch=self._epoch,
            phase=self._phase,
            attempt=self._attempt,
            values={**standing.metrics, **self._eval},
            curves={name: trace.curve(CURVES[name]) for name, trace in self._traces.items() if len(trace)},
            events=tuple(line for _, line in self._events),
            records=self._records,
            missing=self._missing,
        )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
