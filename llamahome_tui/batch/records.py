"""Journal records of a run as lines for people: what just happened, and where the run stands now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llamahome_tui.text import clean
from llamahome_tui.units import human_bytes, human_count, human_duration, utc


@dataclass(slots=True)
class Standing:
    """The latest state of a followed run, taken from its records."""

    step: int = 0
    steps: int = 0
    eta_s: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)

    def take(self, record: Mapping[str, Any]) -> None:
        """Fold one record in; unknown ones are passed over."""
        kind = record.get("type")
        if kind == "progress":
            self.step, self.steps = _int(record.get("step")), _int(record.get("steps"))
            self.eta_s = _number(record.get("eta_s"))
        elif kind == "metrics":
            self.step = max(self.step, _int(record.get("step")))
            self.metrics.update({k: v for k, v in numbers(record).items() if not k.startswith("eval_")})
        elif kind == "start":
            self.step = _int(record.get("from_step"))

    @property
    def share(self) -> float | None:
        """Done part, 0 to 1; None where the number of steps is unknown."""
        return self.step / self.steps if self.steps else None

    def line(self) -> str:
        """`step 40/200  loss 1.234  1.2k tokens/s  3 min 05 s left`."""
        parts = [f"step {self.step}/{self.steps}" if self.steps else f"step {self.step}"]
        if "loss" in self.metrics:
            parts.append(f"loss {self.metrics['loss']:.4g}")
        if "tokens_per_s" in self.metrics:
            parts.append(f"{human_count(round(self.metrics['tokens_per_s']))} tokens/s")
        if self.eta_s is not None:
            parts.append(f"{human_duration(self.eta_s)} left")
        return "  ".join(parts)


def _learning(parameters: Any) -> str:
    """How many parameters learn, in all and by kind of module; empty where that is not told."""
    told = parameters if isinstance(parameters, Mapping) else {}
    learns, total, kinds = told.get("trainable"), told.get("total"), told.get("by_kind")
    if not isinstance(learns, int) or not isinstance(total, int) or not isinstance(kinds, Mapping):
        return ""
    each = ", ".join(f"{clean(str(name), limit=60)} {human_count(_number(count))}" for name, count in kinds.items())
    return f", {human_count(learns)} of {human_count(total)} parameters learn" + (f": {each}" if each else "")


def happening(source: str, record: Mapping[str, Any]) -> str:
    """One line for a record that a person wants to see as it comes; empty for all others (progress, plain metrics)."""

    def said(name: str, before: str = "") -> str:
        value = record.get(name)
        return f"{before}{clean(str(value), limit=500)}" if value not in (None, "") else ""

    match record.get("type"):
        case "start":
            inexact = bool(record.get("from_step")) and not record.get("exact", True)
            exact = ", not exact" + said("reason", ": ") if inexact else ""
            return f"attempt {said('attempt') or 1} starts at step {_int(record.get('from_step'))}{exact}"
        case "phase":
            return f"phase: {said('phase') or said('name')}{_learning(record.get('parameters'))}"
        case "metrics":
            evaluated = {k: v for k, v in numbers(record).items() if k.startswith("eval_")}
            values = "  ".join(f"{name} {value:.4g}" for name, value in evaluated.items())
            return f"step {_int(record.get('step'))}: {values}" if evaluated else ""
        case "sample":
            return f"step {_int(record.get('step'))} sample:{said('prompt', ' ')} ->{said('text', ' ')}"
        case "checkpoint":
            size = _number(record.get("bytes"))
            return f"checkpoint at step {_int(record.get('step'))}" + (f" ({human_bytes(size)})" if size else "")
        case "control":
            return f"request {said('op') or said('request')}: {said('outcome')}{said('reason', ', ')}"
        case "warning":
            return f"warning: {said('message') or said('what') or said('code')}"
        case "degrade":
            return f"degraded: {said('what')}{said('why', ', because ')}"
        case "artifact":
            return f"saved {said('kind')}{said('path', ': ')}"
        case "error":
            return f"error: {said('message') or said('exception') or said('code')}{said('hint', '. ')}"
        case "end":
            return f"run {said('reason')}"
        case "exit" if record.get("code") != 0 and source == "supervisor":
            return f"trainer ended{said('signal', ' by signal ')}{said('code', ' with exit code ')}"
        case "retry":
            return f"retry {said('attempt')}{said('delay_s', ' in seconds: ')}{said('reason', ', ')}".replace("  ", " ")
        case "stall":
            return f"stalled{said('seconds', ', seconds without a record: ')}"
        case "adopt":
            return "supervised again"
        case "kill":
            return f"killed{said('reason', ': ')}"
        case _:
            return ""


def journal_line(source: str, record: Mapping[str, Any]) -> str:
    """A record as one line of `runs events`: time, source, number, type and its fields."""
    t = _number(record.get("t"))
    known = {"v", "seq", "t", "mono", "type"}
    rest = " ".join(f"{k}={_short(v)}" for k, v in record.items() if k not in known and v not in (None, ""))
    text = f"{utc(t) if t is not None else '-'} {source} {record.get('seq', '-')} {record.get('type', '?')} {rest}"
    return clean(text.rstrip(), limit=2000)


def numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """The flat numbers of a `metrics` record, without its frame."""
    frame = {"v", "seq", "t", "mono", "type", "step"}
    found = {name: _number(value) for name, value in record.items() if name not in frame}
    return {name: value for name, value in found.items() if value is not None}


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = json.dumps(value) if isinstance(value, dict | list) else str(value)
    return f'"{text}"' if " " in text and isinstance(value, str) else text


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _int(value: Any) -> int:
    return int(_number(value) or 0)
