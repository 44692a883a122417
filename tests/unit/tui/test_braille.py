"""Plots as text: shape, gaps, axes and bounded memory."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from llamahome_tui.tui.widgets.braille import Curve, draw, label, ticks
from llamahome_tui.tui.widgets.plot import Trace


def text(lines: list[list[tuple[str, str]]]) -> list[str]:
    return ["".join(part for part, _ in line) for line in lines]


def test_a_falling_line_falls() -> None:
    drawn = text(draw([Curve([0, 1], [1, 0])], 24, 6, ascii_only=True))
    assert [line.index("*") for line in drawn[:-1]] == sorted(line.index("*") for line in drawn[:-1])
    assert len({len(line) for line in drawn}) == 1


def test_a_gap_stays_empty() -> None:
    ys = [1.0] * 40 + [math.nan] * 40 + [1.0] * 40
    drawn = text(draw([Curve(list(range(120)), ys)], 66, 5, ascii_only=True))
    body = next(line for line in drawn if "*" in line)
    columns = [i for i, c in enumerate(body) if c == "*"]
    assert max(b - a for a, b in pairwise(columns)) > 15


def test_two_curves_keep_their_tones() -> None:
    drawn = draw([Curve([0, 1, 2], [0, 0, 0], "first"), Curve([0, 1, 2], [1, 1, 1], "second")], 30, 6)
    tones = {tone for line in drawn for part, tone in line if part.strip()}
    assert {"first", "second", "dim"} <= tones


def test_nothing_finite_draws_nothing() -> None:
    assert draw([Curve([1, 2], [math.nan, math.inf])], 40, 8) == []
    assert draw([], 40, 8) == []
    assert draw([Curve([1], [1])], 5, 8) == []


def test_one_point_and_a_flat_line_have_axes() -> None:
    assert draw([Curve([7], [0.0])], 30, 6)
    assert draw([Curve([1, 2, 3], [5, 5, 5])], 30, 6)


def test_numbers_are_short() -> None:
    assert [label(v) for v in (0, 2e-4, 1.5e-5, 0.25, 1.234, 123.4, 12_345, 3_200_000, 4e9)] == [
        "0", "2e-4", "1.5e-5", "0.25", "1.23", "123.4", "12.3k", "3.2M", "4G",
    ]  # fmt: skip


def test_ticks_are_round() -> None:
    assert ticks(0, 1000, 6) == [0, 200, 400, 600, 800, 1000]
    assert ticks(0.37, 2.74, 4) == [1, 2]


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=200), st.integers(1, 90), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_any_numbers_fit_the_frame(ys: list[float], width: int, height: int) -> None:
    lines = draw([Curve(list(range(len(ys))), ys)], width, height)
    assert len(lines) <= height
    assert all(sum(len(part) for part, _ in line) == width for line in lines)


def test_a_trace_is_bounded_and_keeps_peaks_ends_and_gaps() -> None:
    trace = Trace(limit=256)
    for i in range(50_000):
        trace.add(i, None if 20_000 <= i < 30_000 else 100.0 if i == 12_345 else math.sin(i / 500))
    curve = trace.curve("first")
    assert len(curve.xs) < 600
    assert curve.xs == tuple(sorted(curve.xs))
    assert max(y for y in curve.ys if math.isfinite(y)) == 100.0
    assert any(not math.isfinite(y) and 20_000 <= x < 30_000 for x, y in zip(curve.xs, curve.ys, strict=True))
    assert curve.xs[-1] > 49_000
    # Old and new are thinned alike; only the newest bucket is still whole.
    assert sum(x < 10_000 for x in curve.xs) > sum(30_000 <= x < 40_000 for x in curve.xs) * 0.6


def test_a_resumed_run_forgets_what_came_after_its_checkpoint() -> None:
    trace = Trace()
    for i in range(100):
        trace.add(i, float(i))
    trace.cut(40)
    assert trace.curve("first").xs[-1] <= 40
