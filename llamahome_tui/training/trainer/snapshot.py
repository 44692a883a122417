"""What a checkpoint holds, as it was at one moment: a copy of it may be written while training goes on."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from llamahome_tui.training.trainer import optim, rng
from llamahome_tui.training.trainer.adapter import ADAPTER, ADAPTER_WEIGHTS
from llamahome_tui.training.trainer.model import Trainee

STATE = "trainer.pt"  # optimizer, scaler, random number generators
COUNTERS = "counters.json"  # counters, surroundings, spec, data hashes
OF_A_TENSOR = 512  # bytes beside its values, in a file's index and padding


@dataclass(frozen=True, slots=True)
class Weights:
    """What a run trains: the adapter's tensors with its configuration, or the whole model's."""

    tensors: Mapping[str, Any]
    config: Any  # of the adapter; None: the whole model
    base: Any

    def write(self, into: Path) -> None:
        """The adapter in PEFT form, or the whole model in transformers form."""
        from safetensors.torch import save

        if self.config is None:
            self.base.save_pretrained(into, state_dict=dict(self.tensors))
            return
        apart = _apart({name: tensor.cpu().contiguous() for name, tensor in self.tensors.items()})
        (into / ADAPTER_WEIGHTS).write_bytes(save(apart, metadata={"format": "pt"}))
        self.config.save_pretrained(str(into))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a run goes on from. As `take` gives it, it holds the tensors that training changes."""

    weights: Weights
    state: Mapping[str, Any]
    counters: str

    @property
    def bytes(self) -> int:
        """What it takes on disk, or a little more."""
        tensors = _tensors((self.weights.tensors, self.state))
        sizes: dict[Any, int] = {_place(tensor): tensor.nbytes + OF_A_TENSOR for tensor in tensors}
        return sum(sizes.values()) + len(self.counters)

    def copied(self) -> Snapshot:
        """The same in main memory of its own, so that nothing changes it any more."""
        made: dict[Any, Any] = {}
        weights = replace(self.weights, tensors=_copied(self.weights.tensors, made))
        return replace(self, weights=weights, state=_copied(self.state, made))

    def write(self, into: Path) -> None:
        """All files of a checkpoint but the one that says that it is complete."""
        self.weights.write(into)
        with (into / STATE).open("wb") as file:
            torch.save(dict(self.state), file)
        (into / COUNTERS).write_text(self.counters, encoding="utf-8")


def take(
    trainee: Trainee, optimizer: Any, scaler: Any, notes: Mapping[str, Any], others: Sequence[Mapping[str, Any]] = ()
) -> Snapshot:
    """The run as it is now. `others` are the random number generators of the ranks after the first."""
    state = {
        "optimizer": optim.state_of(optimizer, trainee.model),
        "scaler": scaler.state_dict() if scaler else {},
        "rng": rng.snapshot(),
        "others": list(others),
    }
    return Snapshot(weights_of(trainee), state, json.dumps(notes))


def weights_of(trainee: Trainee) -> Weights:
    """The weights that a run trains, as they are now."""
    from peft import get_peft_model_state_dict

    if not trainee.lora:
        return Weights(trainee.base.state_dict(), None, trainee.base)
    found = get_peft_model_state_dict(trainee.model, adapter_name=ADAPTER)
    config = copy.copy(trainee.model.peft_config[ADAPTER])
    config.inference_mode = True
    return Weights({name: tensor.detach() for name, tensor in found.items()}, config, trainee.base)


def _tensors(value: Any) -> Iterator[Any]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)


def _copied(value: Any, made: dict[Any, Any]) -> Any:
    """A copy down to the tensors; those that are one in memory (tied weights) stay one, as writers look for that."""
    if isinstance(value, torch.Tensor):
        place = _place(value)
        if place not in made:
            made[place] = value.detach().to("cpu", copy=True)
        return made[place]
    if isinstance(value, Mapping):
        return {key: _copied(each, made) for key, each in value.items()}
    if isinstance(value, list | tuple):
        copies = [_copied(each, made) for each in value]
        return copies if isinstance(value, list) else tuple(copies)
    return value


def _place(tensor: Any) -> Any:
    """The same for two tensors that are one in memory."""
    if not tensor.numel():
        return id(tensor)
    return tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def _apart(weights: Mapping[str, Any]) -> dict[str, Any]:
    """The same, with a copy of each tensor that has another name already: a file has no tied tensors."""
    seen: set[int] = set()
    found: dict[str, Any] = {}
    for name, tensor in weights.items():
        found[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    return found
