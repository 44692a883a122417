"""Processes that take one optimiser step together: what they exchange comes out the same in all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among `size`. One alone exchanges nothing; more need a process group that stands already."""

    rank: int = 0
    size: int = 1

    def share(self, indexes: Sequence[int], lengths: Sequence[int]) -> list[int]:
        """This rank's rows of a step, in the step's order: about as many tokens for each, by dealing to and fro."""
        if self.size == 1:
            return list(indexes)
        falling = sorted(range(len(indexes)), key=lambda at: (-lengths[indexes[at]], at))
        mine = [at for turn, at in enumerate(falling) if self._turn(turn) == self.rank]
        return [indexes[at] for at in sorted(mine)]

    def _turn(self, turn: int) -> int:
        round_, place = divmod(turn, self.size)
        return place if round_ % 2 == 0 else self.size - 1 - place

    def sum_gradients(self, parameters: Sequence[Any]) -> None:
        """Give every rank the sum of all ranks' gradients; what none of them has a gradient for stays without one."""
        if self.size == 1:
            return
        with torch.no_grad():
            pieces = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
            had = torch.tensor([one.grad is not None for one in parameters], dtype=torch.float32)
            flat = torch.cat([had.to(pieces[0].device), *(piece.float().flatten() for piece in pieces)])
            distributed.all_reduce(flat)
            start = len(parameters)
            for one, any_had in zip(parameters, flat[:start].tolist(), strict=True):
                if any_had:
                    one.grad = flat[start : start + one.numel()].view_as(one).to(one.dtype)
                start += one.numel()

    def sum(self, value: Any) -> Any:
        """The sum of a tensor over all ranks; a plain 0 counts as one."""
        if self.size == 1:
            return value
        summed = torch.as_tensor(value, dtype=torch.float32).clone()
        distributed.all_reduce(summed)
        return summed

    def sum_by_name(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sums over all ranks, where a rank without rows of the step names nothing."""
        if self.size == 1:
            return dict(values)
        each: list[Any] = [None] * self.size
        distributed.all_gather_object(each, dict(values))
        names = dict.fromkeys(name for one in each for name in one)
        return {name: sum(one.get(name, 0.0) for one in each) for name in names}


ALONE = Ranks()
