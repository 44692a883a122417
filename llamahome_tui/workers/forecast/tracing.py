"""One step of the trainer's own code over tensors that have shapes and no values, its memory counted part by part.

The model is built from its config on the meta device, its parameters become fake tensors, and the real `Stepper` adds
up a gradient under `FakeTensorMode`. It all stands on the CPU, for a GPU too: both keep the same tensors for the
backward pass, since fused attention keeps no scores on either. Deep models of equal layers are traced with a few of
them and drawn out, which is exact where memory grows by the same for each layer: so the peaks of the forward and of
the backward pass are drawn out on their own, since which of them is the higher one may change with the depth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from llamahome_tui.errors import ModelError
from llamahome_tui.training import auto
from llamahome_tui.training.forecast import Parts, Target, Variant
from llamahome_tui.training.methods import method_of
from llamahome_tui.training.trainer import adapter, loss
from llamahome_tui.training.trainer.batches import Batching, Item, Items
from llamahome_tui.training.trainer.model import Trainee, ready
from llamahome_tui.training.trainer.objectives import objective_of
from llamahome_tui.training.trainer.objectives.reference import REFERENCE
from llamahome_tui.training.trainer.step import Stepper
from llamahome_tui.workers.forecast.ledger import Ledger
from llamahome_tui.workers.forecast.packed_linear import pack

if TYPE_CHECKING:
    from llamahome_tui.training.spec import Spec

FEW = (3, 5)  # layers that a deep model is traced with
SHALLOW = 8  # layers up to which all are traced
# What a model does with its logits after the output layer, which then cannot be taken chunk by chunk.
_CHANGED_LOGITS = ("final_logit_softcapping", "logits_scaling", "logit_scale")


@dataclass(frozen=True, slots=True)
class _Row:
    """A sequence of which every token is learned."""

    ids: list[int]
    mask: list[int]


def trace(
    spec: Spec, folder: Path, start: Path | None, target: Target, variant: Variant, *, whole: bool = False
) -> Parts:
    """Bytes by part at the peak of a step of `spec` on the device, with micro-batches of the variant's shape.

    `start` is the adapter that the run goes on from. `whole` traces every layer however many there are. Raises
    ModelError for a model that cannot be built without its weights, and whatever an operation without values raises.
    """
    layers = _layers(folder)
    # A number is so many of the layers, or a share of them, and the others are not like these: 4 is no float either.
    same = isinstance(spec.training.gradient_checkpointing, bool | str)
    if whole or layers <= SHALLOW or not same:
        return _highest(_traced(spec, folder, start, target, variant, 0))
    few, more = (_traced(spec, folder, start, target, variant, count) for count in FEW)
    return _highest([_drawn_out(*pair, layers) for pair in zip(few, more, strict=True)])


def _highest(peaks: list[Parts]) -> Parts:
    return max(peaks, key=lambda parts: parts.total)


def _drawn_out(few: Parts, more: Parts, layers: int) -> Parts:
    """The straight line through both, at so many layers."""

    def at(name: str) -> int:
        low, high = getattr(few, name), getattr(more, name)
        return int(low + (high - low) * (layers - FEW[0]) / (FEW[1] - FEW[0]))

    return Parts(**{name: at(name) for name in few.to_dict()})


def _layers(folder: Path) -> int:
    """How many of one kind; 0 where they are not told, or are not all alike."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).get_text_config()
    except (OSError, ValueError, KeyError) as problem:
        raise ModelError(f"{folder}: {problem}", code="model.not_traceable") from problem
    kinds = getattr(config, "layer_types", None)
    alike = not kinds or len(set(kinds)) == 1
    experts = any(getattr(config, name, None) for name in ("first_k_dense_replace", "mlp_only_layers"))
    return int(getattr(config, "num_hidden_layers", 0)) if alike and not experts else 0


def _traced(spec: Spec, folder: Path, start: Path | None, target: Target, variant: Variant, layers: int) -> list[Parts]:
    """The parts at the peak of each pass; 0 layers: all of them."""
    precision = auto.precision(spec.training.precision, device=target.kind, bf16=target.bf16)
    model, base = _built(spec, folder, start, precision, layers)
    with FakeTensorMode(allow_non_fake_inputs=True), _chunks_of(target):
        _fake(model)
        trainee = ready(spec, model, base, torch.device("cpu"), precision, lora=spec.lora.enabled)
        if (part := spec.training.gradient_checkpointing) and not isinstance(part, str):
            trainee.checkpoint_gradients(part)
        weights, adapted = _resident(model)
        ledger = Ledger(_vocabulary(base), [*model.parameters(), *model.buffers()])
        for parameter in trainee.trainable:
            parameter.register_post_accumulate_grad_hook(lambda one: ledger.is_gradient(one.grad))
        stepper, items = _stepper(spec, trainee, target, variant)
        with ledger, _told(ledger):
            stepper.gradient(items)
        optimizer = sum(_state_bytes(spec, target, model))
    return [
        Parts(weights=weights, adapter=adapted, optimizer=optimizer, **ledger.peaks[phase])
        for phase in ("activations", "workspace")
    ]


def _built(spec: Spec, folder: Path, start: Path | None, precision: auto.Precision, layers: int) -> tuple[Any, Any]:
    """The model as the trainer makes it, and the base inside it, on the meta device."""
    again = partial(adapter.skeleton, folder, layers=layers)
    base = again()
    if base is None:
        raise ModelError(f"{folder} cannot be built without its weights", code="model.not_traceable")
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]
    base.to(dtype if spec.lora.enabled else torch.float32)
    if not spec.lora.enabled:
        return base, base
    for parameter in base.parameters():
        parameter.requires_grad_(False)
    targets = None if start else adapter.targets_of(spec, base, again)
    if spec.model.quantization != "none":
        from transformers.quantizers.base import get_keys_to_not_convert

        kept = targets.also if targets else adapter.saved_whole(start)
        pack(base, spec.model.quantization, {*kept, *get_keys_to_not_convert(base)})
    config = adapter.saved_config(start) if start else adapter.config_of(spec, targets)  # type: ignore[arg-type]
    model = adapter.put_on(base, config, empty=True)
    if start and method_of(spec.method.kind).reference:
        tuner = model.base_model
        model.add_adapter(REFERENCE, config, low_cpu_mem_usage=True)
        tuner.set_adapter(tuner.active_adapter)
    return model, base


def _fake(model: Any) -> None:
    """Give every parameter and buffer a fake tensor of its shape; what was shared stays shared."""
    made: dict[int, Any] = {}

    def fake(tensor: Any, *, learns: bool | None = None) -> Any:
        if id(tensor) not in made:
            empty = torch.empty(tensor.shape, dtype=tensor.dtype)
            made[id(tensor)] = empty if learns is None else torch.nn.Parameter(empty, requires_grad=learns)
        return made[id(tensor)]

    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = fake(parameter, learns=parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = fake(buffer)


def _resident(model: Any) -> tuple[int, int]:
    """Bytes of what the base has, and of what was put on it."""
    named = dict(model.named_parameters()) | dict(model.named_buffers())  # each once, whatever shares it
    sizes = {name: one.numel() * one.element_size() for name, one in named.items()}
    adapted = sum(size for name, size in sizes.items() if "lora_" in name)
    return sum(sizes.values()) - adapted, adapted


def _vocabulary(base: Any) -> int:
    return int(base.get_output_embeddings().out_features)


def _stepper(spec: Spec, trainee: Trainee, target: Target, variant: Variant) -> tuple[Stepper, dict[int, Item]]:
    """What takes a step, and its rows: two micro-batches of them where a step has more than one."""
    width = 2 if method_of(spec.method.kind).rows == "pairs" else 1
    rows = max(1, variant.sequences // width)
    sequence = _Row([1] * variant.length, [0] * (variant.length // 4) + [1] * (variant.length - variant.length // 4))
    count = 2 * rows if spec.training.global_batch > rows else rows
    made = [Item((sequence,) * width, good=at % 2 == 0) for at in range(count)]
    items = Items.made(made)
    config = trainee.base.config.get_text_config()
    hidden = all(getattr(config, name, None) in (None, 1, 1.0) for name in _CHANGED_LOGITS)
    read = loss.reader(trainee.model, trainee.base, hidden=hidden)
    stepper = Stepper(
        trainee,
        objective_of(spec.method, trainee, read, variant.length * width, read),
        None,
        None,
        items,
        auto.Micro("rows", rows),
        clip=spec.training.clip,
        batching=Batching("packed" if variant.packed else "plain"),
        split_on_oom=False,
        degraded=lambda _what, _why: None,
    )
    return stepper, dict(enumerate(made))


def _state_bytes(spec: Spec, target: Target, model: Any) -> Iterator[int]:
    """What the optimiser keeps of each parameter that learns, as bitsandbytes and torch lay it out."""
    name = auto.optimizer(spec.training.optimizer, lora=spec.lora.enabled)
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    if name.startswith("paged") and target.kind == "cuda":
        return  # it lies in the host's memory
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        count = parameter.numel()
        if name == "adamw":
            yield 8 * count
        elif name == "sgd":
            yield 4 * count
        else:
            states = 1 if name.startswith("lion") else 2
            small = count < 4096 or id(parameter) in embeddings
            yield states * (4 * count if small else count + 4 * math.ceil(count / 256))


@contextmanager
def _told(ledger: Ledger) -> Iterator[None]:
    """Let the ledger know when the backward pass begins, whose tensors are gone when it is over."""
    backward = torch.Tensor.backward

    def marked(*args: Any, **kwargs: Any) -> Any:
        ledger.phase = "workspace"
        try:
            return backward(*args, **kwargs)
        finally:
            ledger.phase = "activations"

    torch.Tensor.backward = marked
    try:
        yield
    finally:
        torch.Tensor.backward = backward


@contextmanager
def _chunks_of(target: Target) -> Iterator[None]:
    """Logits in chunks as long as the device takes them, though they stand on the CPU."""
    before = dict(loss.CHUNK_LOGITS)
    loss.CHUNK_LOGITS["cpu"] = before[target.kind]
    try:
        yield
    finally:
        loss.CHUNK_LOGITS.update(before)
