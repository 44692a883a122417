"""The child behind `train plan`: the model on the meta device with its adapter, counted and traced; no weight is read.

`python -m llamahome_tui.workers.plan`: a request line on stdin, JSON lines on stdout (`plan`, `forecast`, `end`,
`error`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamahome_tui.errors import ModelError
from llamahome_tui.training.forecast import Target, Variant

if TYPE_CHECKING:
    from llamahome_tui.training.spec import Spec


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """A checked spec's tables, the model's folder and name, and the adapter that it goes on from ("": a new one).

    `traces` are what to forecast for `target`: a spec's tables, all settled, and a micro-batch of it each.
    """

    spec: Mapping[str, Any]
    path: str
    name: str
    adapter: str = ""
    target: Mapping[str, Any] = field(default_factory=dict)
    traces: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]] = ()

    def to_line(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> PlanRequest:
        """The request in a line that `to_line` wrote."""
        return cls(**json.loads(line))


def answer(request: PlanRequest, emit: Callable[..., None]) -> None:
    """Emit one `plan`: parameters in all, those that learn, both by kind of module, and the settled "auto" values.

    Then a `forecast` for each of the request's traces: `parts`, or the `reason` why the model cannot be traced.

    Raises SpecError for targets that the model has not, ModelError where it cannot be built without its weights.
    """
    from llamahome_tui.training import auto
    from llamahome_tui.training.methods import method_of
    from llamahome_tui.training.spec import Spec
    from llamahome_tui.training.trainer import model
    from llamahome_tui.training.trainer.counts import by_kind

    spec = Spec.from_dict(request.spec)
    lora = spec.lora.enabled
    trained, left = _trained(spec, request)
    kinds = by_kind(trained)
    parameters = sum(kind.parameters for kind in kinds)
    device = model.pick_device()
    emit(
        "plan",
        parameters=parameters,
        trainable_parameters=sum(kind.trainable for kind in kinds),
        by_kind=[asdict(kind) for kind in kinds],
        left=left,
        settled={
            "training.precision": model.precision_of(spec, device),
            "training.optimizer": auto.optimizer(spec.training.optimizer, lora=lora),
            "training.learning_rate": auto.learning_rate(
                spec.training.learning_rate,
                lora=lora,
                parameters=parameters,
                preference=method_of(spec.method.kind).preference,
            ),
            "training.weight_decay": auto.weight_decay(spec.training.weight_decay, lora=lora),
        },
    )
    for tables, variant in request.traces:
        _trace(request, Spec.from_dict(tables), Variant(**variant), emit)
    emit("end", device=device.type)


def _trace(request: PlanRequest, spec: Spec, variant: Variant, emit: Callable[..., None]) -> None:
    from llamahome_tui.workers.forecast.tracing import trace

    start = Path(request.adapter) if request.adapter else None
    try:
        parts = trace(spec, Path(request.path), start, Target(**request.target), variant)
    except Exception as problem:  # noqa: BLE001 - any model's code may ask for what a tensor without values has not
        emit("forecast", parts=None, reason=f"{type(problem).__name__}: {problem}"[:500])
    else:
        emit("forecast", parts=parts.to_dict(), reason="")


def _trained(spec: Spec, request: PlanRequest) -> tuple[Any, str]:
    """The model as it would be trained, without weights, and a sentence about what no target reaches."""
    from llamahome_tui.training.trainer import adapter

    path = Path(request.path)
    base = adapter.skeleton(path)
    if base is None:
        raise ModelError(
            f"{request.name} cannot be built without its weights, so that nothing can be told before it is loaded",
            code="model.not_traceable",
            hint="a run tells what learns as it begins: llamahome --batch train start SPEC",
        )
    if not spec.lora.enabled:
        return base, ""
    if request.adapter:
        return adapter.put_on(base, adapter.saved_config(Path(request.adapter))), ""
    targets = adapter.targets_of(spec, base, partial(adapter.skeleton, path))
    on = adapter.put_on(base, adapter.config_of(spec, targets))
    return on, adapter.frozen(targets) if targets.left else ""


if __name__ == "__main__":
    from llamahome_tui.workers import generate

    generate.run(PlanRequest.from_line, answer)
