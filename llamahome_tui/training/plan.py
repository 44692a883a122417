"""`train plan`: all that `train start` checks, what would learn, and what it takes; no weights are read or needed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamahome_tui.errors import ModelError, NotFoundError, UsageError
from llamahome_tui.jobs import devices
from llamahome_tui.models.locate import Located
from llamahome_tui.outcome import Level, Note, Outcome, Progress, Result
from llamahome_tui.text import clean
from llamahome_tui.training import checks, planned_for, weights
from llamahome_tui.training.commands import read_words
from llamahome_tui.training.fit import words_of
from llamahome_tui.training.fit_file import write_into
from llamahome_tui.training.forecast import Forecast, Parts, Target, Variant
from llamahome_tui.training.foresee import foresee
from llamahome_tui.workers.child import ask
from llamahome_tui.workers.commands import python_of
from llamahome_tui.workers.plan import PlanRequest

if TYPE_CHECKING:
    from llamahome_tui.context import Context
    from llamahome_tui.training.fit import Plan
    from llamahome_tui.training.spec import Spec

_MODULE = "llamahome_tui.workers.plan"
_WITHOUT_WEIGHTS = frozenset({"model.incomplete", "model.no_tokenizer"})


def plan(
    context: Context,
    spec: str | None = None,
    set: Sequence[str] = (),
    model: str | None = None,
    data: Sequence[str] = (),
    gpu: str | None = None,
    memory: int | None = None,
    fit: int | None = None,
) -> Iterator[Outcome]:
    """What a run of this spec would train, and what it would take of memory, time and disk (CONTRACT: train plan).

    For the device that is free here, or the one that `gpu` or `memory` (bytes) describe. `fit` writes that alternative
    (1: the best) into the spec file. Raises what `train start` raises before a run exists, but for memory, which
    `fits` tells; NotFoundError for a GPU that nobody knows, and UsageError where there is no such alternative.
    """
    room = planned_for.named(gpu, memory)
    if fit is not None and (spec is None or spec == "-"):
        raise UsageError(
            "--fit writes into a spec file, and none is given",
            hint="leave --fit out: each plan says what to --set, as in: llamahome --batch train plan SPEC",
        )
    read = read_words(context, spec, set, model, data, None)
    checked = _checked(context, read)
    wanted, located = checked.spec, checked.located
    yield Progress(f"looking at {clean(located.id, limit=200)}", 0)
    if room is None:
        room = planned_for.here(checked.candidates)
    worker = _Worker(context, wanted, located)
    foresight = foresee(context, wanted, located, room, checked.rows, trace=worker.trace)
    found = worker.plan
    if found["left"]:
        yield Note(clean(found["left"], limit=2000))
    for warning in foresight.warnings:
        yield Note(warning, Level.WARNING)
    written = None
    if fit is not None and spec is not None:
        if foresight.fits:
            yield Note("it fits as it is: nothing is written into the spec")
        written = _write(context.path(spec), foresight.alternatives, fit, fits=foresight.fits)
    told = foresight.to_dict()
    told["settled"] = found["settled"]
    if not room.here:  # the worker has settled precision for this machine
        from llamahome_tui.training import auto

        told["settled"] = {
            **found["settled"],
            "training.precision": auto.precision(
                wanted.training.precision, device=room.target.kind, bf16=room.target.bf16
            ),
        }
    yield Result(
        {
            "model": located.id,
            "revision": located.revision,
            "method": wanted.method.kind,
            "parameters": found["parameters"],
            "trainable_parameters": found["trainable_parameters"],
            "by_kind": found["by_kind"],
            "checkpoint_bytes": foresight.disk.checkpoints // (wanted.checkpoint.keep + 2),
            **told,
            "written": None if written is None else dict(written.set),
        },
        changed=written is not None,
        next=_next(spec, foresight.alternatives, written),
    )


@dataclass(slots=True)
class _Worker:
    """Asks the child that builds the model; the first answer counts its parameters too, as `plan`."""

    context: Context
    spec: Spec
    located: Located
    plan: dict[str, Any] = field(default_factory=dict)

    def trace(self, target: Target, questions: Sequence[tuple[Spec, Variant]]) -> list[Forecast]:
        """The forecast of each question, or the reason why there is none."""
        spec, located = self.spec, self.located
        folder = spec.model.adapter or (str(located.adapter) if located.adapter else "")
        request = PlanRequest(
            spec.to_dict(),
            str(located.path),
            weights.base_name(located),
            folder,
            asdict(target),
            [(one.to_dict(), asdict(variant)) for one, variant in questions],
        )
        python = python_of(self.context, spec.to_dict())
        found = []
        for record in ask(python, _MODULE, request.to_line(), self.context.environ):
            if record["type"] == "plan":
                self.plan = record
            elif record["type"] == "forecast":
                found.append(_forecast(record))
        return found


def _forecast(record: Mapping[str, Any]) -> Forecast:
    if record["parts"] is None:
        return Forecast(Parts(), 0, reason=f"the model cannot be traced: {clean(record['reason'], limit=500)}")
    parts = Parts(**record["parts"])
    return Forecast(parts, parts.total, traced=True, reason="a trace of the trainer's step")


def _checked(context: Context, spec: Spec) -> checks.Checked:
    """What `train start` checks; a folder with nothing but a config does here."""
    try:
        return checks.check(context, spec)
    except ModelError as error:
        bare = Path(spec.model.id)
        if error.error_code not in _WITHOUT_WEIGHTS or not (bare / "config.json").is_file() or _has_weights(bare):
            raise
    claim = devices.claim(checks.plain_devices(spec), "train", context.environ, shared=spec.launch.strategy == "ddp")
    return checks.Checked(spec, Located(bare, spec.model.id), _rows(spec), claim.candidates)


def _has_weights(folder: Path) -> bool:
    return any(one.suffix in (".safetensors", ".bin", ".pth") for one in folder.iterdir())


def _rows(spec: Spec) -> int:
    """Rows to train on, where no tokenizer is there to try them with."""
    from llamahome_tui.data.check import validate
    from llamahome_tui.data.files import eval_file, expand
    from llamahome_tui.data.split import wanted_rows

    held = eval_file(spec.data.eval, spec.data.train, Path("/"))
    files = [path for path in expand(spec.data.train, Path("/")) if path != held]
    found = validate(files, spec.data.format, spec.data.columns, spec.data.group)
    found.raise_if_bad()
    own = held is not None or not (isinstance(spec.data.eval, int | float) or spec.data.eval == "auto")
    return found.rows if own else found.rows - wanted_rows(spec.data.eval, found.rows)


def _write(path: Path, alternatives: Sequence[Plan], number: int, *, fits: bool) -> Plan | None:
    if fits:
        return None
    if not 1 <= number <= len(alternatives):
        how_many = f"there are {len(alternatives)}" if alternatives else "no plan fits this device"
        raise NotFoundError(
            f"--fit {number}: {how_many}",
            code="plan.not_found",
            hint="see the plans: llamahome --batch train plan SPEC",
            data={"alternatives": [one.to_dict() for one in alternatives]},
        )
    chosen = alternatives[number - 1]
    write_into(path, chosen.set)
    return chosen


def _next(spec: str | None, alternatives: Sequence[Plan], written: Plan | None) -> tuple[str, ...]:
    if spec is None or spec == "-":
        return ()
    start = f"llamahome --batch train start {shlex.quote(spec)}"
    if written is not None or not alternatives:
        return (start,)
    return (start + words_of(alternatives[0].set),)
