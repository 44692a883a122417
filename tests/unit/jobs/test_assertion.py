"""Conditions on metrics: every operator, odd forms, and values that are no numbers."""

from __future__ import annotations

import math

import pytest

from llamahome_tui.errors import UsageError
from llamahome_tui.jobs.assertion import read_condition


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("eval_loss<1.2", 1.1, True),
        ("eval_loss<1.2", 1.2, False),
        ("eval_loss<=1.2", 1.2, True),
        ("eval_exact>=0.9", 0.9, True),
        ("eval_exact > 90%", 0.91, True),
        ("eval_exact>90%", 0.9, False),
        ("step==100", 100, True),
        ("step!=100", 100, False),
        ("lr<1e-4", 5e-5, True),
        ("x.y/z-1>-.5", 0, True),
        ("loss<1", math.nan, False),
        ("loss>1", math.nan, False),
        ("loss!=1", math.nan, True),
        ("loss<1", None, False),
        ("loss<1", math.inf, False),
    ],
)
def test_holds(text: str, value: float | None, holds: bool) -> None:
    assert read_condition(text).holds(value) is holds


@pytest.mark.parametrize(
    "text", ["", "eval_loss", "<1", "eval_loss<", "eval_loss=1", "1<2", "a<1 and b<2", "loss<nan", "loss<<1"]
)
def test_other_forms_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_condition(text)
    assert "runs assert" in caught.value.hint
