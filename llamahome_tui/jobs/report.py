"""The report of a run, made from its journals and job whenever it is asked for: pure data, no secret in it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from llamahome_tui.config.secrets import redact
from llamahome_tui.jobs import answers
from llamahome_tui.jobs.reader import read
from llamahome_tui.jobs.store import Run
from llamahome_tui.jobs.view import RunView, summarise
from llamahome_tui.units import utc

POINTS: Final = 512  # of a curve, at most twice as many
_ANSWERS: Final = 5
_KEPT: Final = 200  # warnings and requests, the first ones
_CURVES: Final = ("loss", "lr", "grad_norm", "tokens_per_s")
Point = tuple[int, float]


@dataclass(frozen=True, slots=True)
class Samples:
    """What one prompt was answered first and last."""

    prompt: str
    first_step: int
    first: str
    last_step: int
    last: str


@dataclass(frozen=True, slots=True)
class Answers:
    """What a held-out row was answered first and last, beside what is expected."""

    prompt: str
    expected: str
    first_step: int
    first: str
    first_right: bool
    last_step: int
    last: str
    last_right: bool


@dataclass(frozen=True, slots=True)
class Report:
    """Everything about one run. `run` is what `runs show` gives; curves are thinned, void measurements left out."""

    run: Mapping[str, Any]
    spec: Mapping[str, Any]
    curves: Mapping[str, tuple[Point, ...]]
    samples: tuple[Samples, ...]
    answers: tuple[Answers, ...]  # a few of them
    requests: tuple[Mapping[str, Any], ...]
    warnings: tuple[Mapping[str, Any], ...]
    totals: Mapping[str, Any]
    data: Mapping[str, Any]  # files with their sha256, rows and held-out rows
    parameters: Mapping[str, Any]
    versions: Mapping[str, Any]
    devices: tuple[str, ...]
    spec_hash: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run is about to end, as only its trainer knows."""

    reason: str
    totals: Mapping[str, Any]


def report_of(run: Run, ending: Ending | None = None) -> Report:
    """The report as the run stands now, or as it is about to end. Raises ConfigError when its job can't be read."""
    view: RunView = summarise(run, full=True)
    if ending is not None:
        view = replace(view, status=ending.reason, reason="", phase=None, eta_s=None, ended_at=utc(time.time()))
    job = run.effective_job()
    spec = job.get("spec")
    course = _Course()
    for record in read(run.events_path):
        course.take(record)
    start = course.start
    devices = start.get("devices")
    return Report(
        run=_clear(view.to_dict()),
        spec=_clear(spec if isinstance(spec, dict) else {}),
        curves={name: tuple(points) for name, points in course.curves.items()},
        samples=tuple(course.samples.values()),
        answers=_answers(run),
        requests=tuple(course.requests.values()),
        warnings=tuple(course.warnings),
        totals=ending.totals if ending is not None else course.totals,
        data=_clear(course.data),
        parameters=course.parameters,
        versions=_object(start.get("versions")),
        devices=tuple(str(one) for one in devices) if isinstance(devices, list) else (),
        spec_hash=str(start.get("spec_hash") or ""),
    )


@dataclass(slots=True)
class _Course:
    """Folds the trainer's records; what an earlier attempt measured past a later one's `from_step` goes."""

    curves: dict[str, list[Point]] = field(default_factory=dict)
    samples: dict[str, Samples] = field(default_factory=dict)
    requests: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    warnings: list[Mapping[str, Any]] = field(default_factory=list)
    totals: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    start: Mapping[str, Any] = field(default_factory=dict)

    def take(self, record: Mapping[str, Any]) -> None:
        step = record.get("step")
        match record["type"]:
            case "start":
                self.start = record
                begun = record.get("from_step")
                if isinstance(begun, int):
                    self.curves = {n: [p for p in points if p[0] <= begun] for n, points in self.curves.items()}
            case "metrics" if isinstance(step, int):
                for name, value in record.items():
                    if (name in _CURVES or name.startswith("eval_")) and _is_number(value):
                        self._point(self.curves.setdefault(name, []), step, value)
            case "sample" if isinstance(step, int):
                prompt, text = redact(str(record.get("prompt"))), redact(str(record.get("text")))
                known = self.samples.get(prompt)
                before = (known.first_step, known.first) if known is not None else (step, text)
                self.samples[prompt] = Samples(prompt, *before, step, text)
            case "control" if len(self.requests) < _KEPT:
                names = ("step", "op", "value", "outcome", "reason")
                self.requests[str(record.get("request"))] = {name: record.get(name) for name in names}
            case "warning" if len(self.warnings) < _KEPT:
                self.warnings.append({"step": step, "message": redact(str(record.get("message") or ""))})
            case "phase":
                self.data = _object(record.get("data")) or self.data
                self.parameters = _object(record.get("parameters")) or self.parameters
            case "end":
                self.totals = _object(record.get("totals"))

    @staticmethod
    def _point(points: list[Point], step: int, value: float) -> None:
        points.append((step, float(value)))
        if len(points) > 2 * POINTS:
            points[1:-1] = points[2:-1:2]  # the first and the newest stay


def _answers(run: Run) -> tuple[Answers, ...]:
    """The first rows of the newest evaluation that answered any, beside what the first one wrote."""
    steps = answers.steps_of(run)
    ends = {step: answers.read(run, step)[:_ANSWERS] for step in (*steps[:1], *steps[-1:])}
    found = []
    for row in answers.by_row(ends):
        (first_step, first), (last_step, last) = row.texts[0], row.texts[-1]
        found.append(Answers(redact(row.prompt), redact(row.expected or ""), first_step, redact(first),
                             first_step in row.right, last_step, redact(last), last_step in row.right))  # fmt: skip
    return tuple(found[:_ANSWERS])


def _clear(value: Any) -> Any:
    """The same without anything that looks like a secret."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {str(key): _clear(one) for key, one in value.items()}
    return [_clear(one) for one in value] if isinstance(value, list | tuple) else value


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
