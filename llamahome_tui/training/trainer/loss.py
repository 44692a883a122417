"""What a model makes of the trained tokens, and of no others; logits exist for a chunk of positions at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from llamahome_tui.training.trainer.batches import MicroBatch

CHUNK_LOGITS = {"cpu": 2**23, "cuda": 2**26}  # values per chunk: 32 MiB and 256 MiB in float32


@dataclass(frozen=True, slots=True)
class States:
    """A model's states where a token is trained, [trained, width]; `head` makes logits of them (None: they are)."""

    values: Any
    labels: Any  # int64 [trained]: the tokens to predict
    head: Any | None

    @property
    def chunk(self) -> int:
        """Positions whose logits may exist at a time."""
        vocabulary = int(self.values.shape[-1] if self.head is None else self.head.weight.shape[0])
        return max(1, CHUNK_LOGITS.get(self.values.device.type, 2**26) // vocabulary)


Reader = Callable[[MicroBatch], States]


def reader_of(model: Any, base: Any, sample: MicroBatch, autocast: Callable[[], Any]) -> tuple[Reader, bool]:
    """A function from a micro-batch to its states, and whether these are hidden ones, so that logits come in chunks.

    Chunks put hidden states through the output layer alone, which is right only where a model's logits are exactly
    that. Models that scale or cap their logits are noticed by comparing both ways on `sample`, with logits blown up
    so far that a cap must bite; they take the whole way.
    """
    chunked, whole = reader(model, base, hidden=True), reader(model, base, hidden=False)
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
            expected = cross_entropy(whole(sample))
            same = torch.allclose(cross_entropy(chunked(sample)), expected, rtol=0.02)
    except (AttributeError, TypeError):
        same = False  # no plain decoder that gives hidden states
    finally:
        hook.remove()
        model.train(training)
    return (chunked, True) if same else (whole, False)


def reader(model: Any, base: Any, *, hidden: bool, through: Callable[[Any], Any] | None = None) -> Reader:
    """A function from a micro-batch to hidden states, or to logits; `through` makes another call of the model's."""
    if hidden:
        return _hidden(base, through(base.base_model) if through else None)
    return _logits(through(model) if through else model)


def _hidden(base: Any, run: Any) -> Reader:
    def read(batch: MicroBatch) -> States:
        hidden = (base.base_model if run is None else run)(
            input_ids=batch.ids, use_cache=False, **batch.seams
        ).last_hidden_state
        return States(hidden.flatten(0, 1).index_select(0, batch.positions), batch.labels, base.get_output_embeddings())

    return read


def _logits(model: Any) -> Reader:
    def read(batch: MicroBatch) -> States:
        logits = model(input_ids=batch.ids, use_cache=False, **batch.seams).logits
        return States(logits.flatten(0, 1).index_select(0, batch.positions), batch.labels, None)

    return read


def cross_entropy(states: States, *, smoothing: float = 0.0, chunk: int = 0) -> Any:
    """Summed cross-entropy of the labels (float32 scalar), with gradients for the states and the head.

    `smoothing` is the share of each label that is spread evenly over the vocabulary (Szegedy et al. 2016, section 7).
    Takes `chunk` positions at a time (0: what suits the device).
    """
    values, labels, head = states.values, states.labels, states.head
    if head is None:
        return _entropy(None, values, labels, smoothing)
    chunk = chunk or states.chunk
    if not torch.is_grad_enabled():
        parts = zip(values.split(chunk), labels.split(chunk), strict=True)
        zero = values.new_zeros((), dtype=torch.float32)
        return sum((_entropy(head, v, t, smoothing) for v, t in parts), start=zero)
    weights = [p for p in head.parameters() if p.requires_grad]
    return _Chunked.apply(values, labels, head, chunk, smoothing, *weights)


def log_probabilities(states: States, *, chunk: int = 0) -> Any:
    """The log-probability of each label, float32 [trained], with gradients for the states and the head.

    What a token's gradient is weighted with is known only once all of them are, so that the logits of a chunk are let
    go and made again in the backward pass.
    """
    values, labels, head = states.values, states.labels, states.head
    chunk = chunk or states.chunk
    if head is None or not torch.is_grad_enabled() or values.shape[0] <= chunk:
        size = max(1, values.shape[0]) if head is None else chunk
        parts = zip(values.split(size), labels.split(size), strict=True)
        return torch.cat([_each(head, v, t) for v, t in parts])
    draws = any(isinstance(one, torch.nn.Dropout) and one.p > 0 for one in head.modules())
    return torch.cat(
        [
            checkpoint(_each, head, v, t, use_reentrant=False, preserve_rng_state=draws, determinism_check="none")
            for v, t in zip(values.split(chunk), labels.split(chunk), strict=True)
        ]
    )


def judged(states: States, *, chunk: int = 0) -> tuple[Any, Any]:
    """Summed cross-entropy, and how many labels the model finds likeliest; no gradients."""
    chunk = chunk or states.chunk
    entropy = states.values.new_zeros((), dtype=torch.float32)
    right = states.values.new_zeros((), dtype=torch.int64)
    with torch.no_grad():
        for values, labels in zip(states.values.split(chunk), states.labels.split(chunk), strict=True):
            logits = _scores(states.head, values)
            entropy = entropy + functional.cross_entropy(logits, labels, reduction="sum")
            right = right + (logits.argmax(-1) == labels).sum()
    return entropy, right


def _scores(head: Any | None, values: Any) -> Any:
    return (values if head is None else head(values)).float()


def _entropy(head: Any | None, values: Any, labels: Any, smoothing: float) -> Any:
    logits = _scores(head, values)
    return functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)


def _each(head: Any | None, values: Any, labels: Any) -> Any:
    return -functional.cross_entropy(_scores(head, values), labels, reduction="none")


def _slope(logits: Any, labels: Any, smoothing: float) -> tuple[Any, Any]:
    """Summed cross-entropy of logits and its gradient, softmax - target, which takes the logits' place in memory."""
    each = logits.logsumexp(-1)
    told = logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    loss = (each - told).sum()
    if smoothing:
        loss = (1 - smoothing) * loss + smoothing * (each - logits.mean(-1)).sum()
    slope = logits.sub_(each.unsqueeze(-1)).exp_()
    if smoothing:
        slope -= smoothing / slope.shape[-1]
    slope.scatter_add_(-1, labels.unsqueeze(-1), (each.new_full((), smoothing - 1.0)).expand(len(labels), 1))
    return loss, slope


class _Chunked(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    """Takes each chunk's gradient right after its loss, so that its logits can go before the next chunk's come."""

    @staticmethod
    def forward(context: Any, hidden: Any, labels: Any, head: Any, chunk: int, smoothing: float, *weights: Any) -> Any:
        total = hidden.new_zeros((), dtype=torch.float32)
        # Whatever stays is made before the first chunk: a gradient that lay in the memory a chunk has left would leave
        # too little of it for the next one's logits, and the process would grow by a chunk for each.
        to_hidden = torch.empty_like(hidden)
        to_weights = [torch.zeros_like(w) for w in weights]
        for part, target, kept in zip(hidden.split(chunk), labels.split(chunk), to_hidden.split(chunk), strict=True):
            leaf = part.detach().requires_grad_()
            with torch.enable_grad():
                logits = _scores(head, leaf)
            loss, slope = _slope(logits.detach(), target, smoothing)
            gradient, *more = torch.autograd.grad(logits, (leaf, *weights), slope)
            kept.copy_(gradient)
            for so_far, new in zip(to_weights, more, strict=True):
                so_far += new
            total += loss
            del logits, slope
        context.save_for_backward(to_hidden, *to_weights)
        return total

    @staticmethod
    def backward(context: Any, upstream: Any) -> Any:
        to_hidden, *to_weights = context.saved_tensors
        return (
            (to_hidden * upstream).to(to_hidden.dtype),
            None,
            None,
            None,
            None,
            *((w * upstream).to(w.dtype) for w in to_weights),
        )
