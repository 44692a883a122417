"""The device that a plan is for: what is free here now, or a GPU that somebody names or gives the memory of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from llamahome_tui.errors import UsageError
from llamahome_tui.training.cards import card_here, card_of
from llamahome_tui.training.forecast import Target
from llamahome_tui.units import human_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llamahome_tui.resources.gpus import Reading

_PATIENCE_S: Final = 3.0
_LEAST: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Room:
    """A device and how many of its bytes a run may have; `here` where it is one of this machine."""

    target: Target
    free_bytes: int
    here: bool


def named(gpu: str | None, memory: int | None) -> Room | None:
    """The device that `--gpu` and `--memory` (bytes) name; None without either.

    Raises NotFoundError for a GPU that nobody knows, UsageError for memory that no run could do with.
    """
    if memory is not None and memory < _LEAST:
        raise UsageError(
            f"--memory: {human_bytes(memory)} is less than any run needs",
            hint="as in: llamahome --batch train plan SPEC --memory 24GiB",
        )
    if gpu is None:
        return None if memory is None else _room(Target("cuda", f"a GPU with {human_bytes(memory)}", memory))
    card = card_of(gpu)
    return _room(Target("cuda", card.name, memory or card.memory_bytes, card.bf16))


def _room(target: Target) -> Room:
    return Room(target, target.memory_bytes, here=False)


def here(candidates: Sequence[str]) -> Room:
    """The first of this machine's devices that a run may have (`jobs.devices.claim`), with what is free."""
    from llamahome_tui.jobs.devices import CPU

    if list(candidates) != [CPU] and (found := _gpu(candidates)) is not None:
        return found
    from llamahome_tui.resources.host import read_memory

    memory = read_memory()
    return Room(Target("cpu", "cpu", memory.total_bytes or 0), memory.available_bytes or 0, here=True)


def _gpu(candidates: Sequence[str]) -> Room | None:
    from llamahome_tui.resources.gpus import GpuReader
    from llamahome_tui.resources.patience import Patience

    asking: Patience[Reading] = Patience(GpuReader().read, "gpus")
    reading = asking.ask(_PATIENCE_S)
    asking.close()
    gpus = {str(gpu.index): gpu for gpu in reading.gpus} if reading is not None else {}
    known = [gpus[name] for name in candidates if name in gpus and gpus[name].memory_total_bytes]
    if not known:
        return None
    best = max(known, key=lambda gpu: (gpu.memory_total_bytes or 0) - (gpu.memory_used_bytes or 0))
    name, total = best.name or "GPU", best.memory_total_bytes or 0
    card = card_here(name)
    target = Target("cuda", name, total, card.bf16 if card else True)
    return Room(target, total - (best.memory_used_bytes or 0), here=True)
