"""How the rows of an optimiser step lie in micro-batches, and what padding that costs; needs no torch.

Which rows a step holds is a matter of seed and step number alone: no mode changes it, so none changes the loss.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llamahome_tui.training.auto import Micro, steps_per_epoch
from llamahome_tui.training.auto import Mode as Mode


class Order:
    """Which rows each optimiser step sees: a new permutation every epoch, the last step of an epoch may be short."""

    def __init__(self, rows: int, global_batch: int, seed: int) -> None:
        self.rows = rows
        self.global_batch = global_batch
        self.seed = seed
        self.steps_per_epoch = steps_per_epoch(rows, global_batch)
        self._epoch = -1
        self._permutation: list[int] = []

    def rows_of(self, step: int) -> list[int]:
        """Row indexes of step `step`, counted from 0 over all epochs."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, epoch])))
            self._permutation = generator.permutation(self.rows).tolist()
            self._epoch = epoch
        start = position * self.global_batch
        return self._permutation[start : start + self.global_batch]

    def epoch(self, step: int) -> float:
        """Epochs behind a run that has done so many steps."""
        return step / self.steps_per_epoch


def micro_batches(indexes: Sequence[int], lengths: Sequence[int], micro: Micro, mode: Mode) -> list[list[int]]:
    """Rows of one step as micro-batches within the limit; a row that is over it alone is one for itself.

    Sorted and packed begin with the longest row, so that too large a step shows at once. Equal rows give equal
    micro-batches.
    """
    if mode == "plain":
        return _beside(list(indexes), lengths, micro)
    order = sorted(indexes, key=lambda i: (-lengths[i], i))
    if mode == "packed":
        return _behind(order, lengths, micro)
    return _level(order, lengths, micro) if micro.call else _beside(order, lengths, micro)


def _beside(order: Sequence[int], lengths: Sequence[int], micro: Micro) -> list[list[int]]:
    """Rows that lie side by side, each padded to the longest of them."""
    groups: list[list[int]] = []
    longest = 0
    for index in order:
        if groups and micro.fits(len(groups[-1]) + 1, max(longest, lengths[index])):
            groups[-1].append(index)
            longest = max(longest, lengths[index])
        else:
            groups.append([index])
            longest = lengths[index]
    return groups


def _level(order: Sequence[int], lengths: Sequence[int], micro: Micro) -> list[list[int]]:
    """Rows in falling length, cut where tokens with padding, and `micro.call` for each micro-batch, are least."""
    least = [0]  # tokens for the first so many rows
    begin = [0]  # where the last micro-batch of those begins
    for end in range(1, len(order) + 1):
        best, where = -1, end - 1
        for start in range(end - 1, -1, -1):
            longest = int(lengths[order[start]])
            if not micro.fits(end - start, longest):
                break
            tokens = least[start] + (end - start) * longest + micro.call
            if best < 0 or tokens < best:
                best, where = tokens, start
        least.append(best)
        begin.append(where)
    groups: list[list[int]] = []
    end = len(order)
    while end:
        groups.append(list(order[begin[end] : end]))
        end = begin[end]
    return groups[::-1]


def _behind(order: Sequence[int], lengths: Sequence[int], micro: Micro) -> list[list[int]]:
    """Rows that lie behind one another: the longest first, each where it leaves the least room (best fit decreasing).

    A limit in rows stands for so many rows of the longest.
    """
    if not order:
        return []
    limit = micro.limit if micro.unit == "tokens" else micro.limit * lengths[order[0]]
    groups: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # room and number of each group that has any, least room first
    for index in order:
        length = int(lengths[index])
        at = bisect_left(rooms, (length, -1))
        if at < len(rooms):
            room, group = rooms.pop(at)
            groups[group].append(index)
        else:
            room, group = limit, len(groups)
            groups.append([index])
        if room > length:
            insort(rooms, (room - length, group))
    return groups


def padding_share(
    lengths: Sequence[int] | NDArray[np.int64],
    *,
    global_batch: int,
    micro: Micro,
    seed: int,
    mode: Mode,
    multiple: int = 1,
    real: int | None = None,
) -> float:
    """The share of all tokens computed in one epoch that are padding, 0 to 1.

    `multiple` is what micro-batches are padded to: 1 on a CPU, 8 on a GPU. `real` is how many tokens the rows have
    where `lengths` hold more (the two sides of a pair, padded to one another).
    """
    plain = lengths.tolist() if isinstance(lengths, np.ndarray) else list(lengths)
    if not plain:
        return 0.0
    order = Order(len(plain), global_batch, seed)
    computed = sum(
        computed_tokens(group, plain, mode, multiple)
        for step in range(order.steps_per_epoch)
        for group in micro_batches(order.rows_of(step), plain, micro, mode)
    )
    return 1.0 - (sum(plain) if real is None else real) / max(1, computed)


def computed_tokens(group: Sequence[int], lengths: Sequence[int], mode: Mode, multiple: int) -> int:
    """Tokens, padding included, that a micro-batch of these rows goes through the model with."""
    rows = 1 if mode == "packed" else len(group)
    long = sum(lengths[i] for i in group) if mode == "packed" else max(lengths[i] for i in group)
    return rows * -(-long // multiple) * multiple
