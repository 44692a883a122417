"""How many parameters learn, by kind of module: of a model that trains, or of one without weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llamahome_tui.training.trainer.quantised import size_of

_OF_PEFT = ("base_layer", "modules_to_save", "original_module", "base_model", "default")


@dataclass(frozen=True, slots=True)
class Kind:
    """Modules of one name in all layers, as `q_proj`: how many there are, their parameters, and those that learn.

    `parameters` are those of the base; an adapter's count as learning ones of the module that it is on, and so does
    the copy of a module that is trained in full.
    """

    name: str
    modules: int
    parameters: int
    trainable: int


def by_kind(model: Any) -> tuple[Kind, ...]:
    """Every kind of module that has parameters, in the order a token meets them first."""
    modules: dict[str, set[str]] = {}
    sizes: dict[str, list[int]] = {}
    for full, parameter in model.named_parameters():
        place, name, added = _place(full)
        modules.setdefault(name, set()).add(place)
        size = sizes.setdefault(name, [0, 0])
        number = size_of(parameter)
        size[0] += 0 if added else number
        size[1] += number if parameter.requires_grad else 0
    return tuple(Kind(name, len(modules[name]), *sizes[name]) for name in modules)


def as_fields(kinds: tuple[Kind, ...]) -> dict[str, Any]:
    """For an event: all parameters, those that learn, and those by kind where some learn."""
    return {
        "total": sum(kind.parameters for kind in kinds),
        "trainable": sum(kind.trainable for kind in kinds),
        "by_kind": {kind.name: kind.trainable for kind in kinds if kind.trainable},
    }


def _place(full: str) -> tuple[str, str, bool]:
    """Of a parameter's name: where its module stands in the base, what that is called, and whether it was added."""
    added = ".lora_" in full or ".modules_to_save." in full
    whole = full.removeprefix("base_model.model.")
    parts = whole.partition(".lora_")[0].split(".") if ".lora_" in whole else whole.split(".")[:-1]
    parts = [part for part in parts if part not in _OF_PEFT]
    place = ".".join(parts)
    names = [part for part in parts if not part.isdigit()]
    return place, names[-1] if names else whole, added
