"""Attention and kernels that a spec can name: what each needs to be there, known before a model loads.

Whether one that is there also computes the right thing is proved on the model (`trainer/proof.py`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llamahome_tui.errors import SpecError
from llamahome_tui.training.shape import Spec


@dataclass(frozen=True, slots=True)
class Need:
    """What a choice needs: a package to import, and how it is called where packages come from."""

    key: str
    value: str
    module: str
    package: str


# The implementations of attention that transformers names; "" as module: part of torch.
ATTENTION = {
    "eager": ("", ""),
    "sdpa": ("", ""),
    "flex_attention": ("", ""),
    "flash_attention_2": ("flash_attn", "flash-attn"),
    "flash_attention_3": ("flash_attn_interface", "flash-attn-3"),
}
KERNELS = {"liger": ("liger_kernel", "liger-kernel")}


def needs(spec: Spec) -> Iterator[Need]:
    """What the spec names and torch does not bring."""
    for key, value, known in (
        ("training.attention", spec.training.attention, ATTENTION),
        ("training.kernels", spec.training.kernels, KERNELS),
    ):
        module, package = known.get(value, ("", ""))
        if module:
            yield Need(key, value, module, package)


def lacking(spec: Spec) -> list[Need]:
    """What this interpreter does not have of it; nothing is imported."""
    return [need for need in needs(spec) if importlib.util.find_spec(need.module) is None]


def refuse_lacking(missing: Sequence[Need]) -> None:
    """Raises SpecError (exit 3) for what is named and not installed: something slower was not asked for."""
    if missing:
        need = missing[0]
        raise SpecError(
            f"{need.key}: {need.value} needs the package {need.package}, which is not installed here",
            code="training.kernel_missing",
            hint=f"llamahome --batch train start SPEC --set {need.key}=auto, or: pip install {need.package}",
            data={"errors": [{"key": one.key, "reason": f"{one.package} is not installed"} for one in missing]},
        )


def refuse_device(spec: Spec, *, cpu: bool) -> None:
    """Raises SpecError (exit 3) for kernels that are written for GPUs, where the run has a CPU."""
    for need in needs(spec) if cpu else ():
        raise SpecError(
            f"{need.key}: {need.value} is for GPUs, and this run has a CPU; leave it out",
            code="training.kernel_device",
            hint=f"llamahome --batch train start SPEC --set {need.key}=auto",
            data={"errors": [{"key": need.key, "reason": f"{need.value} is for GPUs"}]},
        )
