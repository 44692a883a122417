"""Plans that fit where a spec does not: what is changed, what it then takes, and what that costs in words.

Every plan keeps the effective batch. What costs no fidelity stands first, then what costs little, and a plan that
changes more than one that fits already is not offered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

from llamahome_tui.training import auto

if TYPE_CHECKING:
    from llamahome_tui.training.forecast import Forecast
    from llamahome_tui.training.shape import Spec

_MOST: Final = 6  # plans that are offered
_SHORTEST: Final = 128  # tokens
_LOST: Final = {"drop": "left out", "truncate": "cut off", "split": "split", "error": "refused"}


@dataclass(frozen=True, slots=True)
class Plan:
    """A change of the spec that fits. `note` says what it costs."""

    set: Mapping[str, Any]
    predicted_bytes: int
    seconds_per_epoch: float | None
    note: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "set": dict(self.set),
            "predicted_bytes": self.predicted_bytes,
            "seconds_per_epoch": self.seconds_per_epoch,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class _Change:
    """Some keys. `rank`: 0 gives the same model, 1 nearly, 2 a coarser base, 3 leaves text out; `time`: a factor."""

    set: Mapping[str, Any]
    rank: int
    time: float
    note: str


def plans(
    spec: Spec,
    longest: int,
    room: int,
    asked: Callable[[Spec], Forecast],
    seconds: float | None,
) -> tuple[Plan, ...]:
    """The plans that need no more than `room` bytes, best first; `asked` forecasts a changed spec.

    `longest` is the longest row in tokens, `seconds` the time of an epoch as the spec has it (None: not known).
    """
    singles = list(_changes(spec, longest))
    fitting: list[tuple[_Change, int]] = []
    for size in (1, 2, 3):
        for some in combinations(singles, size):
            if len({key for one in some for key in one.set}) < sum(len(one.set) for one in some):
                continue
            joined = _joined(some)
            if any(kept.set.items() <= joined.set.items() for kept, _ in fitting):
                continue
            needed = asked(changed(spec, joined.set)).predicted_bytes
            if needed <= room:
                fitting.append((joined, needed))
    fitting.sort(key=lambda found: (found[0].rank, found[0].time, len(found[0].set), found[1]))
    return tuple(
        Plan(one.set, needed, None if seconds is None else round(seconds * one.time, 1), one.note)
        for one, needed in fitting[:_MOST]
    )


def changed(spec: Spec, values: Mapping[str, Any]) -> Spec:
    """The spec with dotted keys set."""
    for key, value in values.items():
        table, _, name = key.partition(".")
        spec = replace(spec, **{table: replace(getattr(spec, table), **{name: value})})
    return spec


def words_of(values: Mapping[str, Any]) -> str:
    """The `--set` words of a plan."""
    return "".join(
        f" --set {key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in values.items()
    )


def _changes(spec: Spec, longest: int) -> Iterator[_Change]:
    training, lora = spec.training, spec.lora.enabled
    rows = training.batch_size if isinstance(training.batch_size, int) else training.global_batch
    for smaller in dict.fromkeys(size for size in (rows // 2, 1) if 0 < size < rows or training.batch_size == "auto"):
        if smaller >= 1:
            size = f"{smaller} row{'s' if smaller > 1 else ''} at a time"
            yield _Change({"training.batch_size": smaller}, 0, 1.0, f"the same batch in more, smaller parts ({size})")
    if training.gradient_checkpointing in ("auto", False):
        # A forward pass more: of four passes' worth under an adapter a third of half, else of six.
        again = 1.5 if lora else 4 / 3
        half = 1 + (again - 1) / 2
        yield _Change({"training.gradient_checkpointing": 0.5}, 0, half, "half of the layers are computed twice")
        yield _Change({"training.gradient_checkpointing": True}, 0, again, "every layer is computed twice")
    optimizer = auto.optimizer(training.optimizer, lora=lora)
    if optimizer == "adamw":
        yield _Change({"training.optimizer": "adamw_8bit"}, 1, 1.0, "the optimiser's state is kept in 8 bits")
    if optimizer in ("adamw", "adamw_8bit"):
        note = "the optimiser's state is kept in 8 bits and moves to the host's memory when it must"
        yield _Change({"training.optimizer": "paged_adamw_8bit"}, 1, 1.1, note)
    if lora and spec.model.quantization == "none":
        for name, note in (("int8", "the frozen base is kept in 8 bits"), ("nf4", "the frozen base is kept in 4 bits")):
            yield _Change({"model.quantization": name}, 2, 1.0, f"{note}, which costs some quality and time")
    length = longest // 2
    while length >= _SHORTEST:
        values: dict[str, Any] = {"data.max_length": length}
        if "data.long" not in spec.given:  # by itself it would refuse to leave out so many
            values["data.long"] = "truncate"
        lost = _LOST[values.get("data.long", spec.data.long)]
        yield _Change(values, 3, 1.0, f"rows over {length} tokens are {lost}")
        length //= 2


def _joined(some: tuple[_Change, ...]) -> _Change:
    values: dict[str, Any] = {}
    time = 1.0
    for one in some:
        values |= one.set
        time *= one.time
    return _Change(values, max(one.rank for one in some), time, "; ".join(one.note for one in some))
