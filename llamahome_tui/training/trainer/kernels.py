"""Faster ways to compute the model (flash attention, liger kernels, torch.compile): each is proved equal, or dropped.

Whatever is dropped is said in a `degrade` event, and the plain way is taken: a run never fails for want of speed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, Protocol

import torch

from llamahome_tui.training.shape import Training
from llamahome_tui.training.trainer import memory, proof, rng
from llamahome_tui.training.trainer.batches import MicroBatch
from llamahome_tui.training.trainer.evaluate import evaluating
from llamahome_tui.training.trainer.loss import Reader, cross_entropy
from llamahome_tui.training.trainer.model import Trainee

HOPPER = (9, 0)  # the compute capability that the third flash attention is written for
# What a kernel that does not go with model, device or versions is known to raise; compilers raise RuntimeError.
REFUSALS = (
    RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError, ImportError, AssertionError,
    NotImplementedError, OSError, subprocess.SubprocessError,
)  # fmt: skip

Degraded = Callable[[str, str], None]  # what is used instead, and why
Undo = Callable[[], None]


class Again(Protocol):
    """Makes a reader whose calls of the model go through what it is given."""

    def __call__(self, *, through: Callable[[Any], Any]) -> Reader: ...


def choose(
    trainee: Trainee, read: Reader, settings: Training, batch: Callable[[], MicroBatch], degraded: Degraded
) -> None:
    """Give the model the attention and the kernels of the spec; `batch` makes what they are proved on.

    What auto takes is looked for on a GPU only: all of these kernels are written for one.
    """
    names = [settings.attention] if settings.attention.startswith("flash") else []
    if settings.attention == "auto" and trainee.device.type == "cuda" and trainee.precision != "fp32":
        names = installed_attention(torch.cuda.get_device_capability(trainee.device))
    liger = settings.kernels == "liger" or (
        settings.kernels == "auto" and trainee.device.type == "cuda" and has_liger()
    )
    if not names and not liger:
        return
    made = batch()
    wanted = proof.answer(trainee, read, made)
    for name in names:
        if use_attention(trainee, read, made, wanted, name, degraded):
            break
    if liger:
        use_liger(trainee, read, made, wanted, degraded, quiet=settings.kernels == "auto")
    memory.release()


def installed_attention(capability: tuple[int, int]) -> list[str]:
    """Flash attention that this installation has for a GPU of this compute capability, the fastest first."""
    from transformers.utils.import_utils import is_flash_attn_2_available, is_flash_attn_3_available

    third = capability[0] == HOPPER[0] and is_flash_attn_3_available()
    second = capability >= (8, 0) and is_flash_attn_2_available()
    return ["flash_attention_3"] * third + ["flash_attention_2"] * second


def has_liger() -> bool:
    """Whether this installation has liger kernels."""
    from transformers.utils import is_liger_kernel_available

    return bool(is_liger_kernel_available())


def use_attention(
    trainee: Trainee, read: Reader, batch: MicroBatch, wanted: proof.Answer, name: str, degraded: Degraded
) -> bool:
    """Turn the model to this attention where it computes the same as the one before; whether it did."""
    before = str(trainee.base.config._attn_implementation)
    try:
        trainee.base.set_attn_implementation(name)
        reason = proof.difference(proof.answer(trainee, read, batch), wanted, trainee.precision)
    except REFUSALS as refused:
        reason = _said(refused)
    if reason:
        trainee.base.set_attn_implementation(before)
        degraded(f"attention {before}", f"training.attention: {name} is not used: {reason}")
    return not reason


def use_liger(
    trainee: Trainee,
    read: Reader,
    batch: MicroBatch,
    wanted: proof.Answer,
    degraded: Degraded,
    *,
    quiet: bool = False,
) -> bool:
    """Give the model liger's norms, rotary embeddings and activations where they compute the same; whether it did.

    Not its losses: ours never hold all logits either, and count what a step counts. `quiet` says nothing where liger
    has no kernels for this architecture.
    """
    undo = _remember(trainee.base)
    try:
        apply = import_module("liger_kernel.transformers")._apply_liger_kernel_to_instance
        known = import_module("liger_kernel.transformers.monkey_patch").MODEL_TYPE_TO_APPLY_LIGER_FN
        kind = trainee.base.config.model_type
        if kind in known:
            apply(model=trainee.base, cross_entropy=False, fused_linear_cross_entropy=False)
            reason = proof.difference(proof.answer(trainee, read, batch), wanted, trainee.precision)
        elif quiet:
            return False
        else:
            reason = f"it has none for {kind}"
    except REFUSALS as refused:
        reason = _said(refused)
    if reason:
        undo()
        degraded("kernels none", f"training.kernels: liger is not used: {reason}")
    return not reason


def compiled(trainee: Trainee, read: Reader, again: Again, batch: MicroBatch, degraded: Degraded) -> Reader:
    """The reader whose model is compiled, or `read` where that fails or computes something else.

    The model itself stays as it is: what writes answers word by word would have it compiled again for each length.
    """
    quick = again(through=partial(torch.compile, dynamic=True))
    before = rng.snapshot()
    try:
        reason = proof.difference(
            proof.answer(trainee, quick, batch), proof.answer(trainee, read, batch), trainee.precision
        )
        if not reason:
            _learn(trainee, quick, batch)
    except REFUSALS as refused:
        reason = _said(refused)
    finally:
        rng.restore(before)
    memory.release()
    if reason:
        torch.compiler.reset()
        degraded("compile false", f"training.compile: {reason}")
        return read
    torch._dynamo.config.suppress_errors = True  # a shape that does not compile is computed as it is, from here on
    return quick


def _learn(trainee: Trainee, read: Reader, batch: MicroBatch) -> None:
    """As in training, with dropout and checkpointed layers, and as in an evaluation: whether that compiles too."""
    with trainee.autocast():
        loss = cross_entropy(read(batch.to(trainee.device)))
    torch.autograd.grad(loss, trainee.trainable[:1], allow_unused=True)
    with evaluating(trainee):
        read(batch.to(trainee.device))


def _remember(base: Any) -> Undo:
    """What puts modules, their classes and the files these come from back as they are now."""
    modules = [(one, dict(vars(one))) for one in base.modules()]
    classes = {type(one) for one, _ in modules if type(one).__module__.startswith("transformers.")}
    kept: list[tuple[Any, dict[str, Any]]] = [(one, dict(vars(one))) for one in classes]
    kept += [(sys.modules[name], dict(vars(sys.modules[name]))) for name in {one.__module__ for one in classes}]

    def undo() -> None:
        for module, attributes in modules:
            vars(module).clear()
            vars(module).update(attributes)
        for owner, attributes in kept:
            for name in [name for name in vars(owner) if name not in attributes]:
                delattr(owner, name)
            for name, value in attributes.items():
                if vars(owner).get(name) is not value:
                    setattr(owner, name, value)

    return undo


def _said(refused: BaseException) -> str:
    return f"it does not run here: {' '.join(str(refused).split())[:300] or type(refused).__name__}"
