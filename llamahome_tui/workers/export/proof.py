"""The proof of an export: its loss on rows that the run held out, beside that of what was trained, on its own base."""

from __future__ import annotations

import gc
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llamahome_tui.errors import ModelError
from llamahome_tui.export.order import ADAPTER, LEAST_LOSS, WHOLE, Order
from llamahome_tui.export.tensors import stored_in
from llamahome_tui.training.trainer import adapter as adapters
from llamahome_tui.training.trainer import quantised
from llamahome_tui.workers import evaluate

if TYPE_CHECKING:
    from llamahome_tui.context import Context
    from llamahome_tui.jobs.store import Run

TOKENS = 16_384  # of the rows that are read at most; one row always is
DRAWN_ROWS, DRAWN_TOKENS = 16, 64
_TOGETHER = 2_048  # tokens
_SMALL = 8 << 30  # bytes of float32 weights up to which they are computed so


@dataclass(frozen=True, slots=True)
class Row:
    """Tokens, and which of them count."""

    ids: Sequence[int]
    mask: Sequence[int]


@dataclass(frozen=True, slots=True)
class Proof:
    """Losses per token that counts. `kind` is held_out, or random where the run held nothing out."""

    kind: str
    rows: int
    tokens: int
    trained: float
    exported: float
    tolerance: float

    @property
    def difference(self) -> float:
        """Relative, as tolerances are; infinite where a loss is no number."""
        found = abs(self.exported - self.trained) / max(abs(self.trained), LEAST_LOSS)
        return found if math.isfinite(found) else math.inf

    @property
    def holds(self) -> bool:
        """Whether the export may be published."""
        return self.difference <= self.tolerance

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; a number that is none is null."""
        told = {**asdict(self), "difference": self.difference}
        return {name: None if isinstance(one, float) and not math.isfinite(one) else one for name, one in told.items()}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model as `evaluate.measure` takes one."""

    model: Any
    device: Any


def held_out(context: Context, run: Run, folder: Path) -> list[Row]:
    """Rows that the run holds out, drawn until there are tokens enough.

    Raises DataError where it holds out none, or its files are not there as it has read them.
    """
    from llamahome_tui.evaluation.rows import read
    from llamahome_tui.evaluation.source import drawn, of_run

    source = of_run(context, run, folder, ())
    paths, only = drawn(source, lambda *_: None)
    found = read(paths, source.data, folder, 0, 0, lambda *_: None, only, source.now)
    rows = [Row(list(one.row.sequences[0].ids), list(one.row.sequences[0].mask)) for one in found.asked]
    random.Random(0).shuffle(rows)
    kept: list[Row] = []
    for row in rows:
        if kept and sum(len(one.ids) for one in kept) + len(row.ids) > TOKENS:
            break
        kept.append(row)
    return kept


def drawn_rows(vocabulary: int) -> list[Row]:
    """Rows of tokens drawn by a fixed seed: on these, too, an export must say what was trained."""
    chance = random.Random(0)
    return [
        Row([chance.randrange(vocabulary) for _ in range(DRAWN_TOKENS)], [1] * DRAWN_TOKENS) for _ in range(DRAWN_ROWS)
    ]


def trained_loss(order: Order, rows: Sequence[Row], poll: Callable[[], None]) -> tuple[float, int]:
    """Of what was trained, on the base as the run had it: loss and number of tokens that count."""
    weights = Path(order.weights)
    if order.form == WHOLE:
        return _loss(_plain(weights), rows, poll)
    quantization = None
    if order.quantization != "none":
        empty = adapters.skeleton(Path(order.base))
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[order.precision]
        quantization = quantised.settings(order.quantization, dtype, adapters.saved_whole(weights), empty)
    return _loss(_adapted(Path(order.base), weights, quantization), rows, poll)


def exported_loss(order: Order, folder: Path, rows: Sequence[Row], poll: Callable[[], None]) -> tuple[float, int]:
    """The same of the export, loaded as anybody would."""
    if order.form != ADAPTER:
        return _loss(_plain(folder), rows, poll)
    if order.quantization != "none":
        return trained_loss(replace(order, weights=str(folder)), rows, poll)
    return _loss(_adapted(Path(order.base), folder, None), rows, poll)


def loss_with(
    folder: Path, weights: Mapping[str, torch.Tensor], rows: Sequence[Row], poll: Callable[[], None]
) -> tuple[float, int]:
    """The same of `weights` in a model as in `folder`. Raises ModelError where it has no place for one of them."""
    model = _plain(folder)
    if unexpected := model.load_state_dict(dict(weights), strict=False).unexpected_keys:
        raise ModelError(f"{folder}: the model has no {unexpected[0]}", code="model.not_loadable")
    return _loss(model, rows, poll)


def _plain(folder: Path, quantization: Any = None) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    numbers = sum(math.prod(one.shape) for one in stored_in(folder).values())
    dtype = torch.float32 if 4 * numbers <= _SMALL else torch.bfloat16
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            **({} if quantization is None else {"quantization_config": quantization, "device_map": {"": "cpu"}}),
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelError(f"{folder} does not load: {error}", code="model.not_loadable") from error
    quantised.steady(model)
    return model.eval()


def _adapted(base: Path, folder: Path, quantization: Any) -> Any:
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(_plain(base, quantization), folder, local_files_only=True).eval()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"{folder} is no adapter for {base}: {error}",
            code="model.adapter",
            hint="see what the run was trained on: llamahome --batch runs show RUN",
        ) from error


def _loss(model: Any, rows: Sequence[Row], poll: Callable[[], None]) -> tuple[float, int]:
    from llamahome_tui.workers.generate import together

    loaded: Any = Loaded(model, torch.device("cpu"))
    total, count = 0.0, 0
    for group in together([len(row.ids) for row in rows], 0, _TOGETHER):
        poll()
        chosen: list[Any] = [rows[i] for i in group]
        for entropy, _, tokens in evaluate.measure(loaded, chosen):
            total, count = total + entropy, count + tokens
    del model, loaded
    gc.collect()
    return total / max(1, count), count
