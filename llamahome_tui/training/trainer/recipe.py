"""Supervised fine-tuning from top to bottom: data, model, optimiser, loop, adapter; each step is one call."""

from __future__ import annotations

import itertools
import os
import shutil
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from llamahome_tui.cache import cap
from llamahome_tui.config.fields import plain
from llamahome_tui.config.places import Places
from llamahome_tui.data.prepare import Prepared, prepare
from llamahome_tui.data.template import ChatTemplate, RenderError, template_files
from llamahome_tui.data.tokens import tokenizer_file
from llamahome_tui.errors import DataError, ResourceError, SpecError
from llamahome_tui.export.base import fingerprint as base_files
from llamahome_tui.jobs import replay, report_files
from llamahome_tui.jobs.child import Child
from llamahome_tui.jobs.journal import tail
from llamahome_tui.jobs.recovery import sha256_of
from llamahome_tui.jobs.report import Ending, report_of
from llamahome_tui.jobs.spawn import SINK_CREDENTIALS
from llamahome_tui.models.locate import Located
from llamahome_tui.training import auto, launch, replaying, sameness, weights
from llamahome_tui.training import kernels as named
from llamahome_tui.training.layout import Order, padding_share
from llamahome_tui.training.methods import method_of
from llamahome_tui.training.resume import fixed_changes
from llamahome_tui.training.sinks import feeds, known
from llamahome_tui.training.spec import SCHEMA, Spec
from llamahome_tui.training.support import limits
from llamahome_tui.training.trainer import (
    assembly,
    checkpoint,
    company,
    counts,
    exactness,
    fetching,
    memory,
    model,
    optim,
)
from llamahome_tui.training.trainer.batches import Batching, Items, Row
from llamahome_tui.training.trainer.checkpoint import Checkpoint
from llamahome_tui.training.trainer.counters import Counters
from llamahome_tui.training.trainer.evaluate import Writer
from llamahome_tui.training.trainer.isolation import isolation_of
from llamahome_tui.training.trainer.loop import Held, Loop
from llamahome_tui.training.trainer.model import Trainee
from llamahome_tui.training.trainer.snapshot import weights_of

SETTLED = (  # keys whose value is in the counters from the first step on
    "training.learning_rate",
    "training.batch_size",
    "training.gradient_checkpointing",
    "data.batching",
    "data.max_length",
    "evaluation.patience",
)
ALIVE_S = 5.0  # between two signs of life while data are prepared
SPLITS = 64  # of the last ones that are looked at
JOURNAL_BYTES = 64 << 20  # of the journal's end that is searched for earlier splits
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


def train(child: Child, places: Places) -> int:
    """Do the run's training from its newest checkpoint on; gives the process's exit status."""
    spec = Spec.from_dict(child.job["spec"])
    resumed, aside = checkpoint.newest(child.run)
    from_mirror: list[str] = []
    if resumed is None and child.job.get("mirror"):
        try:
            from_mirror = fetching.fetch(child, spec)
        except fetching.Left:
            return child.end("stopped" if child.stopping else "paused", step=0)
        resumed, aside = checkpoint.newest(child.run)
    refuse(spec, resumed)
    device = model.pick_device()
    named.refuse_lacking(named.lacking(spec))
    named.refuse_device(spec, cpu=device.type == "cpu")
    with company.company(child.run, size := launch.processes(spec)) as others:
        surroundings = exactness.surroundings(device, size)
        announce(child, spec, resumed, surroundings)
        for path in aside:
            child.emit("warning", message=f"{path.name} is not a whole checkpoint and was set aside")
        for said in from_mirror:
            child.emit("warning", message=said)
        return work(child, places, spec, resumed, device, surroundings, others)


def work(
    child: Child,
    places: Places,
    spec: Spec,
    resumed: Checkpoint | None,
    device: Any,
    surroundings: Mapping[str, Any],
    others: company.Company,
) -> int:
    """The same behind the `start` event, with the processes of the other ranks on their way."""

    def warn(message: str) -> None:
        child.emit("warning", message=message)

    child.emit("phase", phase="data")
    located = assembly.find_model(spec, places)
    if resumed is None:
        weights.check(spec, located, cpu=device.type == "cpu")
    try:
        data = prepare(spec, located.path, places.prepared, data_progress(child), now=created_at(child))
    except Leaving as asked:
        return child.end(asked.reason, step=resumed.step if resumed else 0)
    if (most := cap.of_environ(os.environ)) is not None:
        cap.enforce(places.cache, most, keep=[places.prepared / data.key])
    for said in data.warnings:
        warn(said)
    if resumed is None or Spec.from_dict(resumed.notes["spec"]).training.global_batch != spec.training.global_batch:
        weights.refuse_small_data(spec, len(data.train))
    items = Items.of(data.train)
    order = Order(len(data.train), spec.training.global_batch, spec.training.seed)
    total = auto.total_steps(len(data.train), spec.training.global_batch, spec.training.epochs, spec.training.max_steps)

    if spec.report.to:
        report_to(child, spec)
    files = {str(file): digest for file, digest in data.hashes.items()}
    decided_by = sameness.digests([tokenizer_file(located.path), *template_files(located.path, spec.data.template)])
    child.emit(
        "phase",
        phase="model",
        data={"files": files, "decided_by": decided_by, "rows": len(data.train), "eval_rows": len(data.eval)},
        base=base_files(located.path),
    )
    ranks = others.join()
    ranks.tell(resumed, created_at(child))
    trainee = assembly.loaded(spec, located, device, warn, resumed)
    counters = counters_of(resumed, spec, trainee, max(items.filled), ranks.size)

    def degraded(what: str, why: str) -> None:
        child.emit("degrade", step=counters.step, what=what, why=why)

    reading = assembly.reading_of(spec, trainee, data.train, items, degraded)
    batching = batching_of(child, spec, trainee, counters, data.train, items)
    ranks.tell(counters.to_dict(), batching)
    if doubt := optim.doubt(auto.optimizer(spec.training.optimizer, lora=trainee.lora), spec.training.learning_rate):
        warn(doubt)
    stepper = assembly.stepper_of(spec, trainee, items, counters, reading, batching, resumed, ranks, warn, degraded)

    def notes(now: Counters) -> dict[str, Any]:
        return {
            "v": 1,
            "counters": now.to_dict(),
            "surroundings": surroundings,
            "spec": spec.to_dict(),
            "data": files | decided_by,
        }

    held = held_out(spec, located, trainee, data)
    child.emit(
        "phase",
        phase="train",
        batching=batching.mode,
        batching_reason=counters.batching_reason,
        parameters=counts.as_fields(counts.by_kind(trainee.model)),
    )
    script = replay.script(child.run, child.job, counters.step, new_rate=has_new_rate(resumed, spec))
    loop = Loop(child, spec, stepper, order, held, counters, total, notes, script, ranks)
    reason = loop.run()
    others.dismiss()

    if reason == "completed":
        child.emit("phase", phase="save")
        publish_result(child, spec, trainee, located, counters)
    totals = {
        "steps": counters.step,
        "tokens": counters.tokens,
        "trained_tokens": counters.trained_tokens,
        "seconds": round(loop.elapsed_s, 3),
        "loss_first": counters.loss_first,
        "loss_last": counters.loss_last,
        "best": loop.best,
        "memory_peak_bytes": stepper.peak_bytes,
        "skipped_steps": counters.skipped_steps,
        "early_stopped": counters.early_stopped,
    }
    return child.end(
        reason,
        last=lambda: leave_report(child, Ending(reason, totals)),
        step=counters.step,
        steps=total,
        best=loop.best,
        totals=totals,
    )


def leave_report(child: Child, ending: Ending) -> None:
    """The report among the artifacts; where there is no room it is a warning, and `runs report` makes it when asked."""
    try:
        written = report_files.leave(child.run, report_of(child.run, ending))
    except Exception as error:  # noqa: BLE001 - what was trained is kept: no report keeps the run from its end
        traceback.print_exc()  # into out.log
        child.emit("warning", message=f"the report can't be written: {report_files.why_not(error)}")
        return
    for one in written:
        child.emit("artifact", sync=True, **one)


def refuse(spec: Spec, resumed: Checkpoint | None) -> None:
    """Raise SpecError for what this version does not do, or what does not go with the checkpoint.

    `train start` has looked already; `runs resume --set` may have brought it in.
    """
    found = limits({key: plain(spec.get(key)) for key in SCHEMA})
    found += [("report.to", reason) for reason in known.wrong_names(spec.report.to)]
    if resumed:
        found += fixed_changes(Spec.from_dict(resumed.notes["spec"]), spec)
    if found:
        raise SpecError(
            "; ".join(f"{key}: {reason}" for key, reason in found),
            data={"errors": [{"key": key, "reason": reason} for key, reason in found]},
        )
    known.has_packages(spec.report.to, lambda names: [name for name in names if not known.is_here(name)])


def report_to(child: Child, spec: Spec) -> None:
    """Start the sinks, which load while the model does; from here on they get every metric."""
    sinks = feeds.open_all(child.run, spec, child.emit, os.environ)
    for name in itertools.chain(*SINK_CREDENTIALS.values()):
        os.environ.pop(name, None)  # they have it, and nothing else needs it
    child.pass_on(sinks.record, sinks.close)


def announce(child: Child, spec: Spec, resumed: Checkpoint | None, surroundings: Mapping[str, Any]) -> None:
    """The `start` event: from which step, and whether what follows is what would have followed anyway."""
    reasons: list[str] = []
    from_step = resumed.step if resumed else 0
    origin = replaying.Origin.of(child.job)
    if resumed:
        before = resumed.notes
        reasons = sameness.differences(before["surroundings"], surroundings, before["spec"], spec)
        if changed := sameness.changed_files(before["data"]):
            reasons.append(f"data changed: {', '.join(changed)}")
        if before["spec"].get("data", {}).get("train") == spec.to_dict()["data"]["train"] and (
            added := sameness.new_files(before["data"], spec.data.train)
        ):
            reasons.append(f"data added: {', '.join(added)}")
    elif origin is not None:
        reasons = origin.differences(surroundings, spec)
    degraded = tail(child.run.events_path, SPLITS, {"degrade"}, limit_bytes=JOURNAL_BYTES)
    if any(str(one.get("what")).startswith(sameness.SPLIT) and one.get("step", 0) >= from_step for one in degraded):
        reasons.append("memory ran out after that step, and may not at the same place again")
    child.start(
        from_step,
        not reasons,
        "; ".join(reasons),
        versions=surroundings["versions"],
        devices=[surroundings["device"]] * surroundings["ranks"],
        threads=surroundings["threads"],
        instructions=surroundings["instructions"],
        **({"replay_of": origin.run} if origin is not None else {}),
        spec_hash=spec.digest(),
        **_forecast(child, spec),
    )


def _forecast(child: Child, spec: Spec) -> dict[str, int]:
    """What was forecast for the run when it was made; none of it where a resume has changed the spec since."""
    kept = child.job.get("forecast")
    if not isinstance(kept, dict) or child.job.get("spec_hash") != spec.digest():
        return {}
    return {name: kept[name] for name in ("predicted_bytes", "forecast_bytes")}


class Leaving(Exception):
    """The run is asked to end while its data are prepared; nothing of the preparation is kept."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def data_progress(child: Child) -> Callable[..., None]:
    """Says every few seconds how many bytes and rows are prepared, so that large data do not look like a stall.

    Raises Leaving as soon as a stop or a pause is asked for.
    """
    said = time.monotonic()

    def progress(done: int, total: int, rows: int = 0) -> None:
        nonlocal said
        if child.stopping or child.pausing:
            raise Leaving("stopped" if child.stopping else "paused")
        if time.monotonic() - said >= ALIVE_S:
            said = time.monotonic()
            child.emit("phase", phase="data", done=done, total=total, rows=rows)

    return progress


def created_at(child: Child) -> datetime:
    """When the run was made: the day a template may write into its prompts, the same in every attempt and replay."""
    origin = replaying.Origin.of(child.job)
    return datetime.fromisoformat(origin.created_at if origin else child.job["created_at"]).astimezone()


def counters_of(resumed: Checkpoint | None, spec: Spec, trainee: Trainee, longest: int, ranks: int) -> Counters:
    """The counters to go on from: a checkpoint's, with what `runs resume --set` has changed since settled anew."""
    fresh = first_counters(spec, trainee, longest, ranks)
    if resumed is None:
        return fresh
    counters = Counters.from_dict(resumed.notes["counters"])
    before = Spec.from_dict(resumed.notes["spec"])
    # Of all layers (true) and of one (1) are equal to Python, and not the same.
    changed = {key for key in SETTLED if repr(before.get(key)) != repr(spec.get(key))}
    if "training.learning_rate" in changed:
        counters.peak_rate = fresh.peak_rate
    if changed & {"training.batch_size", "training.gradient_checkpointing", "data.max_length"}:
        counters.micro, counters.gradient_checkpointing = fresh.micro, fresh.gradient_checkpointing
    if "data.batching" in changed:
        counters.batching = ""
    elif not counters.batching:  # of a version that had no choice
        counters.batching = "plain" if spec.data.batching == "plain" else "sorted"
        counters.batching_reason = "the run began so"
    if "evaluation.patience" in changed:
        counters.early_stopped, counters.evaluations_without_gain = False, 0
    return counters


def has_new_rate(resumed: Checkpoint | None, spec: Spec) -> bool:
    """Whether the resume names another learning rate than the checkpoint's spec: what was asked for before is void."""
    key = "training.learning_rate"
    return resumed is not None and Spec.from_dict(resumed.notes["spec"]).get(key) != spec.get(key)


def first_counters(spec: Spec, trainee: Trainee, longest: int, ranks: int) -> Counters:
    """The counters of a run that begins: every auto value that depends on model and data is settled here."""
    micro, checkpointing = auto.micro_batch(
        spec.training.batch_size,
        spec.training.gradient_checkpointing,
        device="cuda" if trainee.device.type == "cuda" else "cpu",
        global_batch=spec.training.global_batch,
        longest=longest,
        shape=trainee.shape(),
        free_bytes=memory.free_bytes(trainee.device) // (1 if trainee.device.type == "cuda" else ranks),
    )
    rate = auto.learning_rate(
        spec.training.learning_rate,
        lora=trainee.lora,
        parameters=trainee.parameters,
        preference=method_of(spec.method.kind).preference,
    )
    return Counters(peak_rate=rate, micro=micro, gradient_checkpointing=checkpointing)


def batching_of(
    child: Child, spec: Spec, trainee: Trainee, counters: Counters, rows: Sequence[Row], items: Items
) -> Batching:
    """How rows become micro-batches: as the counters have it, else chosen and put there.

    Packing is tried on the model each time before it is used. Where rows leak into one another, auto becomes sorted
    with a `degrade` event, and a spec that asks for packing is refused: what it asks for would train on wrong rows.
    """
    device: auto.Device = "cuda" if trainee.device.type == "cuda" else "cpu"
    multiple = assembly.MULTIPLE[device]
    if not counters.batching:
        counters.batching, counters.batching_reason = auto.batching(
            spec.data.batching,
            device=device,
            bounded_kernels=trainee.bounded_kernels,
            sorted_padding=lambda: padding_share(
                items.filled,
                global_batch=spec.training.global_batch,
                micro=counters.micro,
                seed=spec.training.seed,
                mode="sorted",
                multiple=multiple,
                real=sum(items.tokens),
            ),
        )
    if counters.batching == "packed":
        found = isolation_of(trainee, rows, items.filled, bounds_first=trainee.bounded_kernels, multiple=multiple)
        if found.seams:
            return Batching("packed", found.seams, multiple)
        if spec.data.batching == "packed":
            raise SpecError(
                f"data.batching: packed rows would leak into one another on this model: {found.reason}",
                code="training.packing_leaks",
                hint=f"let it choose: llamahome --batch runs resume {child.run.id} --set data.batching=auto",
            )
        child.emit(
            "degrade",
            step=counters.step,
            what="batching sorted",
            why=f"packing leaks between rows on this model: {found.reason}",
        )
        counters.batching, counters.batching_reason = "sorted", "packing leaks between rows on this model"
    return Batching("plain" if counters.batching == "plain" else "sorted", multiple=multiple)


def held_out(spec: Spec, located: Located, trainee: Trainee, data: Prepared) -> Held:
    """Rows for evaluation, and the tokenised prompts of `samples`."""
    writer = Writer(located.path, trainee)
    prompts = [(text, writer.encode(_as_chat(text, spec, located))) for text in spec.samples.prompts]
    return Held(Items.of(data.eval), writer, prompts)


def _as_chat(text: str, spec: Spec, located: Located) -> str:
    """A prompt as the model's template puts it; as it is where the model has none."""
    template = ChatTemplate.load(located.path, spec.data.template)
    if template is None:
        return text
    messages = [{"role": "user", "content": text}]
    try:
        return template.render(messages, add_generation_prompt=True, **spec.data.template_options)
    except RenderError as problem:
        raise DataError(f"samples.prompts: the chat template refuses a prompt: {problem}") from problem


def publish_result(child: Child, spec: Spec, trainee: Trainee, located: Located, counters: Counters) -> None:
    """Put the trained weights where they are looked for: the last ones, or the best where patience ended the run."""
    kind = "adapter" if trainee.lora else "model"
    if counters.early_stopped and counters.best:
        checkpoint.load_weights(trainee, child.run.dir / counters.best.path)

    def fill(into: Path) -> None:
        weights_of(trainee).write(into)
        for name in TOKENIZER_FILES:
            if (located.path / name).is_file():
                shutil.copyfile(located.path / name, into / name)
        if spec.data.template:
            shutil.copyfile(spec.data.template, into / "chat_template.jinja")

    try:
        written = checkpoint.publish(child.run.artifacts_dir, kind, fill)
    except (OSError, RuntimeError) as error:
        if not checkpoint.is_disk_full(error):
            raise
        raise ResourceError(
            f"no room for the {kind} in {child.run.artifacts_dir}; the last checkpoint holds its weights",
            hint=f"make room, then: llamahome --batch runs resume {child.run.id}",
            code="disk.full",
        ) from error
    weights = next(iter(sorted(written.path.glob("*.safetensors"))))
    child.emit(
        "artifact",
        sync=True,
        kind=kind,
        path=f"artifacts/{kind}",
        bytes=written.bytes,
        sha256=sha256_of(weights),
    )
