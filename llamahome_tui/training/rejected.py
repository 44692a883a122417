"""What servers of models reject of what a spec would train, said before it is trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from llamahome_tui.training.shape import Spec

VLLM_RANK: Final = 16  # the largest rank that vLLM takes unless it is started with --max-lora-rank


def rejected(spec: Spec) -> Iterator[str]:
    """A sentence for each; a full fine-tune is served like any model."""
    if not spec.lora.enabled:
        return
    if spec.lora.r > VLLM_RANK:
        yield (
            f"lora.r: vLLM takes ranks up to {VLLM_RANK} by default: serve with --max-lora-rank {spec.lora.r}, "
            "or merge the adapter"
        )
    if spec.lora.variant == "dora":
        yield "lora.variant: vLLM does not take DoRA adapters: merge it to serve it"
    if spec.lora.train_also:
        yield "lora.train_also: vLLM does not take adapters that bring whole modules: merge it to serve it"
