"""From a spec to what is to be expected of it: memory by part, time of an epoch, disk, warnings, and plans that fit.

Nothing is made and no weight is read. Without somebody to ask for a trace all of it is computed from the model's
config, in milliseconds: good enough before each start. With a trace the formula still looks for the plans that fit, as
far off as it was for the spec itself, and those it finds are traced too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from llamahome_tui.data.ahead import Ahead, ahead, sequences_of
from llamahome_tui.models.folder import read_json
from llamahome_tui.training import auto, earlier, fit, launch
from llamahome_tui.training.architecture import Architecture
from llamahome_tui.training.cards import card_here
from llamahome_tui.training.earlier import Ended, Learned
from llamahome_tui.training.estimate import PROCESS_BYTES, estimate, flops_per_token, learning_of, optimizer_bytes
from llamahome_tui.training.fit import Plan
from llamahome_tui.training.forecast import Forecast, Parts, Target, Variant
from llamahome_tui.training.rejected import rejected
from llamahome_tui.units import human_bytes, human_duration

if TYPE_CHECKING:
    from llamahome_tui.context import Context
    from llamahome_tui.models.locate import Located
    from llamahome_tui.training.planned_for import Room
    from llamahome_tui.training.shape import Spec

_PEAK_SHARE: Final = 0.4  # of a card's peak, taken where no run has shown better
# Forecasts of settled specs with their micro-batches, in order, by a trace of the model.
Trace: TypeAlias = Callable[[Target, Sequence[tuple["Spec", Variant]]], Sequence[Forecast]]
_TOKEN_BYTES: Final = 5  # of prepared data: an id and its mask


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes that a run puts on disk: checkpoints at once, prepared data, the result that stays."""

    checkpoints: int
    prepared: int
    result: int
    free: int | None

    @property
    def total(self) -> int:
        """All that is written."""
        return self.checkpoints + self.prepared + self.result


@dataclass(frozen=True, slots=True)
class Foresight:
    """What is to be expected of a spec on a device.

    `parts` add up to `forecast_bytes`; `predicted_bytes` is that with what earlier runs on the device have taught.
    `reason` says how far it is an estimate, `time_source` and `rows_source` where time and lengths come from.
    """

    parts: Parts
    forecast_bytes: int
    predicted_bytes: int
    traced: bool
    reason: str
    learned: Learned
    target: Target
    free_bytes: int
    devices: int
    micro: Variant
    gradient_checkpointing: bool | float
    rows: Ahead
    seconds_per_epoch: float | None
    time_source: str | None
    disk: Disk
    trainable_parameters: int
    warnings: tuple[str, ...]
    alternatives: tuple[Plan, ...]

    @property
    def fits(self) -> bool:
        """Whether the device has room for it now."""
        return self.predicted_bytes <= self.free_bytes

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, as `train plan` tells it (CONTRACT)."""
        return {
            "fits": self.fits,
            "predicted_bytes": self.predicted_bytes,
            "free_bytes": self.free_bytes,
            "parts": self.parts.to_dict(),
            "forecast_bytes": self.forecast_bytes,
            "traced": self.traced,
            "reason": self.reason,
            "device": {"kind": self.target.kind, "name": self.target.name, "memory_bytes": self.target.memory_bytes},
            "devices": self.devices,
            "micro_batch": {"sequences": self.micro.sequences, "length": self.micro.length},
            "gradient_checkpointing": self.gradient_checkpointing,
            "rows": self.rows.rows,
            "tokens_per_epoch": self.rows.tokens,
            "rows_source": self.rows.source,
            "seconds_per_epoch": self.seconds_per_epoch,
            "time_source": self.time_source,
            "disk_bytes": self.disk.total,
            "disk": {
                "checkpoints": self.disk.checkpoints,
                "prepared": self.disk.prepared,
                "result": self.disk.result,
                "free": self.disk.free,
            },
            "warnings": list(self.warnings),
            "alternatives": [plan.to_dict() for plan in self.alternatives],
        }

    @property
    def line(self) -> str:
        """All of it in one line, for who starts a run."""
        words = (
            f"about {human_bytes(self.predicted_bytes)} of {human_bytes(self.free_bytes)} free on {self.target.name}"
        )
        if self.seconds_per_epoch is not None:
            words += f"; an epoch in {human_duration(self.seconds_per_epoch)} ({self.time_source})"
        return words + f"; {human_bytes(self.disk.total)} on disk"


def foresee(
    context: Context,
    spec: Spec,
    located: Located,
    room: Room,
    rows: int,
    *,
    quick: bool = False,
    plans: bool = True,
    trace: Trace | None = None,
) -> Foresight:
    """What a checked spec would take on a device, by formula or by `trace`. `rows` is how many there are to train on.

    `quick` tokenises no more than a sample of the rows; `plans` looks for alternatives where it does not fit.
    Raises ModelError where the config does not say what is needed, and what `data.prepare` raises for rows.
    """
    from llamahome_tui.jobs.store import RunStore

    config = located.path / "config.json"
    model = Architecture.of(read_json(config), str(config))
    seen = ahead(spec, located.path, context.places.prepared, rows, quick=quick)
    runs = list(earlier.ended(RunStore(context.places)))
    return _foreseen(context, spec, model, room, seen, runs, plans=plans, trace=trace)


def _foreseen(
    context: Context,
    spec: Spec,
    model: Architecture,
    room: Room,
    seen: Ahead,
    runs: list[Ended],
    *,
    plans: bool,
    trace: Trace | None,
) -> Foresight:
    target, devices = room.target, launch.processes(spec)
    shared = room.free_bytes // (1 if target.kind == "cuda" else devices)
    constant = earlier.learned(runs, target)

    def settled_as(wanted: Spec) -> tuple[Spec, Variant]:
        return settle(wanted, model, target, _capped(wanted, seen), shared)

    def asked(wanted: Spec) -> Forecast:
        settled, variant = settled_as(wanted)
        found = estimate(settled, model, target, variant)
        return replace(found, predicted_bytes=constant.applied(round(found.parts.total * off)))

    off = 1.0  # of a formula, from what a trace gives
    settled, variant = settle(spec, model, target, seen, shared)
    found = asked(spec)
    if trace is not None:
        traced = _traced(trace, target, [(settled, variant)])[0]
        if traced.traced:
            off = traced.parts.total / max(1, found.parts.total)
            found = replace(traced, predicted_bytes=constant.applied(traced.parts.total))
        else:
            found = replace(found, reason=", ".join(word for word in (found.reason, traced.reason) if word))
    seconds, source = _time(spec, model, target, seen, runs, devices)
    wanted = plans and found.predicted_bytes > shared
    alternatives = fit.plans(spec, seen.longest, shared, asked, seconds) if wanted else ()
    if trace is not None and found.traced and alternatives:
        asked_for = [settled_as(fit.changed(spec, plan.set)) for plan in alternatives]
        alternatives = tuple(
            plan if not one.traced else replace(plan, predicted_bytes=constant.applied(one.parts.total))
            for plan, one in zip(alternatives, _traced(trace, target, asked_for), strict=True)
            if not one.traced or constant.applied(one.parts.total) <= shared
        )
    learning = learning_of(spec, model)
    return Foresight(
        parts=found.parts,
        forecast_bytes=found.parts.total,
        predicted_bytes=found.predicted_bytes,
        traced=found.traced,
        reason=", ".join(word for word in (found.reason, constant.words) if word),
        learned=constant,
        target=target,
        free_bytes=shared,
        devices=devices,
        micro=variant,
        gradient_checkpointing=settled.training.gradient_checkpointing,  # type: ignore[arg-type]  # settled
        rows=seen,
        seconds_per_epoch=seconds,
        time_source=source,
        disk=_disk(context, spec, model, seen),
        trainable_parameters=learning.total,
        warnings=tuple(rejected(spec)),
        alternatives=alternatives,
    )


def _traced(trace: Trace, target: Target, questions: Sequence[tuple[Spec, Variant]]) -> list[Forecast]:
    """The answers, with what a process holds before its model where that is the device's memory too."""
    beside = PROCESS_BYTES if target.kind == "cpu" else 0
    return [
        replace(one, parts=replace(one.parts, workspace=one.parts.workspace + beside)) if one.traced else one
        for one in trace(target, questions)
    ]


def settle(spec: Spec, model: Architecture, target: Target, seen: Ahead, free: int) -> tuple[Spec, Variant]:
    """The spec with checkpointing as the trainer would choose it, and the largest micro-batch that it would take."""
    precision = auto.precision(spec.training.precision, device=target.kind, bf16=target.bf16)
    still = estimate(spec, model, target, Variant({}, 0, 0)).parts  # what is there before a step
    micro, checkpointing = auto.micro_batch(
        spec.training.batch_size,
        spec.training.gradient_checkpointing,
        device=target.kind,
        global_batch=spec.training.global_batch,
        longest=seen.longest,
        shape=auto.Shape(model.layers, model.hidden, 4 if precision == "fp32" else 2),
        free_bytes=max(0, free - still.total),
    )
    most = max(1, spec.training.global_batch // launch.processes(spec))
    width = sequences_of(spec)
    fitting = micro.limit if micro.unit == "rows" else micro.limit // max(1, seen.longest * width)
    settled = replace(spec, training=replace(spec.training, gradient_checkpointing=checkpointing))
    return settled, Variant({}, max(1, min(fitting, most, seen.rows)) * width, seen.longest)


def _capped(spec: Spec, seen: Ahead) -> Ahead:
    most = spec.data.max_length
    return seen if isinstance(most, str) or seen.longest <= most else replace(seen, longest=most)


def _time(
    spec: Spec, model: Architecture, target: Target, seen: Ahead, runs: list[Ended], devices: int
) -> tuple[float | None, str | None]:
    """Seconds of an epoch, and where they come from."""
    if (found := earlier.speed(runs, target, spec)) is not None:
        return round(seen.tokens / found[0], 1), f"as fast as run {found[1]}"
    card = card_here(target.name) if target.kind == "cuda" else None
    precision = auto.precision(spec.training.precision, device=target.kind, bf16=target.bf16)
    peak = card.peak(precision) if card is not None else None
    if peak is None:
        return None, None
    mean = max(1, seen.tokens // max(1, seen.rows * sequences_of(spec)))
    work = seen.tokens * flops_per_token(spec, model, mean)
    return round(work / (peak * _PEAK_SHARE * devices), 1), f"at {_PEAK_SHARE:.0%} of the peak of its data sheet"


def _disk(context: Context, spec: Spec, model: Architecture, seen: Ahead) -> Disk:
    learning = learning_of(spec, model)
    device = replace(spec, training=replace(spec.training, optimizer=_resident(spec)))
    result = 4 * learning.total
    checkpoint = result + optimizer_bytes(device, learning)
    place: Path = context.places.runs
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        status = os.statvfs(place)
        free: int | None = status.f_bavail * status.f_frsize
    except OSError:
        free = None
    # The best one beside those that are kept, and the one being written.
    return Disk(checkpoint * (spec.checkpoint.keep + 2), seen.tokens * _TOKEN_BYTES, result, free)


def _resident(spec: Spec) -> str:
    """The optimiser as a checkpoint has it: what is paged is written like the rest."""
    name = auto.optimizer(spec.training.optimizer, lora=spec.lora.enabled)
    return name.removeprefix("paged_")
