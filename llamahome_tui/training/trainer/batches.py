"""From prepared rows to tensors: beside one another with padding, or behind one another with seams."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, overload

import numpy as np
import torch

from llamahome_tui.training.auto import Micro, Mode
from llamahome_tui.training.layout import micro_batches

# How a model is told where rows begin in a packed sequence: by positions that start again at 0, or by these and by
# the bounds that linear attention and variable-length kernels take.
Seams = Literal["positions", "bounds"]
CONTEXT = 2  # in a mask, of a token whose probability an objective asks for though it is no answer's


class Row(Protocol):
    """A tokenised sequence: `mask` has a 1 for each token the model shall learn to write."""

    @property
    def ids(self) -> Sequence[int]: ...

    @property
    def mask(self) -> Sequence[int]: ...


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Sequences as one block of ids. No attention mask: causal attention never looks right, where the padding is.

    `positions` are indexes into the flattened (sequences x length) hidden states whose next token is trained, `labels`
    those next tokens, `owners` the sequences they belong to.
    """

    ids: Any  # int64 [sequences, length]; packed [1, length]
    positions: Any  # int64 [trained]
    labels: Any  # int64 [trained]
    tokens: int  # real tokens, without padding
    rows: int  # of the data: a pair is one, of two sequences
    seams: Mapping[str, Any] = field(default_factory=dict)  # what the model is called with beside the ids
    owners: Any = None  # int64 [trained]
    answers: Any = None  # bool [trained]: not only context (a mask of CONTEXT)
    sequences: int = 0
    verdicts: Any = None  # bool [rows], where rows have one

    @property
    def length(self) -> int:
        """Tokens from one end of the block to the other."""
        return int(self.ids.shape[1])

    @property
    def shown(self) -> str:
        """Its shape for a person, who adds the word tokens."""
        if self.sequences == self.ids.shape[0]:
            return f"{self.sequences} x {self.length}"
        return f"{self.rows} rows with {self.length}"

    @property
    def width(self) -> int:
        """Sequences that a row has."""
        return self.sequences // max(1, self.rows)

    @property
    def computed(self) -> int:
        """Tokens with padding."""
        return int(self.ids.numel())

    def to(self, device: Any) -> MicroBatch:
        """The same on a device; a CPU batch on a CPU is itself."""
        if device.type == "cpu":
            return self

        return self._each(lambda value: value.pin_memory().to(device, non_blocking=True))

    def pinned(self, device: Any) -> MicroBatch:
        """The same in memory that a GPU copies from by itself; for a CPU it is as it was."""
        return self if device.type == "cpu" else self._each(lambda value: value.pin_memory())

    def _each(self, change: Callable[[Any], Any]) -> MicroBatch:
        def moved(value: Any) -> Any:
            return change(value) if isinstance(value, torch.Tensor) else value

        return replace(
            self,
            ids=moved(self.ids),
            positions=moved(self.positions),
            labels=moved(self.labels),
            seams={name: moved(value) for name, value in self.seams.items()},
            owners=moved(self.owners),
            answers=moved(self.answers),
            verdicts=moved(self.verdicts),
        )


@dataclass(frozen=True, slots=True)
class Item:
    """A row of the data: its sequences (of a pair the chosen one first), and the verdict on it where it has one."""

    sequences: tuple[Row, ...]
    good: bool = True

    @property
    def trained(self) -> int:
        """Tokens of its sequences that the loss counts."""
        return sum(map(trained_tokens, self.sequences))


class Prepared(Protocol):
    """Prepared data: what `data/examples.py` opens."""

    def __len__(self) -> int: ...
    def sequences(self, index: int) -> tuple[Row, ...]: ...
    @property
    def lengths(self) -> Any: ...
    @property
    def longest(self) -> Any: ...
    @property
    def good(self) -> Any: ...


class Items(Sequence[Item]):
    """All rows of the data, each made when it is asked for, and how many tokens they have."""

    def __init__(
        self,
        sequences: Callable[[int], tuple[Row, ...]],
        tokens: Sequence[int],
        filled: Sequence[int],
        good: Sequence[bool] = (),
    ) -> None:
        self._sequences = sequences
        self._good = good
        self.tokens = tokens  # of each row, in all its sequences
        self.filled = filled  # of each row, where its sequences lie side by side, padded to the longest of them

    @classmethod
    def of(cls, data: Prepared) -> Items:
        """The rows of prepared data."""
        width = len(data.sequences(0)) if len(data) else 1
        tokens = data.lengths.tolist()
        filled = tokens if width == 1 else (width * data.longest).tolist()
        return cls(data.sequences, tokens, filled, data.good.tolist())

    @classmethod
    def made(cls, items: Sequence[Item]) -> Items:
        """Rows that are made already."""
        lengths = [[len(one.ids) for one in item.sequences] for item in items]
        return cls(
            lambda index: items[index].sequences,
            [sum(each) for each in lengths],
            [len(each) * max(each) for each in lengths],
            [item.good for item in items],
        )

    def __len__(self) -> int:
        return len(self.tokens)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return Item(self._sequences(index), self._good[index] if self._good else True)


@dataclass(frozen=True, slots=True)
class Batching:
    """How the rows of a step become micro-batches; `seams` counts where they are packed."""

    mode: Mode
    seams: Seams = "positions"
    multiple: int = 1  # of tokens that each length is padded to

    def groups(self, indexes: Sequence[int], lengths: Sequence[int], micro: Micro) -> list[list[int]]:
        """Rows by micro-batch, in the order they are computed."""
        return micro_batches(indexes, lengths, micro, self.mode)

    def room(self, items: Items) -> Sequence[int]:
        """What each item takes of a micro-batch's limit in tokens: what it has, or what it fills side by side."""
        return items.tokens if self.mode == "packed" else items.filled

    def batch(self, sequences: Sequence[Row], rows: int = 0) -> MicroBatch:
        """A group as tensors; `rows` is how many rows these sequences are, 0: as many."""
        if self.mode == "packed":
            made = pack(sequences, self.seams, multiple=self.multiple)
        else:
            made = collate(sequences, multiple=self.multiple)
        return replace(made, rows=rows) if rows else made

    def smaller(self, micro: Micro, batch: MicroBatch) -> Micro:
        """The limit after this batch, of several rows, did not fit in memory."""
        if self.mode == "packed":
            return replace(micro, unit="tokens", limit=max(1, batch.tokens // 2))
        return micro.halved(batch.rows, batch.width * batch.length)

    def evaluating(self) -> Batching:
        """The same for evaluation, whose rows have no order that anybody asked for."""
        return replace(self, mode="sorted") if self.mode == "plain" else self


def trained_tokens(row: Row) -> int:
    """Tokens of a sequence that the loss counts; the first one has nothing before it that could predict it."""
    return int(np.count_nonzero(np.asarray(row.mask)[1:]))


def collate(rows: Sequence[Row], *, multiple: int = 1) -> MicroBatch:
    """Pad sequences on the right to a common length (a multiple of `multiple`) and find what is trained in them."""
    lengths = [len(row.ids) for row in rows]
    length = -(-max(lengths) // multiple) * multiple
    ids = np.zeros((len(rows), length), dtype=np.int64)
    mask = np.zeros((len(rows), length), dtype=np.uint8)
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
        owners=torch.from_numpy(where),
        answers=torch.from_numpy(mask[where, next_token + 1] != CONTEXT),
        sequences=len(rows),
    )


def pack(rows: Sequence[Row], seams: Seams, *, multiple: int = 1) -> MicroBatch:
    """Lay sequences behind one another; positions start again with each, and none predicts the next one's tokens.

    Padding up to a multiple of `multiple` is a row of its own, in which nothing is trained.
    """
    lengths = [len(row.ids) for row in rows]
    tokens = sum(lengths)
    padding = -tokens % multiple
    ids = np.zeros(tokens + padding, dtype=np.int64)
    mask = np.zeros(tokens + padding, dtype=np.uint8)
    spans = [*lengths, padding] if padding else lengths
    bounds = np.concatenate(([0], np.cumsum(spans)))
    for row, start, end in zip(rows, bounds, bounds[1:], strict=False):
        ids[start:end] = row.ids
        mask[start:end] = row.mask
    mask[bounds[:-1]] = 0  # a row's first token has nothing before it that could predict it
    trained = np.flatnonzero(mask)
    owners = np.repeat(np.arange(len(spans)), spans)
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
            "seq_idx": torch.from_numpy(owners.astype(np.int32)).unsqueeze(0),
        }
    return MicroBatch(
        ids=torch.from_numpy(ids).unsqueeze(0),
        positions=torch.from_numpy(trained - 1),
        labels=torch.from_numpy(ids[trained]),
        tokens=tokens,
        rows=len(rows),
        seams=told,
        owners=torch.from_numpy(owners[trained]),
        answers=torch.from_numpy(mask[trained] != CONTEXT),
        sequences=len(rows),
    )
