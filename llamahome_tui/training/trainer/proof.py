"""Whether another way to compute a model is the same model: loss and gradients of one batch, compared at start-up.

Nothing faster is trusted: whoever brings a kernel, it is used only where this says that it may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from llamahome_tui.training.trainer.batches import MicroBatch, Row, collate
from llamahome_tui.training.trainer.loss import Reader, cross_entropy
from llamahome_tui.training.trainer.model import Trainee

LONGEST = 1024  # tokens of a row it is tried on
SHOWN_VALUES = 1 << 26  # of gradients that are kept for comparison, beside that of the embeddings
# The largest difference of the loss, and of all gradients as a share of their length: what another order of additions
# makes of rounding, and not more.
LOSS = {"fp32": 1e-4, "fp16": 5e-3, "bf16": 1e-2}
GRADIENT = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 5e-2}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model makes of the batch: the mean loss, and gradients by name, float32."""

    loss: float
    gradients: dict[str, Any]


class _Part:
    def __init__(self, row: Row) -> None:
        self.ids = list(row.ids)[:LONGEST]
        self.mask = [1] * len(self.ids)


def batch_of(rows: Sequence[Row], lengths: Sequence[int], *, multiple: int = 1) -> MicroBatch:
    """The longest and a middle row side by side, cut to LONGEST tokens, in which every token counts."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    return collate([_Part(rows[order[at]]) for at in (-1, len(order) // 2)], multiple=multiple)


def answer(trainee: Trainee, read: Reader, batch: MicroBatch) -> Answer:
    """Loss and gradients without dropout; no parameter's `.grad` is touched and no random number is drawn.

    The gradient of the embeddings goes through every layer. Beside it those of what learns, the smallest first: the
    norms, whose gradients nothing else shows.
    """
    seen: list[Any] = []

    def watch(_module: Any, _given: Any, embedded: Any) -> Any:
        seen.append(embedded if embedded.requires_grad else embedded.detach().requires_grad_())
        return seen[-1]

    batch = batch.to(trainee.device)
    chosen = _some(trainee)
    training = trainee.model.training
    trainee.model.eval()
    hook = trainee.base.get_input_embeddings().register_forward_hook(watch)
    try:
        with torch.enable_grad(), trainee.autocast():
            loss = cross_entropy(read(batch)) / max(1, len(batch.labels))
        found = torch.autograd.grad(loss, [seen[0], *chosen.values()], allow_unused=True)
    finally:
        hook.remove()
        trainee.model.train(training)
    named = zip(["the embeddings", *chosen], found, strict=True)
    return Answer(float(loss.detach()), {name: one.float() for name, one in named if one is not None})


def difference(found: Answer, wanted: Answer, precision: str) -> str:
    """How another way differs from the plain one by more than rounding, or "" where it does not."""
    off = abs(found.loss - wanted.loss) / max(abs(wanted.loss), 1e-12)
    if not off <= LOSS[precision]:  # so written, a NaN is a difference
        return f"its loss is off by {off:.2g} of itself, where {LOSS[precision]:.2g} may be rounding"
    if found.gradients.keys() != wanted.gradients.keys():
        lost = sorted(found.gradients.keys() ^ wanted.gradients.keys())
        return f"not the same parameters have a gradient: {lost[0]}"
    apart = 0.0
    for name, mine in found.gradients.items():
        theirs = wanted.gradients[name]
        length = theirs.norm()
        # Of a gradient that is next to nothing the rounding is all there is.
        floor = 1e-6 * wanted.gradients["the embeddings"].norm()
        apart = float((mine - theirs).norm() / torch.maximum(length, floor).clamp_min(1e-30))
        if not apart <= GRADIENT[precision]:
            return (
                f"its gradient of {name} is off by {apart:.2g} of its length, "
                f"where {GRADIENT[precision]:.2g} may be rounding"
            )
    return ""


def _some(trainee: Trainee) -> dict[str, Any]:
    learning = [(name, one) for name, one in trainee.model.named_parameters() if one.requires_grad]
    chosen, values = {}, 0
    for name, one in sorted(learning, key=lambda pair: pair[1].numel()):
        values += one.numel()
        if values > SHOWN_VALUES:
            break
        chosen[name] = one
    return chosen
