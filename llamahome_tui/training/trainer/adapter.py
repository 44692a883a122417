"""The adapter on a model: what it shall adapt is found on a model without weights, before the real one is loaded.

Experts that an architecture keeps in one tensor are no modules. "all-linear" leaves them alone and says so; they are
adapted where a spec names them. peft rewrites targets for some of these architectures, so there what it made of them
is compared with what was meant.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llamahome_tui.errors import ModelError, SpecError
from llamahome_tui.models.folder import read_json, weight_files
from llamahome_tui.models.weights import read_header
from llamahome_tui.training.targets import ALL_LINEAR, refuse_unknown, wanted_names

if TYPE_CHECKING:
    from llamahome_tui.training.spec import Spec

ADAPTER = "default"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Targets:
    """What is adapted and what is trained beside it, as peft takes it; `left` are the names of what stays frozen."""

    modules: str | tuple[str, ...]
    parameters: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    tied: bool = False  # `also` holds one of two modules that share a tensor: both get the trained one
    left: tuple[str, ...] = ()
    left_share: float = 0.0  # of all parameters


def looks_first(spec: Spec, folder: Path) -> bool:
    """Whether a look at the model without weights may find anything: names, or experts, or what not to quantise."""
    if any(wanted_names(spec).values()) or spec.model.quantization != "none":
        return True
    return any("expert" in name for file in weight_files(folder) for name in read_header(file).tensors)


def skeleton(folder: Path, *, layers: int = 0) -> Any:
    """The model of a folder on the meta device: all names and shapes, no memory. None where it cannot be built so.

    With `layers` only so many of its blocks, the first ones.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if layers:
            text = config.get_text_config()
            text.num_hidden_layers = layers
            if kinds := getattr(text, "layer_types", None):
                text.layer_types = list(kinds)[:layers]
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (RuntimeError, NotImplementedError, ValueError, KeyError, OSError, ImportError):
        return None  # loading says what is wrong with it, if anything is


def targets_of(spec: Spec, model: Any, again: Callable[[], Any]) -> Targets:
    """What the spec's names mean in this model; `again` builds one more like it, on the meta device, or None.

    Raises SpecError `model.unknown_target` for names that are not there, and SpecError for what LoRA cannot adapt.
    """
    modules = dict(model.named_modules())
    raw = raw_parameters(model)
    names = wanted_names(spec)
    targets, also = names["lora.targets"], names["lora.train_also"]
    adaptable = {n.rpartition(".")[2] for n, m in modules.items() if _adaptable(m)} | {_short(n) for n in raw}
    refuse_unknown(
        {
            "lora.targets": [t for t in targets if not _matching(t, modules) and not _matching(t, raw)],
            "lora.train_also": [t for t in also if not _matching(t, modules)],
        },
        adaptable,
    )
    for target in targets:
        odd = [n for n in _matching(target, modules) if not _adaptable(modules[n])]
        if odd and not _matching(target, raw):
            kind = type(modules[odd[0]]).__name__
            raise SpecError(
                f"lora.targets: {target} is a {kind}, and LoRA adapts matrices",
                code="model.unknown_target",
                hint=f"take {ALL_LINEAR}, or some of {', '.join(sorted(adaptable))}: "
                "llamahome --batch train start SPEC --set lora.targets=all-linear",
                data={"errors": [{"key": "lora.targets", "reason": f"{target} is a {kind}"}]},
            )
    every = ALL_LINEAR in ([spec.lora.targets] if isinstance(spec.lora.targets, str) else spec.lora.targets)
    experts = {name: size for name, size in raw.items() if _of_experts(name, model)}
    found = Targets(
        modules=ALL_LINEAR if every and not targets and not experts else tuple(_modules(model, every, targets, raw)),
        parameters=tuple(t for t in targets if _matching(t, raw)),
        also=tuple(n for t in also for n in _matching(t, modules)),
        tied=_touches_tied(model, also),
    )
    if not experts:
        return found
    found = _as_peft_sees_it(spec, found, model, again, every)
    total = max(1, sum(p.numel() for p in model.parameters()))
    left = [n for n in experts if not any(n in _matching(t, raw) for t in found.parameters)]
    frozen = {_short(n): 0 for n in [*left, *found.left]}
    size = sum(experts[n] for n in left) + sum(sum(p.numel() for p in modules[n].parameters()) for n in found.left)
    return replace(found, left=tuple(frozen), left_share=size / total)


def config_of(spec: Spec, targets: Targets) -> Any:
    """The peft configuration of a new adapter."""
    from peft import LoraConfig

    return LoraConfig(
        r=spec.lora.r,
        lora_alpha=spec.lora.alpha,
        lora_dropout=spec.lora.dropout,
        target_modules=targets.modules if isinstance(targets.modules, str) else list(targets.modules),
        target_parameters=list(targets.parameters) or None,
        modules_to_save=list(targets.also) or None,
        ensure_weight_tying=targets.tied,
        use_rslora=spec.lora.variant == "rslora",
        use_dora=spec.lora.variant == "dora",
        task_type="CAUSAL_LM",
    )


def put_on(base: Any, config: Any, *, empty: bool = False) -> Any:
    """The base with a new adapter; what learns lies in float32. Raises SpecError for what peft refuses.

    `empty` takes no memory and no random number for it, on a model that has none either.
    """
    from peft import get_peft_model

    try:
        model = get_peft_model(base, config, adapter_name=ADAPTER, low_cpu_mem_usage=empty)
    except (ValueError, TypeError) as problem:
        raise SpecError(
            f"lora: this adapter does not go on this model: {problem}",
            code="lora.refused",
            hint="try it with all linear layers: llamahome --batch train start SPEC --set lora.targets=all-linear",
        ) from problem
    except RuntimeError as problem:
        if "require gradients" not in str(problem):
            raise
        raise SpecError(
            "lora.train_also: what the model's files hold quantised cannot be trained in full; adapt it (lora.targets)",
            code="model.quantised",
            hint="llamahome --batch train start SPEC --set lora.train_also=[]",
            data={"errors": [{"key": "lora.train_also", "reason": "is quantised in the model's files"}]},
        ) from problem
    return in_full_precision(model)


def put_saved_on(base: Any, folder: Path, name: str) -> Any:
    """The base with the adapter of a folder, to be trained on. Raises ModelError where it does not fit."""
    from peft import PeftModel

    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ModelError(f"{folder} is no adapter: {ADAPTER_WEIGHTS} is missing", code="model.adapter")
    try:
        model = PeftModel.from_pretrained(base, folder, is_trainable=True, adapter_name=ADAPTER, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as problem:
        raise ModelError(f"{folder} is no adapter for {name}: {problem}", code="model.adapter") from problem
    return in_full_precision(model)


def saved_config(folder: Path) -> Any:
    """The peft configuration of an adapter folder, to put one like it on. Raises ModelError where there is none."""
    from peft import PeftConfig

    try:
        config = PeftConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise ModelError(f"{folder} is no adapter: {problem}", code="model.adapter") from problem
    config.inference_mode = False  # as a finished adapter's says, and nothing of it would learn
    return config


def saved_whole(folder: Path | None) -> tuple[str, ...]:
    """The modules that an adapter folder holds whole copies of."""
    if folder is None:
        return ()
    names = read_json(folder / "adapter_config.json").get("modules_to_save")
    return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()


def frozen(targets: Targets) -> str:
    """A sentence about what no target reaches."""
    words = [name for name in targets.left if "expert" in name]
    more = ", ".join(f'"{word}"' for word in ["all-linear", *words])
    return f"{', '.join(targets.left)} stay frozen: {targets.left_share:.0%} of the parameters" + (
        f"; lora.targets = [{more}] adapts the experts too" if words else ""
    )


def in_full_precision(model: Any) -> Any:
    """Put everything that learns into float32: peft does so for its matrices only, not for modules it saves whole."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype in HALF:
            parameter.data = parameter.data.float()
    return model


def raw_parameters(model: Any) -> dict[str, int]:
    """Matrices and stacks of matrices that belong to no module LoRA knows, by full name, with their sizes."""
    return {
        f"{name}.{own}" if name else own: parameter.numel()
        for name, module in model.named_modules()
        if not _adaptable(module) and not name.endswith(("norm", "layernorm"))
        for own, parameter in module.named_parameters(recurse=False)
        if parameter.ndim in (2, 3) and not own.endswith("bias")
    }


def _modules(model: Any, every: bool, targets: Collection[str], raw: Mapping[str, int]) -> list[str]:
    """Names for peft: those of the spec, or each linear layer but the head with its full name."""
    named = [t for t in targets if not _matching(t, raw) or _linear_matching(model, t)]
    if not every:
        return named
    head = model.get_output_embeddings()
    linear = [n for n, m in model.named_modules() if _linear(m) and m is not head]
    return linear + [t for t in named if not set(_matching(t, dict(model.named_modules()))) <= set(linear)]


def _as_peft_sees_it(spec: Spec, found: Targets, model: Any, again: Callable[[], Any], every: bool) -> Targets:
    """The targets without the modules that peft would turn into something else; names of a spec are refused instead."""
    adapted = _trial(spec, found, again)
    wanted = _wanted(found, model)
    if adapted is None or adapted == wanted:
        return found
    lost = sorted(wanted - adapted)
    if every and lost:
        kept = tuple(name for name in found.modules if name not in lost)
        found = replace(found, modules=kept, left=tuple(lost))
        if _trial(spec, found, again) == _wanted(found, model):
            return found
    words = sorted({_short(name) for name in wanted ^ adapted})
    raise SpecError(
        f"lora.targets: peft cannot tell {', '.join(words)} apart in a model of type {model.config.model_type}",
        code="model.unknown_target",
        hint="leave them out: llamahome --batch train start SPEC --set lora.targets=all-linear",
        data={"errors": [{"key": "lora.targets", "reason": f"peft cannot adapt {word} alone"} for word in words]},
    )


def _trial(spec: Spec, found: Targets, again: Callable[[], Any]) -> set[str] | None:
    """What peft really adapts, tried on a model without weights; None where there is none."""
    one = again()
    if one is None:
        return None
    return _adapted(put_on(one, config_of(spec, replace(found, also=(), tied=False)), empty=True))


def _wanted(found: Targets, model: Any) -> set[str]:
    modules = [n for n, m in model.named_modules() if _adaptable(m)]
    raw = raw_parameters(model)
    names = {n for t in found.modules for n in _matching(t, modules)}
    return names | {n for t in found.parameters for n in _matching(t, raw)}


def _adapted(model: Any) -> set[str]:
    """Full names, in the base, of the modules and parameters that have an adapter."""
    from peft.tuners.lora.layer import LoraLayer

    found = set()
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
            parameter = getattr(module, "parameter_name", "")
            found.add(f"{plain}.{parameter}" if parameter else plain)
    return found


def _touches_tied(model: Any, also: Collection[str]) -> bool:
    """Whether what is trained in full shares its tensor with another module."""
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if not getattr(model.config.get_text_config(), "tie_word_embeddings", False):
        return False
    return any(m is head or m is embeddings for n, m in model.named_modules() for t in also if _matching(t, [n]))


def _of_experts(name: str, model: Any) -> bool:
    if "expert" in name:
        return True
    module, _, own = name.rpartition(".")
    return len(getattr(model.get_submodule(module), own).shape) == 3


def _matching(target: str, names: Collection[str] | Mapping[str, Any]) -> list[str]:
    """The full names that a target of peft stands for: the same, or ending in it after a dot."""
    return [name for name in names if name == target or name.endswith("." + target)]


def _linear_matching(model: Any, target: str) -> bool:
    return any(_linear(m) and _matching(target, [n]) for n, m in model.named_modules())


def _linear(module: Any) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, torch.nn.Linear | Conv1D)


def _adaptable(module: Any) -> bool:
    """Whether LoRA knows how to adapt this module."""
    nn = torch.nn
    return _linear(module) or isinstance(
        module, nn.Embedding | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.MultiheadAttention
    )


def _short(name: str) -> str:
    """A parameter or module by its last two parts, as `experts.down_proj`; by one where the other is a number."""
    *_, before, last = ["", *name.split(".")]
    return last if not before or before.isdigit() else f"{before}.{last}"
