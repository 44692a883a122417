"""The optimiser and its learning rates; the rate of a step is computed from the step, never stepped along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from llamahome_tui.errors import ConfigError

BITSANDBYTES = {"adamw_8bit": "AdamW8bit", "paged_adamw_8bit": "PagedAdamW8bit", "lion_8bit": "Lion8bit"}
SCALE = "rate_scale"  # of a parameter group: its learning rate over that of the schedule
BY_NAME = "by_name"  # in a saved state: moments by the parameter's name


def build(name: str, model: Any, rate: float, weight_decay: float, *, plus_ratio: float = 0.0) -> Any:
    """The optimiser `name` over what learns.

    Weight decay spares norms, biases and embeddings. With `plus_ratio` over 0 the B matrices of the adapter learn at
    that many times the rate (LoRA+, Hayou et al. 2024). Raises ConfigError when an 8-bit optimiser is asked for and
    bitsandbytes is not installed.
    """
    groups = groups_of(model, weight_decay, plus_ratio)
    for group in groups:
        group["lr"] = rate * group[SCALE]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=0.9)
    if name in BITSANDBYTES:
        return _eight_bit(name, model, groups, rate)
    return torch.optim.AdamW(groups, lr=rate, fused=True)


def groups_of(model: Any, weight_decay: float, plus_ratio: float = 0.0) -> list[dict[str, Any]]:
    """What learns, by weight decay and learning rate; empty groups are left out."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    groups: dict[tuple[bool, bool], dict[str, Any]] = {}
    for decays in (True, False):
        for plus in (False, True):
            scale = plus_ratio if plus and plus_ratio > 0 else 1.0
            groups[decays, plus] = {"params": [], "weight_decay": weight_decay if decays else 0.0, SCALE: scale}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and not name.endswith("bias") and id(parameter) not in embeddings
            groups[decays, ".lora_B." in name]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def set_rate(optimizer: Any, rate: float) -> None:
    """The learning rate of the next step: the schedule's, times what a group has of its own."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(SCALE, 1.0)


def clip(parameters: Sequence[Any], limit: float) -> Any:
    """Scale gradients so that their common norm is at most `limit` (0: leave them); gives the norm before, a scalar."""
    return torch.nn.utils.clip_grad_norm_(parameters, limit if limit > 0 else float("inf"))


def doubt(name: str, setting: str | float) -> str:
    """A sentence where "auto" took a learning rate that is not made for this optimiser, else ""."""
    if not isinstance(setting, str) or name not in ("sgd", "lion_8bit"):
        return ""
    wanted = "10 to 1,000 times more" if name == "sgd" else "3 to 10 times less"
    return f'training.learning_rate = "auto" is a rate for AdamW; {name} usually wants {wanted}'


def state_of(optimizer: Any, model: Any) -> dict[str, Any]:
    """The optimiser's state by parameter name, so that it does not depend on how parameters are grouped."""
    names = _names(optimizer, model)
    state = optimizer.state_dict()["state"]
    return {BY_NAME: {names[index]: moments for index, moments in state.items()}}


def restore(optimizer: Any, model: Any, saved: Mapping[str, Any]) -> None:
    """Back from `state_of`; rates and weight decay stay those of the optimiser, which are the spec's.

    Takes the states of versions too that saved them by number. Raises ValueError for a parameter without one.
    """
    names = _names(optimizer, model)
    by_name = saved[BY_NAME] if BY_NAME in saved else _numbered(model, saved["state"])
    if by_name and (lacking := sorted(set(names) - by_name.keys())):
        raise ValueError(f"the checkpoint has no optimiser state of {', '.join(lacking[:5])}")
    now = optimizer.state_dict()
    state = {index: by_name[name] for index, name in enumerate(names) if name in by_name}
    optimizer.load_state_dict({**now, "state": state})


def _names(optimizer: Any, model: Any) -> list[str]:
    """Names of the optimiser's parameters in its own order."""
    known = {id(parameter): name for name, parameter in model.named_parameters()}
    return [known[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def _numbered(model: Any, state: Mapping[int, Any]) -> dict[str, Any]:
    """An older state by name: matrices were numbered first, then vectors."""
    learning = [(name, p.ndim) for name, p in model.named_parameters() if p.requires_grad]
    names = [name for name, ndim in learning if ndim > 1] + [name for name, ndim in learning if ndim <= 1]
    return {names[index]: moments for index, moments in state.items()}


def _eight_bit(name: str, model: Any, groups: list[dict[str, Any]], rate: float) -> Any:
    try:
        import bitsandbytes
    except ImportError as problem:
        raise ConfigError(
            f"training.optimizer = {name} needs bitsandbytes",
            code="launch.no_bitsandbytes",
            hint="install it: pip install 'llamahome-tui[train]'",
        ) from problem
    optimizer = getattr(bitsandbytes.optim, BITSANDBYTES[name])(groups, lr=rate)
    # Embeddings see few of their rows in a step: 8 bits lose what the others would need (as transformers has it).
    manager = bitsandbytes.optim.GlobalOptimManager.get_instance()
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding) and module.weight.requires_grad:
            manager.register_module_override(module, "weight", {"optim_bits": 32})
    return optimizer
