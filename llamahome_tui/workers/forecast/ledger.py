"""Counts the bytes of every tensor storage that is alive while operations run, and keeps the moment of the most."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Kind = Literal["activations", "logits", "workspace", "gradients"]
# Operations that make a tensor of their input's size inside of themselves, on CPUs and GPUs alike, and give it back.
_COPYING = frozenset({torch.ops.aten.logsumexp.default})


@dataclass(slots=True)
class _Held:
    bytes: int
    kind: Kind


class Ledger(TorchDispatchMode):  # type: ignore[misc]  # torch is untyped here
    """What is made inside of it, in bytes, by kind: logits by their last dimension, the rest by `phase`.

    A storage counts from the operation that made it until nothing refers to it any more; views count once. `peaks` has
    for each phase how the most of them together was made up.
    """

    def __init__(self, vocabulary: int, outside: Iterable[Any]) -> None:
        super().__init__()
        self.phase: Kind = "activations"
        self.peaks: dict[Kind, dict[Kind, int]] = {}
        self._now: dict[Kind, int] = dict.fromkeys(("activations", "logits", "workspace", "gradients"), 0)
        self._most: dict[Kind, int] = {}
        self._total = 0
        self._vocabulary = vocabulary
        self._held: dict[int, _Held] = {}
        # Weights are there before and after, and are counted elsewhere.
        self._outside = {_key(tensor) for tensor in outside}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        if function in _COPYING:
            self._add(torch.empty_like(args[0]))
        for one in out if isinstance(out, list | tuple) else (out,):
            if isinstance(one, torch.Tensor):
                self._add(one)
        return out

    def is_gradient(self, tensor: Any) -> None:
        """From now on this tensor's bytes are those of a gradient, which stays until the step is over."""
        held = self._held.get(_key(tensor))
        if held is not None and held.kind != "gradients":
            self._now[held.kind] -= held.bytes
            self._now["gradients"] += held.bytes
            held.kind = "gradients"

    def _add(self, tensor: Any) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._held or key in self._outside:
            return
        kind = "logits" if tensor.ndim >= 2 and tensor.shape[-1] == self._vocabulary else self.phase
        held = self._held[key] = _Held(storage.nbytes(), kind)
        weakref.finalize(storage, self._gone, key)
        self._now[kind] += held.bytes
        self._total += held.bytes
        if self._total > self._most.get(self.phase, 0):
            self._most[self.phase] = self._total
            self.peaks[self.phase] = dict(self._now)

    def _gone(self, key: int) -> None:
        held = self._held.pop(key)
        self._now[held.kind] -= held.bytes
        self._total -= held.bytes


def _key(tensor: Any) -> int:
    return int(tensor.untyped_storage()._cdata)
