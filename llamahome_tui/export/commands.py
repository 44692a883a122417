"""`runs export`: what a run has trained, as a folder that others load; a job that survives the terminal.

The same line again follows it, goes on with what an interrupted one has left, or says where the finished one is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from llamahome_tui.errors import LlamaHomeError, TrainingError, UsageError
from llamahome_tui.export import base, folder
from llamahome_tui.export.gguf.families import refuse
from llamahome_tui.export.gguf.smaller import SMALLER, tool
from llamahome_tui.export.order import ADAPTER, KEY, MERGED, WHOLE, Order
from llamahome_tui.models.folder import read_json
from llamahome_tui.outcome import Accepted, Level, Note, Outcome, Result

if TYPE_CHECKING:
    from llamahome_tui.context import Context
    from llamahome_tui.jobs.store import Run, RunStore

USE: Final = "as in: llamahome --batch runs export latest --merge"
_MARK: Final = "export-"
_NAME: Final = 32  # characters of a job's name before that, so that a run's id, which is cut, keeps it


def export(
    context: Context,
    id: str,
    to: str | None = None,
    merge: bool = False,
    checkpoint: str | None = None,
    tolerance: float | None = None,
    detach: bool = False,
    format: str = "hf",
    type: str | None = None,
) -> Iterator[Outcome]:
    """Export a run's adapter, or with `merge` its base with the adapter in it; what was fully trained as it is.

    With the format `gguf` the whole model becomes one file of that `type` (f16, bf16, q8_0; q4_k_m by llama-quantize).

    Follows the job unless `detach`. Raises UsageError, NotFoundError (no checkpoint), IntegrityError (base changed,
    proof refused), ResourceError (disk), BusyError, and TrainingError where the job fails otherwise.
    """
    from llamahome_tui.jobs import exports, spawn
    from llamahome_tui.jobs.commands.changing import go_on
    from llamahome_tui.jobs.commands.following import ending, environ_of_jobs, stay_with
    from llamahome_tui.jobs.status import derive
    from llamahome_tui.jobs.store import RunStore
    from llamahome_tui.jobs.submit import submit
    from llamahome_tui.training.checks import has_libraries
    from llamahome_tui.workers.commands import python_of

    if tolerance is not None and not 0 <= tolerance < 1:
        raise UsageError(f"--tolerance {tolerance:g}: a share from 0 to below 1", hint=USE)
    if type is not None and format != "gguf":
        raise UsageError(f"--type {type}: only with --format gguf", hint=USE)
    store = RunStore(context.places)
    run = store.resolve(id)
    if run.job.get("kind") != "train":
        raise UsageError(f"{run.id} is no training: it has nothing to export", code="export.no_training", hint=USE)
    order, unknown = order_of(
        context, store, run, to, merge, checkpoint or "", tolerance, (type or "f16") if format == "gguf" else ""
    )
    place = Path(order.place)
    if (manifest := folder.standing(place, order.key)) is not None:
        if not any(one["path"] == order.place for one in exports.kept(run)):  # the job was killed just after it
            exports.note(run, f"{run.id}-{place.name}", order.form, place, manifest)
        yield Note(f"{place} has been exported already")
        yield Result(_told(order, manifest), next=_next(manifest))
        return
    if unknown:
        yield Note("the run has not recorded the files of its base: whether they have changed can't be told",
                   Level.WARNING)  # fmt: skip
    earlier = _earlier(store, order)
    if earlier is not None and not derive(earlier).status.ended:
        yield Accepted(earlier.id)
        if detach:
            yield Result({**ending(earlier, derive(earlier)), "path": order.place})
            return
        yield from _followed(order, earlier, stay_with(context, earlier, "start"))
        return
    spec = run.effective_job().get("spec") or {}
    python = python_of(context, spec)
    has_libraries("" if python == sys.executable else python)
    folder.require_room(place, _bytes(order), _present(place))
    if earlier is not None:
        yield from _followed(order, earlier, go_on(context, earlier, {}, detach=detach))
        return
    job = {
        "name": f"{run.name[:_NAME]}-{_MARK}{order.form}",
        "kind": "export",
        KEY: order.to_dict(),
        "devices": "disk",
        "launch": {"python": python if python != sys.executable else ""},
        "recovery": {"retries": 0, "stall_s": 0, "grace_s": 30},
        "notify": {"on_end": context.settings.notify.on_end, "on_fail": context.settings.notify.on_fail},
        "tags": [],
    }
    made = submit(context, job)
    yield Accepted(made.id)
    spawn.launch(made, environ_of_jobs(context))
    if detach:
        after = (f"llamahome --batch runs watch {made.id}",)
        yield Result({**ending(made, derive(made)), "path": order.place}, changed=True, next=after)
        return
    yield from _followed(order, made, stay_with(context, made, "start", changed=True))


def order_of(
    context: Context,
    store: RunStore,
    run: Run,
    to: str | None,
    merge: bool,
    checkpoint: str,
    tolerance: float | None,
    gguf: str = "",
) -> tuple[Order, bool]:
    """What these words mean for this run, and whether its base can't be recognised (an older run).

    Raises NotFoundError where there is nothing to export or no llama-quantize, IntegrityError where the base has
    changed, ModelError for a family that can't be a GGUF file.
    """
    from llamahome_tui.jobs.reader import read
    from llamahome_tui.models.adapters import run_weights
    from llamahome_tui.models.locate import at_revision, locate
    from llamahome_tui.training.weights import base_name

    weights = run_weights(run, checkpoint)
    spec = run.effective_job()["spec"]
    model = spec["model"]
    located = locate(at_revision(model["id"], model.get("revision") or "main"), context.places, store)
    form = WHOLE if not weights.is_adapter else MERGED if merge or gguf else ADAPTER
    if gguf:
        refuse(read_json(located.path / "config.json"), gguf)
    if gguf in SMALLER:
        tool(context.environ)
    phases = [one for one in read(run.events_path) if one["type"] in ("phase", "start")]
    now = base.fingerprint(located.path)
    recorded = next((one["base"] for one in reversed(phases) if isinstance(one.get("base"), dict)), None)
    if recorded is not None and form != WHOLE and (name := base.changed(recorded, now)):
        raise base.has_changed(located.path / name)
    step = weights.path.name.removeprefix("step-")
    template = str((spec.get("data") or {}).get("template") or "")
    order = Order(
        run=run.id,
        form=form,
        place="",
        step=int(step) if step.isdigit() else None,
        weights=str(weights.path),
        base=str(located.path),
        base_name=base_name(located),
        model=str(model["id"]),
        revision=located.revision or "",
        quantization=str(model.get("quantization") or "none") if form != WHOLE else "none",
        precision=_precision(spec, phases),
        template=template if template and Path(template).is_file() else "",
        tolerance=tolerance,
        base_files=now,
        weight_files=base.prints(sorted(weights.path.glob("*.safetensors"))),
        gguf=gguf,
    )
    return replace(order, place=str(_place(context, run, order, to))), recorded is None and form != WHOLE


def _place(context: Context, run: Run, order: Order, to: str | None) -> Path:
    """Where it goes: as asked, else among the exports under the run's name, under its id where that is taken."""
    if to is not None:
        place = (context.path(to)).absolute()
        if not place.name or place.name.startswith("."):
            raise UsageError(f"--to {to}: give a folder with a name of its own", hint=USE)
        return place
    ending = (
        order.form
        + (f"-gguf-{order.gguf}" if order.gguf else "")
        + ("" if order.step is None else f"-step-{order.step}")
    )
    place = context.places.exports / f"{run.name}-{ending}"
    try:
        folder.standing(place, order.key)
    except UsageError:
        return context.places.exports / f"{run.id}-{ending}"
    return place


def _precision(spec: Mapping[str, Any], records: list[dict[str, Any]]) -> str:
    """What the run computed in: as its spec says, else what auto takes on the device it had."""
    said = str((spec.get("training") or {}).get("precision") or "auto")
    if said != "auto":
        return said
    devices = next((one.get("devices") for one in reversed(records) if one["type"] == "start"), None)
    return "fp32" if not devices or str(devices[0]) == "cpu" else "bf16"


def _earlier(store: RunStore, order: Order) -> Run | None:
    """The newest job of this very export that is not completed."""
    from llamahome_tui.jobs.status import Status, derive

    for run in store.list():
        job = run.job if _MARK in run.id else {}  # of other runs no spec is read
        if job.get("kind") != "export":
            continue
        one = Order.of(job)
        if one.key == order.key and one.place == order.place and one.tolerance == order.tolerance:
            derived = derive(run)
            return None if derived.status is Status.COMPLETED or derived.remote else run
    return None


def _bytes(order: Order) -> int:
    """What its weights take: those of the base where they are merged into it, else their own."""
    files = Path(order.base if order.form == MERGED else order.weights).glob("*.safetensors")
    return sum(file.stat().st_size for file in files)


def _present(place: Path) -> int:
    partial = folder.partial_of(place)
    return sum(file.stat().st_size for kind in ("*.safetensors", "*.gguf") for file in partial.glob(kind))


def _followed(order: Order, job: Run, outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    """The job's outcomes, with what was made in its result, and its failure as the error that it is."""
    from llamahome_tui.jobs.reader import tail
    from llamahome_tui.jobs.store import read_object

    try:
        for outcome in outcomes:
            if isinstance(outcome, Result) and outcome.data.get("status") == "completed":
                manifest = read_object(Path(order.place) / folder.MANIFEST, 16 << 20) or {}
                yield replace(outcome, data={**outcome.data, **_told(order, manifest)}, next=_next(manifest))
            else:
                yield outcome
    except TrainingError as error:
        failure = next(iter(tail(job.events_path, 1, {"error"})), None) if error.data.get("failure") else None
        if failure is None:
            raise
        raise LlamaHomeError(
            str(failure["message"]),
            hint=str(failure.get("hint") or error.hint),
            code=str(failure["code"]),
            exit_code=int(failure.get("exit") or error.exit),
            data=error.data,
        ) from None


def _told(order: Order, manifest: Mapping[str, Any]) -> dict[str, Any]:
    files = manifest.get("files") or {}
    return {
        "path": order.place,
        "form": order.form,
        "step": order.step,
        "bytes": sum(one["bytes"] for one in files.values()),
        "files": sorted(files),
        "proof": manifest.get("proof"),
        "serve": manifest.get("serve"),
    }


def _next(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    refused = manifest.get("servers") or []
    merged = "llamahome --batch runs export " + str(manifest.get("run")) + " --merge"
    serve = (str(manifest["serve"]),) if manifest.get("serve") else ()
    return (*serve, *((f"vLLM takes no {' and no '.join(refused)}: {merged}",) if refused else ()))
