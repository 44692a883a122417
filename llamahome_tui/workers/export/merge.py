"""An adapter merged into its base, one tensor at a time, in the base's own files' names, layout and types.

The adapter is put on the model without weights by peft itself, so that ranks, scalings, saved modules and experts mean
here what they mean there; only the sum is ours, in float32: W + delta, of DoRA m (W + delta) / |W + delta|.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from llamahome_tui.errors import ModelError
from llamahome_tui.export.tensors import Stored, stored_in
from llamahome_tui.models.folder import read_json
from llamahome_tui.training.trainer import adapter as adapters
from llamahome_tui.training.trainer.adapter import ADAPTER, ADAPTER_WEIGHTS

TYPES: dict[str, torch.dtype] = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
FLOATS = ("F64", "F32", "F16", "BF16")

# The tensor as it becomes, from the one in the base's files, both in float32; the latter may be overwritten.
Change = Callable[[torch.Tensor], torch.Tensor]


def tensor_of(stored: Stored) -> torch.Tensor:
    """A stored tensor in memory of its own."""
    if stored.dtype not in TYPES:
        raise ModelError(f"{stored.file}: holds {stored.dtype}, which can't be exported", code="export.dtype")
    dtype = TYPES[stored.dtype]
    if stored.begin == stored.end:
        return torch.empty(stored.shape, dtype=dtype)
    return torch.frombuffer(stored.raw(), dtype=dtype).reshape(stored.shape)


class PlainTensors:
    """A model folder as it is; floating-point tensors in the types that `dtypes` has for their names."""

    def __init__(self, folder: Path, dtypes: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.config: dict[str, Any] = read_json(folder / "config.json")
        self._stored = stored_in(folder)
        self._dtypes = dtypes or {}

    def names(self) -> Sequence[str]:
        """Every tensor, in the order of the files."""
        return tuple(self._stored)

    def shape(self, name: str) -> tuple[int, ...]:
        """Its shape."""
        return self._stored[name].shape

    def dtype(self, name: str) -> str:
        """Its type as safetensors writes it."""
        own = self._stored[name].dtype
        return self._dtypes.get(name, own) if own in FLOATS else own

    def read(self, name: str) -> torch.Tensor:
        """Its values."""
        return tensor_of(self._stored[name]).to(TYPES[self.dtype(name)])


class MergedTensors:
    """A base with an adapter merged in. `quantised` gives what the base's tensor was to the run, by name.

    Raises ModelError where the adapter does not go on this base, or where a merge cannot be expressed in its files.
    """

    def __init__(self, folder: Path, adapter: Path, quantised: Mapping[str, Change] | None = None) -> None:
        self.folder = folder
        self.config: dict[str, Any] = read_json(folder / "config.json")
        self._stored = stored_in(folder)
        self._quantised = quantised or {}
        model = _on_nothing(folder, adapter)
        base = model.get_base_model()
        self._changes: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {}
        for name, shape, parts in _changed(model):
            for stored, change in _in_files(base, name, shape, parts).items():
                self._changes[stored] = change
        self._extra = self._untie(base)
        absent = [name for name in self._changes if name not in self._stored and name not in self._extra]
        if absent:
            raise ModelError(
                f"{adapter} changes {absent[0]}, which the files of {folder} do not have",
                code="model.adapter",
                hint="export the adapter alone: llamahome --batch runs export RUN",
            )

    def names(self) -> Sequence[str]:
        """Every tensor, in the order of the files; a head that is tied no more is the last."""
        return (*self._stored, *self._extra)

    def shape(self, name: str) -> tuple[int, ...]:
        """Its shape."""
        return self._source(name).shape

    def dtype(self, name: str) -> str:
        """Its type as safetensors writes it."""
        return self._source(name).dtype

    def read(self, name: str) -> torch.Tensor:
        """Its values with the adapter in them."""
        source = self._source(name)
        tensor = tensor_of(source)
        if (quantised := self._quantised.get(name)) is not None:
            tensor = quantised(tensor)
        if (change := self._changes.get(name)) is None:
            return tensor.to(TYPES[source.dtype])
        merged = change(tensor.float())
        del tensor
        if tuple(merged.shape) != source.shape:
            raise ModelError(
                f"{name} is {source.shape} in {source.file.name} and {tuple(merged.shape)} in the adapter",
                code="model.adapter",
                hint="look at both: llamahome --batch models list",
            )
        return merged.to(TYPES[source.dtype]).contiguous()

    def _source(self, name: str) -> Stored:
        return self._stored.get(name) or self._stored[self._extra[name]]

    def _untie(self, base: Any) -> dict[str, str]:
        """A head that files leave out as it is the embeddings, but is not with this adapter; with what it comes from.

        Both changed in one way (peft ties what it trains) stay one tensor.
        """
        if not getattr(base.config.get_text_config(), "tie_word_embeddings", False):
            return {}
        names = {id(module): f"{name}.weight" for name, module in base.named_modules() if hasattr(module, "weight")}
        head, embeddings = (
            _plain_name(names.get(id(_inner(one)), ""))
            for one in (base.get_output_embeddings(), base.get_input_embeddings())
        )
        embeddings = next(iter(_in_files(base, embeddings, (1, 1), None)), embeddings)
        if head in self._stored or not {head, embeddings} & self._changes.keys():
            return {}
        if head in self._changes and embeddings in self._changes and self._same(head, embeddings):
            del self._changes[head]
            return {}
        table = self.config.get("text_config")
        for one in (self.config, table):
            if isinstance(one, dict) and "tie_word_embeddings" in one:
                one["tie_word_embeddings"] = False
        self.config["tie_word_embeddings"] = False
        return {head: embeddings}

    def _same(self, head: str, embeddings: str) -> bool:
        shape = self._stored[embeddings].shape
        one, other = (self._changes[name](torch.zeros(shape)) for name in (head, embeddings))
        return bool(torch.equal(one, other))


def _on_nothing(folder: Path, adapter: Path) -> Any:
    """The model without weights, under the adapter with all of its own."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    empty = adapters.skeleton(folder)
    if empty is None:
        raise ModelError(
            f"{folder} cannot be built without its weights, so that nothing can be merged into it",
            code="model.not_traceable",
            hint="export the adapter alone: llamahome --batch runs export RUN",
        )
    model = adapters.put_on(empty, adapters.saved_config(adapter), empty=True)
    for module in model.modules():
        if hasattr(module, "_move_adapter_to_device_of_base_layer"):
            # peft would have an adapter lie where its base lies, and this one lies nowhere.
            module._move_adapter_to_device_of_base_layer = _stay
    try:
        told = set_peft_model_state_dict(
            model, load_file(adapter / ADAPTER_WEIGHTS), adapter_name=ADAPTER, low_cpu_mem_usage=True
        )
        strange = list(told.unexpected_keys)
    except (RuntimeError, KeyError, ValueError) as problem:
        strange = [str(problem).strip().splitlines()[-1].strip()]
    own = [name for name, one in model.named_parameters() if one.requires_grad and one.is_meta]
    if strange or own:
        raise ModelError(
            f"{adapter} is no adapter for {folder}: {(strange or own)[0]}",
            code="model.adapter",
            hint="see what the run was trained on: llamahome --batch runs show RUN",
        )
    return model


def _changed(model: Any) -> list[tuple[str, tuple[int, ...], Any]]:
    """Each parameter of the model that the adapter changes: its name, its shape, and (how, what it takes)."""
    from peft.tuners.lora.layer import LoraLayer
    from peft.utils.other import ModulesToSaveWrapper

    found: list[tuple[str, tuple[int, ...], Any]] = []
    for name, module in model.named_modules():
        plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
        if isinstance(module, ModulesToSaveWrapper):
            for own, parameter in module.modules_to_save[ADAPTER].named_parameters():
                found.append((f"{plain}.{own}", tuple(parameter.shape), ("whole", parameter.detach())))
        elif isinstance(module, LoraLayer) and ADAPTER in module.scaling:
            own = getattr(module, "parameter_name", "weight")
            base = module.get_base_layer()
            shape = tuple(getattr(base, own).shape)
            lower = module.lora_B if ADAPTER in module.lora_B else {}
            if ADAPTER in lower and getattr(lower[ADAPTER], "bias", None) is not None:
                raise ModelError(f"{plain}: an adapter with biases can't be merged", code="export.lora_bias")
            magnitude = module.lora_magnitude_vector
            dora = magnitude[ADAPTER].weight.detach() if ADAPTER in magnitude else None
            found.append((f"{plain}.{own}", shape, ("delta" if dora is None else "dora", module, dora)))
    return found


def _in_files(base: Any, name: str, shape: tuple[int, ...], how: Any) -> dict[str, Change]:
    """What happens to tensors of the files where a parameter of the model is changed.

    Where the model keeps several of a file's tensors as one (experts), transformers says how it takes them apart, and
    as taking apart, turning and renaming are linear, a delta is taken apart as the weights would be.
    """
    from transformers.core_model_loading import revert_weight_conversion

    names = list(revert_weight_conversion(base, {name: torch.empty(shape, device="meta")}))
    if how is None:
        return dict.fromkeys(names, _as_it_is)
    if len(names) == 1 and how[0] != "delta":
        if how[0] == "whole":
            whole = how[1]
            return {names[0]: lambda _: revert_weight_conversion(base, {name: whole})[names[0]].float()}
        return {names[0]: partial(_dora, how[1], how[2])}
    if how[0] == "dora":
        raise ModelError(f"{name}: DoRA on a tensor that files keep in parts can't be merged", code="export.dora")
    made = _Apart(base, name, how)
    return {one: partial(made.change, one, add=how[0] == "delta") for one in names}


class _Apart:
    """A parameter's change in the parts that files keep it in; made once and dropped with its last part."""

    def __init__(self, base: Any, name: str, how: Any) -> None:
        self._base, self._name, self._how = base, name, how
        self._parts: dict[str, torch.Tensor] = {}

    def change(self, name: str, tensor: torch.Tensor, *, add: bool) -> torch.Tensor:
        from transformers.core_model_loading import revert_weight_conversion

        if name not in self._parts:
            whole = _delta(self._how[1]) if add else self._how[1].float()
            self._parts = dict(revert_weight_conversion(self._base, {self._name: whole}))
        part = self._parts.pop(name)
        return tensor.add_(part) if add else part


def _plain_name(name: str) -> str:
    return name.replace(".base_layer", "").replace(".original_module", "")


def _stay(*_: Any, **__: Any) -> None:
    """Leave an adapter where it is."""


def _as_it_is(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _delta(module: Any) -> torch.Tensor:
    """What an adapter adds to its parameter. Of parameters that are no module's peft takes it to where they lie."""
    from peft.tuners.lora.layer import Linear, ParamWrapper

    found: torch.Tensor
    if not isinstance(module, ParamWrapper):
        found = module.get_delta_weight(ADAPTER)
    elif module.num_experts == 1:
        found = Linear.get_delta_weight(module, ADAPTER)
    else:
        upper, lower = module.lora_A[ADAPTER].weight, module.lora_B[ADAPTER].weight
        upper = upper.reshape(module.num_experts, -1, upper.shape[-1])
        lower = lower.reshape(lower.shape[0], -1, module.num_experts)
        order = "e o i" if module._did_swap_in_out_features else "e i o"
        found = torch.einsum(f"o r e, e r i -> {order}", lower, upper) * module.scaling[ADAPTER]
    return found.detach().float()


def _dora(module: Any, magnitude: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """m (W + delta) / |W + delta|, the norm taken over each output's inputs (Liu et al. 2024, equation 5)."""
    turned = bool(getattr(module, "fan_in_fan_out", False))
    merged = weight.add_(_delta(module))
    embedding = hasattr(module, "lora_embedding_A") and ADAPTER in module.lora_embedding_A
    over = 0 if turned or embedding else 1
    norm = torch.linalg.norm(merged, dim=over, keepdim=True)
    scale = magnitude.float().reshape(norm.shape) / norm
    return merged.mul_(scale)


def _inner(module: Any) -> Any:
    """The layer that an adapter lies on."""
    while hasattr(module, "base_layer") or hasattr(module, "original_module"):
        module = getattr(module, "base_layer", None) or module.original_module
    return module
