"""The model a run trains: weights, precision, adapter; files from this machine only, never a repository's code."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llamahome_tui.errors import ModelError
from llamahome_tui.training import auto
from llamahome_tui.training.trainer import adapter, quantised
from llamahome_tui.training.trainer.adapter import ADAPTER
from llamahome_tui.training.trainer.counts import by_kind
from llamahome_tui.training.trainer.noise import add_noise

if TYPE_CHECKING:
    from llamahome_tui.training.spec import Spec

MUCH = 0.5  # of the weights: what quantising leaves alone is worth a word


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

    def checkpoint_gradients(self, setting: bool | float = True) -> bool:
        """Recompute activations in the backward pass instead of keeping them, of all layers or of the first so many.

        The first: when they are computed again, what the later ones kept is gone already. False where the model knows
        no layers one by one, so that all are recomputed.
        """
        from transformers.modeling_layers import GradientCheckpointingLayer

        self.base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        layers = [one for one in self.base.modules() if isinstance(one, GradientCheckpointingLayer)]
        for layer in layers[auto.checkpointed_layers(setting, len(layers)) :]:
            layer.gradient_checkpointing = False
        if self.lora:
            # Frozen embeddings give activations without a gradient, and checkpointed layers would stop there.
            self.base.enable_input_require_grads()
        return bool(layers) or setting is True


def pick_device(rank: int = 0) -> Any:
    """The rank's GPU among those this process may see, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", rank % torch.cuda.device_count())
    if rank:
        torch.cuda.set_device(device)
    return device


def autocast(device: Any, precision: auto.Precision) -> contextlib.AbstractContextManager[Any]:
    """bf16 and fp16 run under autocast, fp32 runs as it is."""
    if precision == "fp32":
        return contextlib.nullcontext()
    context: contextlib.AbstractContextManager[Any] = torch.autocast(device.type, dtype=_dtype(precision))
    return context


def load(spec: Spec, source: Source, device: Any, say: Callable[[str], None], saved: Path | None = None) -> Trainee:
    """Load the base, put the adapter on, and leave exactly what shall learn with `requires_grad`.

    `say` takes a sentence for a person; `saved` is the checkpoint to go on from, whose adapter has the right form.
    Raises, before any weights are read, SpecError for targets that the model has not; ModelError for a folder that
    does not load and for an adapter that does not fit.
    """
    precision = precision_of(spec, device)
    lora = spec.lora.enabled
    # A frozen base lies in the compute precision; weights that learn stay in float32 and are cast in the forward pass.
    dtype = _dtype(precision) if lora else torch.float32
    if precision == "fp32" and device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32
    if not lora:
        base = _load_base(source, dtype, spec.training.attention, device)
        return ready(spec, base, base, device, precision, lora=False)
    start = Path(spec.model.adapter) if spec.model.adapter else source.adapter
    start = saved or start
    empty = adapter.skeleton(source.path) if adapter.looks_first(spec, source.path) else None
    targets = adapter.targets_of(spec, empty, partial(adapter.skeleton, source.path)) if empty and not start else None
    quantization = None
    if spec.model.quantization != "none":
        keep = targets.also if targets else adapter.saved_whole(start)
        quantization = quantised.settings(spec.model.quantization, dtype, keep, empty)
    base = _load_base(source, dtype, spec.training.attention, device, quantization)
    quantised.steady(base)
    if start:
        model = adapter.put_saved_on(base, start, source.name)
        if not saved:
            say(f"goes on from the adapter {start}; its rank and targets count, not those of the spec")
    else:
        targets = targets or adapter.targets_of(spec, base, lambda: None)
        model = adapter.put_on(base, adapter.config_of(spec, targets))
        if targets.left:
            say(adapter.frozen(targets))
    if quantization is not None and (share := quantised.unquantised_share(base)) > MUCH:
        say(f"{share:.0%} of the weights are in no linear layer: {spec.model.quantization} leaves them as they are")
    model.peft_config[ADAPTER].base_model_name_or_path = source.name
    return ready(spec, model, base, device, precision, lora=True)


def precision_of(spec: Spec, device: Any) -> auto.Precision:
    """What this device computes in."""
    return auto.precision(
        spec.training.precision,
        device="cuda" if device.type == "cuda" else "cpu",
        bf16=device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False),
    )


def ready(spec: Spec, model: Any, base: Any, device: Any, precision: auto.Precision, *, lora: bool) -> Trainee:
    """The trainee that a model, all of it in place, is."""
    base.config.use_cache = False
    if spec.training.neftune:
        add_noise(base, spec.training.neftune)
    parameters = sum(kind.parameters for kind in by_kind(model))
    return Trainee(model.train(), base, device, precision, lora=lora, parameters=parameters)


def _load_base(source: Source, dtype: Any, attention: str, device: Any, quantization: Any = None) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source.path,
            dtype=dtype,
            # None takes sdpa wherever a model has it. Flash attention is turned to once it is proved (kernels.py).
            attn_implementation=None if attention == "auto" or attention.startswith("flash") else attention,
            device_map={"": device} if device.type == "cuda" or quantization is not None else None,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            **({"quantization_config": quantization} if quantization is not None else {}),
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


def _dtype(precision: auto.Precision) -> Any:
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]
