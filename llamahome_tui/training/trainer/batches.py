"""From prepared rows to tensors: beside one another with padding, or behind one another with seams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch

from llamahome_tui.training.auto import Micro, Mode
from llamahome_tui.training.layout import micro_batches

# How a model is told where rows begin in a packed sequence: by positions that start again at 0, or by these and by
# the bounds that linear attention and variable-length kernels take.
Seams = Literal["positions", "bounds"]


class Row(Protocol):
    """A tokenised row: `mask` has a 1 for each token the model shall learn to write."""

    @property
    def ids(self) -> Sequence[int]: ...

    @property
    def mask(self) -> Sequence[int]: ...


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rows as one block of ids. No attention mask: causal attention never looks to the right, where the padding is.

    `positions` are indexes into the flattened (rows x length) hidden states whose next token is trained, `labels`
    those next tokens.
    """

    ids: Any  # int64 [rows, length]; packed [1, length]
    positions: Any  # int64 [trained]
    labels: Any  # int64 [trained]
    tokens: int  # real tokens, without padding
    rows: int
    seams: Mapping[str, Any] = field(default_factory=dict)  # what the model is called with beside the ids

    @property
    def length(self) -> int:
        """Tokens from one end of the block to the other."""
        return int(self.ids.shape[1])

    @property
    def shown(self) -> str:
        """Its shape for a person, who adds the word tokens."""
        return (
            f"{self.rows} x {self.length}" if self.rows == self.ids.shape[0] else f"{self.rows} rows with {self.length}"
        )

    @property
    def computed(self) -> int:
        """Tokens with padding."""
        return int(self.ids.numel())

    def to(self, device: Any) -> MicroBatch:
        """The same on a device; a CPU batch on a CPU is itself."""
        if device.type == "cpu":
            return self

        def moved(value: Any) -> Any:
            return value.pin_memory().to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value

        return replace(
            self,
            ids=moved(self.ids),
            positions=moved(self.positions),
            labels=moved(self.labels),
            seams={name: moved(value) for name, value in self.seams.items()},
        )


@dataclass(frozen=True, slots=True)
class Batching:
    """How the rows of a step become micro-batches; `seams` counts where they are packed."""

    mode: Mode
    seams: Seams = "positions"
    multiple: int = 1  # of tokens that each length is padded to

    def groups(self, indexes: Sequence[int], lengths: Sequence[int], micro: Micro) -> list[list[int]]:
        """Rows by micro-batch, in the order they are computed."""
        return micro_batches(indexes, lengths, micro, self.mode)

    def batch(self, rows: Sequence[Row]) -> MicroBatch:
        """A group as tensors."""
        if self.mode == "packed":
            return pack(rows, self.seams, multiple=self.multiple)
        return collate(rows, multiple=self.multiple)

    def smaller(self, micro: Micro, batch: MicroBatch) -> Micro:
        """The limit after this batch, of several rows, did not fit in memory."""
        if self.mode == "packed":
            return replace(micro, unit="tokens", limit=max(1, batch.tokens // 2))
        return micro.halved(batch.rows, batch.length)

    def evaluating(self) -> Batching:
        """The same for evaluation, whose rows have no order that anybody asked for."""
        return replace(self, mode="sorted") if self.mode == "plain" else self


def trained_tokens(row: Row) -> int:
    """Tokens of a row that the loss counts; the first one has nothing before it that could predict it."""
    return int(np.count_nonzero(np.asarray(row.mask)[1:]))


def collate(rows: Sequence[Row], *, multiple: int = 1) -> MicroBatch:
    """Pad rows on the right to a common length (a multiple of `multiple`) and find what is trained in them."""
    lengths = [len(row.ids) for row in rows]
    length = -(-max(lengths) // multiple) * multiple
    ids = np.zeros((len(rows), length), dtype=np.int64)
    mask = np.zeros((len(rows), length), dtype=bool)
    for i, row in enumerate(rows):
        ids[i, : lengths[i]] = row.ids
        mask[i, : lengths[i]] = row.mask
    where, next_token = np.nonzero(mask[:, 1:])
    return MicroBatch(
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(where * length + next_token),
        labels=torch.from_numpy(ids[where, next_token + 1]),
        tokens=sum(lengths),
        rows=len(rows),
    )


def pack(rows: Sequence[Row], seams: Seams, *, multiple: int = 1) -> MicroBatch:
    """Lay rows behind one another in one sequence; positions start again with each, and none predicts the next one's.

    Padding up to a multiple of `multiple` is a row of its own, in which nothing is trained.
    """
    lengths = [len(row.ids) for row in rows]
    tokens = sum(lengths)
    padding = -tokens % multiple
    ids = np.zeros(tokens + padding, dtype=np.int64)
    mask = np.zeros(tokens + padding, dtype=bool)
    spans = [*lengths, padding] if padding else lengths
    bounds = np.concatenate(([0], np.cumsum(spans)))
    for row, start, end in zip(rows, bounds, bounds[1:], strict=False):
        ids[start:end] = row.ids
        mask[start:end] = row.mask
    mask[bounds[:-1]] = False  # a row's first token has nothing before it that could predict it
    trained = np.flatnonzero(mask)
    told: dict[str, Any] = {
        "position_ids": torch.from_numpy(np.arange(len(ids)) - np.repeat(bounds[:-1], spans)).unsqueeze(0)
    }
    if seams == "bounds":
        cumulative = torch.from_numpy(bounds.astype(np.int32))
        told |= {
            "cu_seq_lens_q": cumulative,
            "cu_seq_lens_k": cumulative,
            "max_length_q": max(spans),
            "max_length_k": max(spans),
            "seq_idx": torch.from_numpy(np.repeat(np.arange(len(spans), dtype=np.int32), spans)).unsqueeze(0),
        }
    return MicroBatch(
        ids=torch.from_numpy(ids).unsqueeze(0),
        positions=torch.from_numpy(trained - 1),
        labels=torch.from_numpy(ids[trained]),
        tokens=tokens,
        rows=len(rows),
        seams=told,
    )
