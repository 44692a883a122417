"""Whether this model keeps packed rows apart: tried on it before a step is taken, by a test that can fail.

Rows that lie behind one another in a sequence must be to the model as if each were alone. Attention does that where
positions start again; a layer that carries a state along the sequence does not, unless it is told the bounds and its
kernels heed them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from llamahome_tui.training.trainer import memory
from llamahome_tui.training.trainer.batches import MicroBatch, Row, Seams, pack
from llamahome_tui.training.trainer.evaluate import evaluating
from llamahome_tui.training.trainer.model import Trainee

TEST_TOKENS = 256  # of each row: more than a chunk of linear attention, little enough for any device
# The largest difference a token's hidden state may have, as a share of its length: what other shapes make of rounding
# over many layers, and not more.
TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}
# The same where nothing differs but the tokens of another row: every shape is the same then, and so is the rounding.
SAME_SHAPES = {"fp32": 1e-5, "fp16": 5e-4, "bf16": 5e-4}
VISIBLE = 5.0  # times the tolerance: what rows that do see one another must differ by, or the test shows nothing


@dataclass(frozen=True, slots=True)
class Isolation:
    """What the test found. `seams` is how the model keeps rows apart, None where it does not."""

    seams: Seams | None
    reason: str  # why not, as a phrase; "" where it does


class _Refused(Exception):
    """The model does not take what it was called with."""


def isolation_of(
    trainee: Trainee, rows: Sequence[Row], lengths: Sequence[int], *, bounds_first: bool, multiple: int = 1
) -> Isolation:
    """Pack two or three rows, and compare their hidden states with those of each row alone, and with another before it.

    Rows that are let see one another on purpose must differ far more, else nothing is proved. `bounds_first` for
    attention whose kernels take bounds: it saves them to look for them in every layer. Draws no random number.
    """
    ways: tuple[Seams, ...] = ("bounds", "positions") if bounds_first else ("positions", "bounds")
    chosen = _short(rows, lengths)
    reasons: list[str] = []
    if not chosen:
        return Isolation(None, "no row has two tokens to try it with")
    with evaluating(trainee):
        for seams in ways:
            try:
                reason = _fault(trainee, chosen, seams, multiple)
            except _Refused as refused:
                reason = str(refused)
            if not reason:
                return Isolation(seams, "")
            reasons.append(f"told by {seams}, {reason}")
    return Isolation(None, "; ".join(reasons))


@dataclass(frozen=True, slots=True)
class _Part:
    ids: list[int]
    mask: list[int]


def _short(rows: Sequence[Row], lengths: Sequence[int]) -> list[_Part]:
    """A row of middle length, the shortest and the longest, cut to TEST_TOKENS; the same twice where there are few.

    The longest comes last: what leaks into a row has most places to show there.
    """
    order = sorted((i for i, length in enumerate(lengths) if length > 1), key=lambda i: (lengths[i], i))
    picked = [rows[order[at]] for at in (len(order) // 2, 0, -1)] if order else []
    return [_Part(list(row.ids)[:TEST_TOKENS], list(row.mask)[:TEST_TOKENS]) for row in picked]


def _fault(trainee: Trainee, rows: list[_Part], seams: Seams, multiple: int) -> str:
    """Why rows packed so are not kept apart, or "" where they are."""
    first, *later = rows
    other = _Part(_other_ids(first.ids, later[-1].ids), first.mask)
    packed = _states(trainee, pack(rows, seams, multiple=multiple))
    swapped = _states(trainee, pack([other, *later], seams, multiple=multiple))
    mixed = _states(trainee, pack(rows, seams, multiple=multiple), told=False)
    together = torch.cat([_states(trainee, pack([row], seams), told=False) for row in rows])
    start, end = len(first.ids), len(together)
    apart = _difference(packed[:end], together)
    moved = _difference(swapped[start:end], packed[start:end])
    seen = _difference(mixed[start:end], together[start:])
    tolerance, same = TOLERANCE[trainee.precision], SAME_SHAPES[trainee.precision]
    if not apart <= tolerance:  # so written, a NaN is a fault
        return f"a row is another one beside others (by {_percent(apart)}, where {_percent(tolerance)} may be rounding)"
    if not moved <= same:
        return f"a row changes with the one before it (by {_percent(moved)}, where {_percent(same)} may be rounding)"
    if not seen >= VISIBLE * tolerance:
        return f"nothing is proved: rows that do see one another hardly differ (by {_percent(seen)})"
    return ""


def _percent(share: float) -> str:
    return f"{100 * share:.2g}% of a hidden state"


def _other_ids(ids: list[int], source: list[int]) -> list[int]:
    """As many ids, other ones."""
    turned = (source[::-1] * (len(ids) // len(source) + 1))[: len(ids)]
    return [mine if mine != there else source[0] for there, mine in zip(ids, turned, strict=True)]


def _states(trainee: Trainee, batch: MicroBatch, *, told: bool = True) -> Any:
    """Hidden states (or logits, of a model that gives no others) of a packed batch, float32 [tokens, width]."""
    batch = (batch if told else replace(batch, seams={})).to(trainee.device)
    try:
        given = trainee.base.base_model(input_ids=batch.ids, use_cache=False, **batch.seams)
    except (TypeError, ValueError, AttributeError, ImportError, RuntimeError) as problem:
        if memory.is_exhausted(problem):
            raise
        raise _Refused(f"the model does not take it: {' '.join(str(problem).split())[:200]}") from problem
    states = getattr(given, "last_hidden_state", None)
    return (given.logits if states is None else states)[0].float()


def _difference(found: Any, wanted: Any) -> float:
    """The largest difference of a token's state, as a share of the state's length."""
    lengths = wanted.norm(dim=-1).clamp_min(1e-12)
    return float(((found - wanted).norm(dim=-1) / lengths).max())
