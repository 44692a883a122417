"""Summed cross-entropy over the trained tokens only; logits exist for a chunk of positions at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from llamahome_tui.training.trainer.batches import MicroBatch

CHUNK_LOGITS = {"cpu": 2**23, "cuda": 2**26}  # values per chunk: 32 MiB and 256 MiB in float32

Loss = Callable[[MicroBatch], Any]


def loss_of(model: Any, base: Any, sample: MicroBatch, autocast: Callable[[], Any]) -> tuple[Loss, bool]:
    """A function from a micro-batch to its summed loss (float32 scalar), and whether it works in chunks.

    Chunks put hidden states through the output layer alone, which is right only where a model's logits are exactly
    that. Models that scale or cap their logits are noticed by comparing both ways on `sample`, with logits blown up
    so far that a cap must bite; they take the whole way.
    """
    chunked, whole = _chunked(base), _whole(model)
    head = base.get_output_embeddings()
    if not isinstance(getattr(head, "weight", None), torch.Tensor):
        return whole, False
    louder: list[Any] = []

    def blow_up(_head: Any, _hidden: Any, logits: Any) -> Any:
        if not louder:
            louder.append(60.0 / logits.abs().amax().clamp_min(1e-6))
        return logits * louder[0]

    hook = head.register_forward_hook(blow_up)
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), autocast():
            expected = whole(sample)
            same = torch.allclose(chunked(sample), expected, rtol=0.02)
    except (AttributeError, TypeError):
        same = False  # no plain decoder that gives hidden states
    finally:
        hook.remove()
        model.train(training)
    return (chunked, True) if same else (whole, False)


def _chunked(base: Any) -> Loss:
    def loss(batch: MicroBatch) -> Any:
        hidden = base.base_model(input_ids=batch.ids, use_cache=False, **batch.seams).last_hidden_state
        hidden = hidden.flatten(0, 1).index_select(0, batch.positions)
        return cross_entropy(hidden, batch.labels, base.get_output_embeddings())

    return loss


def _whole(model: Any) -> Loss:
    def loss(batch: MicroBatch) -> Any:
        logits = model(input_ids=batch.ids, use_cache=False, **batch.seams).logits
        logits = logits.flatten(0, 1).index_select(0, batch.positions)
        return functional.cross_entropy(logits.float(), batch.labels, reduction="sum")

    return loss


def cross_entropy(hidden: Any, labels: Any, head: Any, chunk: int = 0) -> Any:
    """Summed cross-entropy of `head(hidden)` against `labels`, with gradients for hidden states and the head.

    `hidden` is [positions, width], `labels` [positions]. Takes `chunk` positions at a time (0: what suits the device).
    """
    vocabulary = int(head.weight.shape[0])
    chunk = chunk or max(1, CHUNK_LOGITS.get(hidden.device.type, 2**26) // vocabulary)
    if not torch.is_grad_enabled() or hidden.shape[0] <= chunk:
        parts = zip(hidden.split(chunk), labels.split(chunk), strict=True)
        return sum((_part(head, h, t) for h, t in parts), start=hidden.new_zeros((), dtype=torch.float32))
    weights = [p for p in head.parameters() if p.requires_grad]
    return _Chunked.apply(hidden, labels, head, chunk, *weights)


def _part(head: Any, hidden: Any, labels: Any) -> Any:
    return functional.cross_entropy(head(hidden).float(), labels, reduction="sum")


class _Chunked(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    """Takes each chunk's gradient right after its loss, so that its logits can go before the next chunk's come."""

    @staticmethod
    def forward(context: Any, hidden: Any, labels: Any, head: Any, chunk: int, *weights: Any) -> Any:
        total = hidden.new_zeros((), dtype=torch.float32)
        to_hidden = []
        to_weights = [torch.zeros_like(w) for w in weights]
        for part, target in zip(hidden.split(chunk), labels.split(chunk), strict=True):
            leaf = part.detach().requires_grad_()
            with torch.enable_grad():
                loss = _part(head, leaf, target)
            gradient, *more = torch.autograd.grad(loss, (leaf, *weights))
            to_hidden.append(gradient)
            for so_far, new in zip(to_weights, more, strict=True):
                so_far += new
            total += loss.detach()
        context.save_for_backward(torch.cat(to_hidden), *to_weights)
        return total

    @staticmethod
    def backward(context: Any, upstream: Any) -> Any:
        to_hidden, *to_weights = context.saved_tensors
        return (
            (to_hidden * upstream).to(to_hidden.dtype),
            None,
            None,
            None,
            *((w * upstream).to(w.dtype) for w in to_weights),
        )
