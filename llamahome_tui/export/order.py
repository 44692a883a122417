"""What is to be exported and how it is recognised: made by the operation, kept in the job, obeyed by the child."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from llamahome_tui.export.gguf.smaller import SMALLER

ADAPTER: Final = "adapter"  # the PEFT folder
MERGED: Final = "merged"  # the base with the adapter in it
WHOLE: Final = "model"  # what full fine-tuning has made
KEY: Final = "export"  # of a job

# Largest difference of the held-out loss, relative to that of what was trained (to 0.1 where that is smaller: a model
# that knows its rows by heart would be refused for the last digits of nothing). An adapter's files are copied, and
# float32 only adds in another order; a merge in 16 bits rounds every weight that the adapter changes.
EXACT: Final = 1e-4
ROUNDED: Final = 5e-3
FOUR_BITS: Final = 5e-2  # rounds every weight to one of 16 steps of its block
LEAST_LOSS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Order:
    """An export. Paths are absolute; `base_files` and `weight_files` are fingerprints of what goes in."""

    run: str
    form: str
    place: str
    step: int | None  # of the checkpoint; None: what the finished run has left
    weights: str
    base: str
    base_name: str  # as an adapter names it
    model: str  # as the spec names it
    revision: str
    quantization: str
    precision: str  # what a quantised base was computed in
    template: str
    tolerance: float | None
    base_files: Mapping[str, str]
    weight_files: Mapping[str, str]
    gguf: str = ""  # the type of one GGUF file instead of safetensors: f16, bf16, q8_0, q4_k_m

    @property
    def key(self) -> dict[str, Any]:
        """What makes two exports the same one."""
        return {
            "run": self.run,
            "form": self.form,
            "base": dict(self.base_files),
            "weights": dict(self.weight_files),
            "quantization": self.quantization,
            **({"gguf": self.gguf} if self.gguf else {}),
        }

    def to_dict(self) -> dict[str, Any]:
        """For a job."""
        return asdict(self)

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> Order:
        """The order of an export's job."""
        return cls(**job[KEY])


def tolerance_of(order: Order, dtype: str) -> float:
    """What the proof allows: as asked, else by what the form does to numbers. `dtype` as safetensors writes it."""
    if order.tolerance is not None:
        return order.tolerance
    if order.gguf:
        return FOUR_BITS if order.gguf in SMALLER else ROUNDED
    return EXACT if order.form == ADAPTER or dtype in ("F32", "F64") else ROUNDED
