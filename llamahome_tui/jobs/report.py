"""The report of a run, made from its journals and job whenever it is asked for: pure data, no secret in it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import InitVar, asdict, dataclass, field, replace
from typing import Any, Final

from llamahome_tui.config.secrets import redact
from llamahome_tui.jobs import answers, evaluations
from llamahome_tui.jobs.reader import read, tail
from llamahome_tui.jobs.status import Derived
from llamahome_tui.jobs.store import Run
from llamahome_tui.jobs.throughput import Throughput, number
from llamahome_tui.jobs.view import RunView, summarise
from llamahome_tui.units import utc

POINTS: Final = 512  # of a curve, at most twice as many
_ANSWERS: Final = 5
_EVALUATIONS: Final = 3
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
    evaluations: tuple[Mapping[str, Any], ...]  # the newest results of `evaluate`, with a few samples
    requests: tuple[Mapping[str, Any], ...]  # of trainer and supervisor, in the order of their answers
    attempts: tuple[Mapping[str, Any], ...]
    throughput: Mapping[str, float | None]  # means over all steps that count, see `Throughput`
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


def report_of(run: Run, ending: Ending | None = None, *, derived: Derived | None = None) -> Report:
    """The report as the run stands now (or as `derived` has it), or as it is about to end.

    Raises ConfigError when its job can't be read.
    """
    view: RunView = summarise(run, full=True, derived=derived)
    if ending is not None:
        view = replace(view, status=ending.reason, reason="", phase=None, eta_s=None, ended_at=utc(time.time()))
    job = run.effective_job()
    spec = job.get("spec")
    course = _Course(_rows(spec))
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
        evaluations=tuple(
            _clear({**one, "samples": one["samples"][:_ANSWERS]}) for one in evaluations.newest(run, _EVALUATIONS)
        ),
        requests=tuple(_requests(run, course)),
        attempts=tuple(course.attempts),
        throughput=course.throughput.told(),
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

    rows: InitVar[int]
    throughput: Throughput = field(init=False)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[str, list[Point]] = field(default_factory=dict)
    samples: dict[str, Samples] = field(default_factory=dict)
    requests: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    warnings: list[Mapping[str, Any]] = field(default_factory=list)
    totals: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    start: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self, rows: int) -> None:
        self.throughput = Throughput(rows)

    def take(self, record: Mapping[str, Any]) -> None:
        step = record.get("step")
        match record["type"]:
            case "start":
                self.start = record
                begun = record.get("from_step")
                names = ("attempt", "from_step", "exact", "reason")
                self.attempts.append({name: record.get(name) for name in names} | {"memory_peak_bytes": None})
                if isinstance(begun, int):
                    self.throughput.begin(begun)
                    self.curves = {n: [p for p in points if p[0] <= begun] for n, points in self.curves.items()}
            case "metrics" if isinstance(step, int):
                self.throughput.take(step, record)
                self._peak(number(record.get("memory_peak_bytes")))
                for name, value in record.items():
                    if (name in _CURVES or name.startswith("eval_")) and number(value) is not None:
                        self._point(self.curves.setdefault(name, []), step, value)
            case "sample" if isinstance(step, int):
                prompt, text = redact(str(record.get("prompt"))), redact(str(record.get("text")))
                known = self.samples.get(prompt)
                before = (known.first_step, known.first) if known is not None else (step, text)
                self.samples[prompt] = Samples(prompt, *before, step, text)
            case "control" if len(self.requests) < _KEPT:
                self.requests[str(record.get("request"))] = _answer(record)
            case "warning" if len(self.warnings) < _KEPT:
                self.warnings.append({"step": step, "message": redact(str(record.get("message") or ""))})
            case "phase":
                self.data = _object(record.get("data")) or self.data
                self.parameters = _object(record.get("parameters")) or self.parameters
            case "end":
                self.totals = _object(record.get("totals"))

    def _peak(self, peak: float | None) -> None:
        if peak is not None and self.attempts:
            newest = self.attempts[-1]
            newest["memory_peak_bytes"] = max(int(peak), newest["memory_peak_bytes"] or 0)

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


def _requests(run: Run, course: _Course) -> list[Mapping[str, Any]]:
    """What was asked and answered by either process: a wish to go on is the supervisor's."""
    by_supervisor = [_answer(record) for record in tail(run.supervisor_path, _KEPT, {"control"})]
    return sorted((*course.requests.values(), *by_supervisor), key=lambda one: str(one["t"]))[:_KEPT]


def _answer(record: Mapping[str, Any]) -> dict[str, Any]:
    """A `control` record; of what a resume has changed only that, without who asked."""
    value = record.get("value")
    if isinstance(value, dict):
        value = _clear(value.get("set")) or ("now" if value.get("now") else None)
    names = ("step", "op", "outcome", "reason")
    return {"t": utc(record["t"]), "value": value} | {name: record.get(name) for name in names}


def _rows(spec: Any) -> int:
    """Rows of a step as the spec has it."""
    found = (spec.get("training") or {}).get("global_batch") if isinstance(spec, dict) else None
    return found if isinstance(found, int) and found > 0 else 1


def _clear(value: Any) -> Any:
    """The same without anything that looks like a secret."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {str(key): _clear(one) for key, one in value.items()}
    return [_clear(one) for one in value] if isinstance(value, list | tuple) else value


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
