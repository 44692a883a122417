"""The model a run trains: weights, precision, adapter; files from this machine only, never a repository's code."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llamahome_tui.errors import ModelError, SpecError
from llamahome_tui.training import auto

if TYPE_CHECKING:
    from llamahome_tui.training.spec import Spec

ADAPTER = "default"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the weights come from. `name` is what an adapter's `base_model_name_or_path` says."""

    path: Path
    name: str
    adapter: Path | None = None


@dataclass(frozen=True, slots=True)
class Trainee:
    """A model ready to be trained. `model` is called, `base` is the causal language model inside it."""

    model: Any
    base: Any
    device: Any
    precision: auto.Precision
    lora: bool
    parameters: int

    @property
    def trainable(self) -> list[Any]:
        """The parameters that learn, always in the same order."""
        return [p for p in self.model.parameters() if p.requires_grad]

    @property
    def bounded_kernels(self) -> bool:
        """Whether attention skips what lies outside a packed row, instead of computing and masking it."""
        attention = str(getattr(self.base.config, "_attn_implementation", ""))
        return "flash" in attention or attention == "flex_attention"

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The precision the forward pass runs in."""
        return autocast(self.device, self.precision)

    def shape(self) -> auto.Shape:
        """What memory estimates ask for."""
        config = self.base.config.get_text_config()
        return auto.Shape(
            layers=int(getattr(config, "num_hidden_layers", 1)),
            hidden=int(getattr(config, "hidden_size", 1024)),
            bytes_per_value=4 if self.precision == "fp32" else 2,
        )

    def checkpoint_gradients(self) -> None:
        """Recompute activations in the backward pass instead of keeping them."""
        self.base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if self.lora:
            # Frozen embeddings give activations without a gradient, and checkpointed layers would stop there.
            self.base.enable_input_require_grads()


def pick_device() -> Any:
    """The first GPU this process may see, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def autocast(device: Any, precision: auto.Precision) -> contextlib.AbstractContextManager[Any]:
    """bf16 and fp16 run under autocast, fp32 runs as it is."""
    if precision == "fp32":
        return contextlib.nullcontext()
    context: contextlib.AbstractContextManager[Any] = torch.autocast(device.type, dtype=_dtype(precision))
    return context


def load(spec: Spec, source: Source, device: Any, say: Callable[[str], None]) -> Trainee:
    """Load the base, put the adapter on, and leave exactly what shall learn with `requires_grad`.

    `say` takes a sentence for a person. Raises ModelError for a folder that does not load, SpecError for targets that
    the model has not.
    """
    precision = auto.precision(
        spec.training.precision,
        device="cuda" if device.type == "cuda" else "cpu",
        bf16=device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False),
    )
    lora = spec.lora.enabled
    # A frozen base lies in the compute precision; weights that learn stay in float32 and are cast in the forward pass.
    base = _load_base(source, _dtype(precision) if lora else torch.float32, spec.training.attention, device)
    base.config.use_cache = False
    parameters = sum(p.numel() for p in base.parameters())
    if not lora:
        return Trainee(base.train(), base, device, precision, lora=False, parameters=parameters)
    start = Path(spec.model.adapter) if spec.model.adapter else source.adapter
    model = _continue_adapter(base, start, source, say) if start else _new_adapter(base, spec)
    model.peft_config[ADAPTER].base_model_name_or_path = source.name
    return Trainee(model.train(), base, device, precision, lora=True, parameters=parameters)


def _load_base(source: Source, dtype: Any, attention: str, device: Any) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source.path,
            dtype=dtype,
            # None takes sdpa wherever a model has it.
            attn_implementation=None if attention == "auto" else attention,
            device_map={"": device} if device.type == "cuda" else None,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, ValueError, KeyError, ImportError) as problem:
        raise ModelError(
            f"{source.path} does not load: {problem}",
            hint="see what is wrong with it: llamahome --batch models show " + str(source.path),
            code="model.not_loadable",
        ) from problem
    if not hasattr(model, "get_output_embeddings") or model.get_output_embeddings() is None:
        raise ModelError(f"{source.path} is no causal language model", code="model.not_causal")
    return model


def _new_adapter(base: Any, spec: Spec) -> Any:
    from peft import LoraConfig, get_peft_model

    targets: str | list[str] = spec.lora.targets if isinstance(spec.lora.targets, str) else list(spec.lora.targets)
    if isinstance(targets, list):
        check_targets(base, targets, "lora.targets")
    check_targets(base, list(spec.lora.train_also), "lora.train_also")
    config = LoraConfig(
        r=spec.lora.r,
        lora_alpha=spec.lora.alpha,
        lora_dropout=spec.lora.dropout,
        target_modules=targets,
        modules_to_save=list(spec.lora.train_also) or None,
        use_rslora=spec.lora.variant == "rslora",
        use_dora=spec.lora.variant == "dora",
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(base, config)
    except ValueError as problem:
        raise SpecError(f"lora.targets: {problem}", hint=_target_hint(base)) from problem


def _continue_adapter(base: Any, folder: Path, source: Source, say: Callable[[str], None]) -> Any:
    from peft import PeftModel

    if not (folder / "adapter_model.safetensors").is_file():
        raise ModelError(f"{folder} is no adapter: adapter_model.safetensors is missing", code="model.adapter")
    try:
        model = PeftModel.from_pretrained(base, folder, is_trainable=True, adapter_name=ADAPTER, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as problem:
        raise ModelError(f"{folder} is no adapter for {source.name}: {problem}", code="model.adapter") from problem
    say(f"goes on from the adapter {folder}; its rank and targets count, not those of the spec")
    return model


def check_targets(base: Any, targets: list[str], key: str) -> None:
    """Raise SpecError that names every target of a spec's key without a module in the model."""
    names = [name for name, _ in base.named_modules()]
    missing = [t for t in targets if not any(name == t or name.endswith("." + t) for name in names)]
    if missing:
        raise SpecError(
            f"{key}: the model has no module named {', '.join(missing)}",
            hint=_target_hint(base),
            code="spec.targets",
            data={"errors": [{"key": key, "reason": f"no module named {t}"} for t in missing]},
        )


def _target_hint(base: Any) -> str:
    linear = {n.rsplit(".", 1)[-1] for n, m in base.named_modules() if type(m).__name__ in ("Linear", "Conv1D")}
    return f"take all-linear, or some of: {', '.join(sorted(linear))}"


def _dtype(precision: auto.Precision) -> Any:
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]
