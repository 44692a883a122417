"""From prepared rows to tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch


class Row(Protocol):
    """A tokenised row: `mask` has a 1 for each token the model shall learn to write."""

    @property
    def ids(self) -> Sequence[int]: ...

    @property
    def mask(self) -> Sequence[int]: ...


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rows padded on the right to the longest. No attention mask: causal attention never looks to the right.

    `positions` are indexes into the flattened (rows x length) hidden states whose next token is trained, `labels`
    those next tokens.
    """

    ids: Any  # int64 [rows, length]
    positions: Any  # int64 [trained]
    labels: Any  # int64 [trained]
    tokens: int  # real tokens, without padding

    @property
    def rows(self) -> int:
        return int(self.ids.shape[0])

    @property
    def length(self) -> int:
        return int(self.ids.shape[1])

    def to(self, device: Any) -> MicroBatch:
        """The same on a device; a CPU batch on a CPU is itself."""
        if device.type == "cpu":
            return self
        ids, positions, labels = (
            t.pin_memory().to(device, non_blocking=True) for t in (self.ids, self.positions, self.labels)
        )
        return MicroBatch(ids, positions, labels, self.tokens)


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
    )
