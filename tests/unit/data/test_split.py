"""Held-out rows: the right number, the same ones each time, and never a leak."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamahome_tui.data.split import hold_out, wanted_rows
from llamahome_tui.errors import DataError


@pytest.mark.parametrize(
    ("setting", "rows", "wanted"),
    [
        ("auto", 100_000, 500), ("auto", 10_000, 200), ("auto", 5_000, 100), ("auto", 1_000, 100), ("auto", 100, 20),
        ("auto", 4, 0), (0.1, 50, 5), (0.001, 50, 1), (7, 50, 7), (7.0, 50, 7), (0, 50, 0),
    ],
)  # fmt: skip
def test_how_many(setting: float | str, rows: int, wanted: int) -> None:
    assert wanted_rows(setting, rows) == wanted


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(DataError, match="only 50"):
        wanted_rows(50, 50)


def hashes(rows: int) -> list[bytes]:
    return [number.to_bytes(16, "big") for number in range(rows)]


def test_the_choice_follows_the_seed_and_not_the_order() -> None:
    rows = hashes(500)
    chosen = hold_out(rows, [""] * 500, 50, 1)
    assert len(chosen) == 50
    assert chosen == hold_out(rows, [""] * 500, 50, 1)
    assert chosen != hold_out(rows, [""] * 500, 50, 2)
    backwards = hold_out(rows[::-1], [""] * 500, 50, 1)
    assert {rows[row] for row in chosen} == {rows[::-1][row] for row in backwards}
    # More rows to hold out: those before stay held out.
    assert set(chosen) < set(hold_out(rows, [""] * 500, 80, 1))


@given(
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 6)), min_size=1, max_size=80),
    st.integers(0, 40),
    st.integers(0, 3),
)
def test_nothing_leaks(rows: list[tuple[int, int]], count: int, seed: int) -> None:
    contents = [content.to_bytes(16, "big") for content, _ in rows]
    groups = ["" if group == 0 else str(group) for _, group in rows]
    chosen = set(hold_out(contents, groups, count, seed))
    assert len(chosen) <= count
    kept = set(range(len(rows))) - chosen
    assert not {contents[row] for row in chosen} & {contents[row] for row in kept}
    assert not {groups[row] for row in chosen if groups[row]} & {groups[row] for row in kept}
