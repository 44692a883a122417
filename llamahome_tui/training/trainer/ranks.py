"""Processes that take one optimiser step together: what they exchange comes out the same in all of them.

Everything goes through gloo and host memory, also between GPUs: a process that is gone shows at once, and there is one
way for everything. The first rank decides; the others do what it tells them, one small message for each step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed

HALT = "halt"  # the key in the store by which the first rank ends what all are at


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among `size`. One alone exchanges nothing; more need a process group that stands already.

    `store` is what all can look into while they work; `check` raises where another rank is known to be gone. Orders
    have a group of their own, because nobody knows how long the next one takes to come.
    """

    rank: int = 0
    size: int = 1
    store: Any = None
    check: Callable[[], None] = lambda: None
    orders: Any = None

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
            flat = torch.cat([had.to(pieces[0].device), *(piece.float().flatten() for piece in pieces)]).cpu()
            distributed.all_reduce(flat)
            start = len(parameters)
            for one, any_had in zip(parameters, flat[:start].tolist(), strict=True):
                if any_had:
                    one.grad = flat[start : start + one.numel()].view_as(one).to(one.device, one.dtype)
                start += one.numel()

    def sum_by_name(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sums over all ranks, where a rank without rows of the step names nothing."""
        if self.size == 1:
            return dict(values)
        each = self.gather(dict(values))
        names = dict.fromkeys(name for one in each for name in one)
        return {name: sum(one.get(name, 0.0) for one in each) for name in names}

    def gather(self, value: Any) -> list[Any]:
        """What each rank brings, in the order of ranks, for all of them."""
        each = [value]
        if self.size > 1:
            each = [None] * self.size
            distributed.all_gather_object(each, value)
        return each

    def tell(self, *order: Any) -> None:
        """What the others, who wait in `told`, shall do next together with the first rank; nothing: leave."""
        if self.size > 1:
            distributed.broadcast_object_list([order], src=0, group=self.orders)

    def told(self) -> Any:
        """The same for the others, who wait for it."""
        box: list[Any] = [None]
        distributed.broadcast_object_list(box, src=0, group=self.orders)
        return box[0]

    def align(self, parameters: Sequence[Any]) -> None:
        """Give every rank the first one's values."""
        if self.size == 1:
            return
        with torch.no_grad():
            for one in parameters:
                values = one.detach().cpu().contiguous()
                distributed.broadcast(values, src=0)
                one.copy_(values)

    def halt(self) -> None:
        """End what all ranks are at (an evaluation), each as soon as it looks; until `go_on`."""
        if self.size > 1:
            self.store.set(HALT, "1")

    @property
    def halted(self) -> bool:
        """Whether the first rank wants that."""
        return self.size > 1 and bool(self.store.check([HALT]))

    def go_on(self) -> None:
        """Once all have ended it."""
        if self.size > 1 and self.rank == 0:
            self.store.delete_key(HALT)


ALONE = Ranks()
