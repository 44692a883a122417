"""What the rows of an evaluation add up to: a figure for each model, their difference, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Measured = tuple[float, int, int]  # of a sequence: summed cross-entropy, tokens found likeliest, tokens that count


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model wrote to a row; `score` None: nobody could say."""

    text: str
    score: float | None
    tokens: int
    finish: str


@dataclass(slots=True)
class Model:
    """All that is known of one model: by sequence, and by row."""

    measured: dict[int, Measured]
    answers: dict[int, Answer]


@dataclass(frozen=True, slots=True)
class Layout:
    """Which sequences the rows have: one, or of a pair the chosen and the rejected one. `good`: the verdict on each."""

    kind: str
    rows: int
    good: Sequence[bool]

    def first(self, row: int) -> int:
        """The number of a row's first sequence."""
        return row * (2 if self.kind == "pairs" else 1)


@dataclass(frozen=True, slots=True)
class Figure:
    """`parts` are a row's numbers by model, and `value` makes the figure of their sums over the rows."""

    name: str
    parts: Callable[[Model, int], Sequence[float] | None]
    value: Callable[[Any], Any]
    higher: bool


def figures(layout: Layout, metric: str) -> list[Figure]:
    """The figures that rows of this kind have; each is a function of sums over rows."""
    from numpy import errstate, exp

    def answer(model: Model, row: int) -> Sequence[float] | None:
        return model.measured[layout.first(row)] if layout.good[row] else None

    def ratio(at: int) -> Callable[[Any], Any]:
        def value(sums: Any) -> Any:
            with errstate(divide="ignore", invalid="ignore"):
                return sums[..., at] / sums[..., -1]

        return value

    def perplexity(sums: Any) -> Any:
        with errstate(over="ignore"):
            return exp(ratio(0)(sums))

    found = [
        Figure("loss", answer, ratio(0), higher=False),
        Figure("perplexity", answer, perplexity, higher=False),
        Figure("token_accuracy", answer, ratio(1), higher=True),
    ]

    def likelihood(model: Model, sequence: int) -> float:
        loss, _, tokens = model.measured[sequence]
        return -loss / tokens

    if layout.kind == "pairs":

        def margin(model: Model, row: int) -> Sequence[float]:
            first = layout.first(row)
            more = likelihood(model, first) - likelihood(model, first + 1)
            return (more, float(more > 0), 1.0)

        found += [
            Figure("preference_accuracy", margin, ratio(1), higher=True),
            Figure("preference_margin", margin, ratio(0), higher=True),
        ]
    if layout.kind == "labels" and any(layout.good) and not all(layout.good):

        def apart(model: Model, row: int) -> Sequence[float]:
            good = layout.good[row]
            each = likelihood(model, row)
            return (each, 1.0, 0.0, 0.0) if good else (0.0, 0.0, each, 1.0)

        def value(sums: Any) -> Any:
            with errstate(divide="ignore", invalid="ignore"):
                return sums[..., 0] / sums[..., 1] - sums[..., 2] / sums[..., 3]

        found.append(Figure("preference_margin", apart, value, higher=True))
    if metric:

        def right(model: Model, row: int) -> Sequence[float] | None:
            one = model.answers.get(row)
            return None if one is None or one.score is None else (one.score, 1.0)

        found.append(Figure(metric, right, ratio(0), higher=True))
    return found


def scores(layout: Layout, metric: str, model: Model) -> dict[str, float | None]:
    """Each figure of a model over the rows that have it."""
    import numpy as np

    found: dict[str, float | None] = {}
    for figure in figures(layout, metric):
        rows = [parts for row in range(layout.rows) if (parts := figure.parts(model, row)) is not None]
        number = float(figure.value(np.sum(np.asarray(rows, np.float64), axis=0))) if rows else math.nan
        found[figure.name] = number if math.isfinite(number) else None
    return found


def compared(layout: Layout, metric: str, base: Model, tuned: Model, seed: int) -> list[dict[str, Any]]:
    """The table: base, tuned, difference and its 95% interval, over the rows that both have the figure of."""
    import numpy as np

    from llamahome_tui.evaluation.statistics import interval

    table: list[dict[str, Any]] = []
    for figure in figures(layout, metric):
        both = [(figure.parts(base, row), figure.parts(tuned, row)) for row in range(layout.rows)]
        pairs = [(one, other) for one, other in both if one is not None and other is not None]
        numbers = [math.nan] * 4
        if pairs:
            one, other = ([pair[at] for pair in pairs] for at in (0, 1))
            before, after = (float(figure.value(np.sum(np.asarray(x, np.float64), axis=0))) for x in (one, other))
            numbers = [before, after, *interval(one, other, figure.value, seed)]
        before, after, low, high = numbers
        line = {"base": before, "tuned": after, "difference": after - before, "low": low, "high": high}
        shown = {name: number if math.isfinite(number) else None for name, number in line.items()}
        table.append({"metric": figure.name, **shown, "rows": len(pairs), "higher_is_better": figure.higher})
    return table


def changed(rows: int, base: Model, tuned: Model) -> dict[str, Any]:
    """How many verdicts changed, right being a score of at least one half, and McNemar's exact p-value."""
    from llamahome_tui.evaluation.statistics import mcnemar

    counts = dict.fromkeys(("right_to_wrong", "wrong_to_right", "both_right", "both_wrong"), 0)
    for row in range(rows):
        name = change(base.answers.get(row), tuned.answers.get(row))
        if name:
            counts[name] += 1
    return {**counts, "p": mcnemar(counts["right_to_wrong"], counts["wrong_to_right"])}


def change(base: Answer | None, tuned: Answer | None) -> str:
    """What became of a row; "" where one of the verdicts is missing."""
    if base is None or tuned is None or base.score is None or tuned.score is None:
        return ""
    before, after = base.score >= 0.5, tuned.score >= 0.5
    if before == after:
        return "both_right" if after else "both_wrong"
    return "right_to_wrong" if before else "wrong_to_right"


def shown(rows: int, most: int, tuned: Model, base: Model | None) -> list[int]:
    """Rows worth a look: each kind of outcome in turn, what got worse first, within a kind in their order."""
    found: dict[str, list[int]] = {}
    for row in range(rows):
        one = tuned.answers.get(row)
        if one is None:
            continue
        if base is None:
            name = "" if one.score is None else "both_right" if one.score >= 0.5 else "both_wrong"
        else:
            name = change(base.answers.get(row), one)
        found.setdefault(name, []).append(row)
    order = ("right_to_wrong", "wrong_to_right", "both_wrong", "both_right", "")
    kinds = {name: found.get(name, []) for name in order}
    chosen: list[int] = []
    for turn in range(max(map(len, kinds.values()), default=0)):
        chosen += [listed[turn] for listed in kinds.values() if turn < len(listed)]
    return chosen[:most]
