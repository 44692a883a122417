"""Learning-rate schedules."""

from __future__ import annotations

import pytest

from llamahome_tui.training.trainer.schedule import factor


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant", "wsd"])
def test_warms_up_to_the_peak_and_never_leaves_the_range(kind: str) -> None:
    values = [factor(kind, step, 100, 10) for step in range(100)]
    assert values[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert values[10] == 1.0
    assert all(0.0 < v <= 1.0 for v in values)


def test_shapes() -> None:
    assert factor("cosine", 55, 100, 10) == pytest.approx(0.5)
    assert factor("linear", 55, 100, 10) == pytest.approx(0.5)
    assert factor("constant", 99, 100, 10) == 1.0
    assert [factor("wsd", s, 100, 10) for s in (50, 79, 80, 90, 99)] == pytest.approx([1, 1, 1, 0.5, 0.05])


@pytest.mark.parametrize("kind", ["cosine", "linear", "wsd"])
def test_ends_near_zero_but_still_learns(kind: str) -> None:
    assert 0.0 < factor(kind, 99, 100, 10) < 0.06


def test_without_warmup_and_with_one_step() -> None:
    assert factor("cosine", 0, 1, 0) == 1.0
    assert factor("linear", 0, 1, 1) == 1.0
