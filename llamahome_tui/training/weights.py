"""What a spec asks of the weights, held against the model's files: every refusal comes before anything is loaded.

Standard library only, so that `train start` can ask without torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from llamahome_tui.errors import ModelError, SpecError
from llamahome_tui.models.folder import read_json, weight_files
from llamahome_tui.models.hub_cache import is_hub_id
from llamahome_tui.models.weights import read_header
from llamahome_tui.training import kernels, targets
from llamahome_tui.training.targets import ALL_LINEAR, HEADS, wanted_names

if TYPE_CHECKING:
    from llamahome_tui.models.locate import Located
    from llamahome_tui.training.shape import Spec

EIGHT_BIT: Final = ("adamw_8bit", "paged_adamw_8bit", "lion_8bit")
# Bytes of optimiser state for each parameter that learns; 8-bit ones have a float32 for each block besides.
_STATE: Final = {"adamw": 8.0, "adamw_8bit": 2.1, "paged_adamw_8bit": 2.1, "lion_8bit": 1.1, "sgd": 4.0}


def check(spec: Spec, located: Located, *, cpu: bool) -> None:
    """Raises SpecError or ModelError (exit 3, with the key) for what this model, or a CPU, cannot do."""
    refuse_precision(spec, cpu=cpu)
    kernels.refuse_device(spec, cpu=cpu)
    refuse_quantised(spec, located)
    shapes = _shapes(weight_files(located.path))
    check_adapter(spec, located, shapes)
    targets.check(spec, shapes)


def base_name(located: Located) -> str:
    """What an adapter says it belongs to: the Hub id where the model came from there, else its folder."""
    return located.id if located.revision else str(located.path)


def refuse_precision(spec: Spec, *, cpu: bool) -> None:
    """fp16 overflows where fp32 does not, and a CPU gains nothing by it."""
    if cpu and spec.training.precision == "fp16":
        raise SpecError(
            "training.precision: fp16 is for GPUs, and this run has a CPU; leave it out for fp32, or write bf16",
            code="training.precision",
            hint="llamahome --batch train start SPEC --set training.precision=auto",
            data={"errors": [{"key": "training.precision", "reason": "fp16 is for GPUs"}]},
        )


def refuse_small_data(spec: Spec, rows: int) -> None:
    """A step that no epoch fills is another batch size than the spec says."""
    wanted = spec.training.global_batch
    if rows < wanted:
        raise SpecError(
            f"training.global_batch: a step of {wanted} rows is larger than the data, which has {rows} to train on",
            code="training.batch_over_data",
            hint=f"llamahome --batch train start SPEC --set training.global_batch={max(1, rows)}",
            data={"errors": [{"key": "training.global_batch", "reason": "larger than the data"}], "rows": rows},
        )


def refuse_quantised(spec: Spec, located: Located) -> None:
    """A base that is quantised in its files trains an adapter only, and is not quantised again."""
    config = read_json(located.path / "config.json")
    found = config.get("quantization_config")
    if not isinstance(found, Mapping):
        return
    method = str(found.get("quant_method", "quantised"))[:40]
    if not spec.lora.enabled:
        raise SpecError(
            f"lora.enabled: {located.id} is quantised ({method}), and quantised weights cannot be trained in full",
            code="model.quantised",
            hint="train an adapter on it: llamahome --batch train start SPEC --set lora.enabled=true",
            data={"errors": [{"key": "lora.enabled", "reason": f"the base is quantised ({method})"}]},
        )
    if spec.model.quantization != "none":
        raise SpecError(
            f"model.quantization: {located.id} is quantised already ({method}); leave the key out",
            code="model.quantised",
            hint="llamahome --batch train start SPEC --set model.quantization=none",
            data={"errors": [{"key": "model.quantization", "reason": f"the base is quantised ({method})"}]},
        )


# --- what a checkpoint takes ----------------------------------------------------------------------------------------


def checkpoint_bytes(spec: Spec, located: Located) -> int:
    """Bytes of one checkpoint, by the headers of the files: what learns, in float32, and the optimiser's state."""
    from llamahome_tui.training.auto import optimizer

    learning, embeddings = _learning(spec, located)
    state = _STATE[optimizer(spec.training.optimizer, lora=spec.lora.enabled)]
    return int(learning * (4 + state) + embeddings * (4 + max(state, _STATE["adamw"])))


def _learning(spec: Spec, located: Located) -> tuple[int, int]:
    """Parameters that learn, embeddings apart: 8-bit optimisers keep their state of those in 32 bits."""
    shapes = _shapes(weight_files(located.path))
    folder = Path(spec.model.adapter) if spec.model.adapter else located.adapter
    if folder is not None and spec.lora.enabled:
        return sum(math.prod(s) for s in _shapes([folder / "adapter_model.safetensors"]).values()), 0
    if not spec.lora.enabled:
        embeddings = sum(math.prod(shape) for name, shape in shapes.items() if "embed" in name)
        return sum(map(math.prod, shapes.values())) - embeddings, embeddings
    names, every = wanted_names(spec), ALL_LINEAR in spec.lora.targets
    also = names["lora.train_also"]
    tied = bool(read_json(located.path / "config.json").get("tie_word_embeddings"))
    head = any(name.rpartition(".")[2] in HEADS for name in also)
    learning = embeddings = 0
    for name, shape in shapes.items():
        module = name.removesuffix(".weight")
        if any(_ends(module, one) for one in also) or (tied and head and "embed" in name):
            if "embed" in name:
                embeddings += math.prod(shape)
            else:
                learning += math.prod(shape)
        elif len(shape) in (2, 3) and shape[-1] > 1:
            learning += _adapter_size(spec.lora.r, module, shape, names["lora.targets"], every=every)
    return learning, embeddings


def _adapter_size(r: int, module: str, shape: tuple[int, ...], targets: Sequence[str], *, every: bool) -> int:
    """Parameters that an adapter puts on one tensor of the files; experts lie there one by one, or as one."""
    of_experts = ".experts." in module
    named = any(_ends(module, target) or (of_experts and "experts" in target) for target in targets)
    linear = not (of_experts or "embed" in module or module.endswith("lm_head"))
    return math.prod(shape[:-2]) * r * (shape[-2] + shape[-1]) if named or (every and linear) else 0


def _ends(name: str, target: str) -> bool:
    return name == target or name.endswith("." + target)


# --- an adapter to go on from ---------------------------------------------------------------------------------------


def check_adapter(spec: Spec, located: Located, base: Mapping[str, tuple[int, ...]]) -> None:
    """Raises where the adapter to start from cannot go on, or belongs to another base than this one."""
    if spec.model.adapter and located.adapter:
        raise SpecError(
            f"model.adapter: model.id is run {located.run}, whose adapter goes on; there cannot be another one",
            code="model.adapter",
            hint="leave model.adapter out: llamahome --batch train start SPEC --set model.adapter=",
            data={"errors": [{"key": "model.adapter", "reason": "model.id brings an adapter"}]},
        )
    folder = Path(spec.model.adapter) if spec.model.adapter else located.adapter
    if folder is None:
        return
    if not spec.lora.enabled:
        raise SpecError(
            f"lora.enabled: full fine-tuning would leave out the adapter {folder}",
            code="model.adapter",
            hint="let the adapter go on: llamahome --batch train start SPEC --set lora.enabled=true",
            data={"errors": [{"key": "lora.enabled", "reason": "an adapter would be left out"}]},
        )
    config = read_json(folder / "adapter_config.json")
    if config.get("peft_type") != "LORA":
        raise _other(folder, f"is a {str(config.get('peft_type'))[:40]} adapter, and only LoRA adapters can go on")
    says = config.get("base_model_name_or_path")
    says = says if isinstance(says, str) else ""
    if _is_other(says, located):
        raise _other(
            folder,
            f"belongs to {says}, not to {base_name(located)}",
            hint=f"name its base: llamahome --batch train start SPEC --set model.id={says} (the same model under "
            f"another name: write that into {folder / 'adapter_config.json'})",
        )
    weights = folder / "adapter_model.safetensors"
    packed = "quantization_config" in read_json(located.path / "config.json")  # then widths are not those of files
    if not weights.is_file():
        raise _other(folder, "is no adapter: adapter_model.safetensors is missing")
    if not packed and (misfit := _misfit(_shapes([weights]), base)):
        raise _other(folder, f"does not fit {base_name(located)}{f' (it says {says})' if says else ''}: {misfit}")


def _is_other(says: str, located: Located) -> bool:
    """Whether an adapter's base is certainly another model; a folder that is gone, or no name, says nothing."""
    name = base_name(located)
    if not says or says == name:
        return False
    if Path(says).is_absolute():
        return Path(says).is_dir() and Path(says).resolve() != located.path.resolve()
    hub = located.id if located.revision else _hub_id_of(located.path)
    return bool(hub) and is_hub_id(says) and says.lower() != hub.lower()


def _hub_id_of(path: Path) -> str:
    """The Hub id of a folder that lies in a Hugging Face cache, else ""."""
    repository = next((part for part in path.parts if part.startswith("models--")), "")
    return repository.removeprefix("models--").replace("--", "/")


def _misfit(adapter: Mapping[str, tuple[int, ...]], base: Mapping[str, tuple[int, ...]]) -> str:
    """Why an adapter's tensors do not fit a base's: a matrix of another width, or not one module that is there."""
    modules = {name.removesuffix(".weight"): shape for name, shape in base.items() if len(shape) == 2}
    seen = 0
    for name, shape in adapter.items():
        module, _, part = name.removeprefix("base_model.model.").partition(".lora_")
        if module not in modules or len(shape) != 2 or part not in ("A.weight", "B.weight"):
            continue
        seen += 1
        rows, columns = modules[module]
        ours, theirs = (columns, shape[1]) if part.startswith("A") else (rows, shape[0])
        # Some architectures keep their matrices the other way round.
        if theirs not in (ours, rows, columns):
            return f"{module} has width {ours} here and {theirs} there"
    plain = any(".lora_A." in name and ".experts." not in name for name in adapter)
    return "" if seen or not plain else "it adapts no module that this model has"


def _other(folder: Path, what: str, hint: str = "") -> ModelError:
    return ModelError(
        f"model.adapter: {folder} {what}",
        code="model.adapter",
        hint=hint or f"look what is there: ls {folder}",
        data={"errors": [{"key": "model.adapter", "reason": what}], "file": str(folder)},
    )


def _shapes(files: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for file in files:
        header = read_header(file)
        found |= dict(zip(header.tensors, header.shapes, strict=True))
    return found


def needs_bitsandbytes(spec: Spec) -> str:
    """The key that needs bitsandbytes, as `key = value`, or ""."""
    from llamahome_tui.training.auto import optimizer

    if spec.model.quantization != "none":
        return f"model.quantization = {spec.model.quantization}"
    chosen = optimizer(spec.training.optimizer, lora=spec.lora.enabled)
    return f"training.optimizer = {chosen}" if chosen in EIGHT_BIT else ""
