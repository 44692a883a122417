"""An export from top to bottom: base, files, proof, card, name; each is one call, and each can be left and taken up."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from llamahome_tui.config.places import Places
from llamahome_tui.config.settings import Settings
from llamahome_tui.context import Context
from llamahome_tui.errors import DataError, IntegrityError, NotFoundError
from llamahome_tui.export import base, card, folder
from llamahome_tui.export.folder import Partial
from llamahome_tui.export.order import ADAPTER, MERGED, Order, tolerance_of
from llamahome_tui.export.tensors import Tensors, free_bytes, stored_in, stored_in_file
from llamahome_tui.jobs import exports
from llamahome_tui.jobs.child import Child
from llamahome_tui.jobs.reader import read
from llamahome_tui.jobs.recovery import sha256_of
from llamahome_tui.jobs.store import Run, RunStore
from llamahome_tui.models.folder import read_json, weight_files
from llamahome_tui.training.trainer.checkpoint import is_disk_full
from llamahome_tui.workers.export import proof, quantised_base, shards, whole
from llamahome_tui.workers.export.merge import MergedTensors, PlainTensors

SAID_EVERY_S = 0.5
WITH_A_MODEL = ("generation_config.json",)
WITH_ANY = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model",
    "vocab.json", "merges.txt", "chat_template.jinja", "preprocessor_config.json",
)  # fmt: skip


class Leaving(Exception):
    """A stop or a pause was asked for; what is finished stays."""


def export(child: Child) -> int:
    """Do the job's export; gives the process's exit status."""
    order = Order.of(child.job)
    child.start(0, exact=True, reason="", devices=["cpu"])
    try:
        return _export(child, order)
    except Leaving:
        return child.end("stopped" if child.stopping else "paused")
    except (OSError, RuntimeError) as error:
        if not is_disk_full(error):
            raise
        place = Path(order.place)
        raise folder.no_room(place, 0, free_bytes(place)) from error


def _export(child: Child, order: Order) -> int:
    began = time.monotonic()
    place, source = Path(order.place), Run.open(child.run.dir.parent / order.run)
    if (manifest := folder.standing(place, order.key)) is not None:  # published by an attempt that was killed then
        child.emit("artifact", sync=True, **exports.note(source, child.run.id, order.form, place, manifest))
        return child.end("completed", totals={"seconds": 0.0})
    poll = _Poll(child)
    child.emit("phase", phase="model")
    unchanged(order)
    torch.manual_seed(0)
    tensors = tensors_of(order)
    template = Path(order.template) if order.template else None
    file = whole.Whole.of(order, tensors) if order.gguf and tensors is not None else None
    parts = [] if file else parts_of(order, tensors)
    partial = Partial(place, order.key)
    sizes = [shards.bytes_of(tensors, names) for _, names in parts] if tensors else []
    folder.require_room(place, file.bytes if file else sum(sizes) or _size(Path(order.weights)), partial.bytes)
    child.emit("phase", phase="save")
    if file:
        poll.total = file.steps
        file.fill(partial, template, poll.tensor, poll)
    else:
        small(order, tensors, template, partial)
        _fill(child, order, tensors, parts, partial, poll)
    child.emit("phase", phase="eval")
    found = prove(child, order, tensors, partial.path, poll, file)
    child.emit("metrics", step=poll.done, eval_loss=found.trained, eval_loss_exported=found.exported)
    if not found.holds:
        aside = partial.refuse()
        raise IntegrityError(
            f"the export says something else than what was trained: held-out loss {found.exported:.6g} and "
            f"{found.trained:.6g}, {found.difference:.2e} apart where {found.tolerance:g} is allowed",
            code="export.refused",
            hint=f"it is kept aside in {aside}; to allow more: llamahome --batch runs export {order.run} --tolerance X",
            data={"path": str(aside), "proof": found.to_dict()},
        )
    config = read_json(Path(order.weights) / "adapter_config.json") if order.form != "model" else {}
    serve = card.serve_line(order, config)
    text = card.card(order, source.effective_job()["spec"], _data(source), found.to_dict(), config)
    partial.add("README.md", lambda path: _write(path, text))
    poll()
    about = {
        "run": order.run, "form": order.form, "step": order.step, "base": order.base_name, "revision": order.revision,
        "proof": found.to_dict(), "serve": serve,
        "servers": card.refused_by_servers(config) if order.form == ADAPTER else [],
    }  # fmt: skip
    size = partial.bytes
    manifest = partial.publish(about)
    child.emit("artifact", sync=True, **exports.note(source, child.run.id, order.form, place, manifest))
    return child.end("completed", totals={"seconds": round(time.monotonic() - began, 3), "bytes": size})


class _Poll:
    """Called between tensors and batches: says how far it is, answers requests, leaves when asked to."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._said = 0.0
        self.done = self.total = 0

    def __call__(self, *_: Any) -> None:
        child = self._child
        if child.stopping or child.pausing:
            raise Leaving
        for request in child.requests():
            child.answer(request, "refused", "an export takes no requests but stop")
        now = time.monotonic()
        if now - self._said >= SAID_EVERY_S and self.total:
            self._said = now
            child.emit("progress", step=self.done, steps=self.total, epoch=None, eta_s=None)

    def tensor(self, *_: Any) -> None:
        """One more tensor is written."""
        self.done += 1
        self()


def unchanged(order: Order) -> None:
    """Raises IntegrityError (exit 8) where base or weights are not those that the export was ordered from.

    A Hugging Face cache's blobs are held against the hashes that they are named after: they are shared, and the run
    has trusted their names.
    """
    path = Path(order.base)
    name = base.changed(order.base_files, base.fingerprint(path))
    if not name:
        for file in weight_files(path):
            told = order.base_files.get(file.name, "").removeprefix("sha256:")
            if file.is_symlink() and len(told) == 64 and sha256_of(file) != told:
                name = file.name
                break
    if name:
        raise base.has_changed(path / name)
    if name := base.changed(order.weight_files, base.prints(sorted(Path(order.weights).glob("*.safetensors")))):
        raise IntegrityError(
            f"{Path(order.weights) / name} has changed since the export was ordered",
            code="export.weights_changed",
            hint=f"look what the run has: llamahome --batch runs show {order.run}",
        )


def tensors_of(order: Order) -> Tensors | None:
    """What the export's files hold; None for an adapter, whose file is copied."""
    base_folder, weights = Path(order.base), Path(order.weights)
    if order.form == ADAPTER:
        MergedTensors(base_folder, weights)  # that it goes on its base is looked at all the same
        return None
    if order.form == MERGED:
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[order.precision]
        through = quantised_base.changes(base_folder, weights, order.quantization, dtype)
        return MergedTensors(base_folder, weights, through)
    return PlainTensors(weights, {name: one.dtype for name, one in stored_in(base_folder).items()})


def parts_of(order: Order, tensors: Tensors | None) -> list[tuple[str, list[str]]]:
    """The weight files to write, each with its tensors."""
    if tensors is None:
        return []
    like = Path(order.base if order.form == MERGED else order.weights)
    return shards.parts_of(tensors, [(file.name, list(stored_in_file(file))) for file in weight_files(like)])


def small(order: Order, tensors: Tensors | None, template: Path | None, partial: Partial) -> None:
    """Everything but weights: tokenizer and chat template, and what a whole model needs."""
    for name in [*WITH_ANY, *(WITH_A_MODEL if tensors else ())]:
        found = template if template and name == "chat_template.jinja" else Path(order.base) / name
        if found.is_file():
            partial.add(name, lambda path, found=found: _copy(found, path))  # type: ignore[misc]
    if tensors is not None:
        config = {key: value for key, value in tensors.config.items() if key != "_name_or_path"}
        partial.add("config.json", lambda path: _write(path, json.dumps(config, indent=2) + "\n"))
        return
    saved = read_json(Path(order.weights) / "adapter_config.json")
    saved |= {"base_model_name_or_path": order.base_name, "inference_mode": True}
    if order.revision:
        saved["revision"] = order.revision
    partial.add("adapter_config.json", lambda path: _write(path, json.dumps(saved, indent=2) + "\n"))


def _fill(
    child: Child,
    order: Order,
    tensors: Tensors | None,
    parts: list[tuple[str, list[str]]],
    partial: Partial,
    poll: _Poll,
) -> None:
    """The weight files; those of an earlier attempt are kept."""
    if tensors is None:
        file = Path(order.weights) / "adapter_model.safetensors"
        partial.add(file.name, lambda path: _copy(file, path))
        return
    poll.total = sum(len(names) for _, names in parts)
    for name, names in parts:
        if partial.has(name):
            poll.done += len(names)
            continue
        left = sum(shards.bytes_of(tensors, one) for other, one in parts if not partial.has(other))
        folder.require_room(Path(order.place), left)
        partial.add(name, lambda path, names=names: shards.write(tensors, names, path, poll.tensor))  # type: ignore[misc]
        poll()
    total = sum(shards.bytes_of(tensors, names) for _, names in parts)
    if table := shards.index(parts, total):
        partial.add(table[0], lambda path: _write(path, table[1]))
    child.emit("progress", step=poll.done, steps=poll.total, epoch=None, eta_s=None)


def prove(
    child: Child,
    order: Order,
    tensors: Tensors | None,
    made: Path,
    poll: Callable[[], None],
    file: whole.Whole | None = None,
) -> proof.Proof:
    """The losses of what was trained and of what would be published."""
    places = Places.from_environ(os.environ)
    store = RunStore(child.run.state)
    context = Context(places, Settings(), os.environ, child.run.dir, "")
    kind = "held_out"
    try:
        rows = proof.held_out(context, store.resolve(order.run), Path(order.base))
    except (DataError, NotFoundError) as error:
        child.emit("warning", message=f"{error.message}; the export is proved on drawn tokens instead")
        config = read_json(Path(order.base) / "config.json")
        kind = "random"
        size = config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size") or 2
        rows = proof.drawn_rows(int(size))
    trained, count = proof.trained_loss(order, rows, poll)
    if file:
        exported, _ = proof.loss_with(file.like, file.weights(made), rows, poll)
    else:
        exported, _ = proof.exported_loss(order, made, rows, poll)
    widest = "F32"
    if tensors is not None:
        kinds = {tensors.dtype(name) for name in tensors.names()}
        widest = "BF16" if kinds & {"BF16", "F16"} else "F32"
    return proof.Proof(kind, len(rows), count, trained, exported, tolerance_of(order, widest))


def _data(run: Run) -> Mapping[str, str]:
    """The run's data files with their sha256, from its journal."""
    found: Mapping[str, str] = {}
    for record in read(run.events_path):
        data = record.get("data")
        if record["type"] == "phase" and isinstance(data, dict) and isinstance(data.get("files"), dict):
            found = {str(name): str(digest) for name, digest in data["files"].items()}
    return found


def _size(weights: Path) -> int:
    return sum(file.stat().st_size for file in weights.glob("*.safetensors"))


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
