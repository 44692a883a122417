"""Held-out rows: the right number, the same ones each time, and never a leak."""

from __future__ import annotations

import random
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamahome_tui.data.split import Hashes, classes, group_hash, hashes_of, hold_out, pick, wanted_rows
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


def hashes(numbers: list[int] | range) -> Hashes:
    return hashes_of(b"".join(number.to_bytes(16, "big") for number in numbers))


def test_the_choice_follows_the_seed_and_not_the_order() -> None:
    numbers = list(range(500))
    chosen = hold_out(hashes(numbers), None, 50, 1).tolist()
    assert len(chosen) == 50
    assert chosen == hold_out(hashes(numbers), None, 50, 1).tolist()
    assert chosen != hold_out(hashes(numbers), None, 50, 2).tolist()
    # More rows to hold out: those before stay held out.
    assert set(chosen) < set(hold_out(hashes(numbers), None, 80, 1).tolist())
    groups = [number // 3 for number in numbers]
    held = {numbers[row] for row in hold_out(hashes(numbers), grouped(groups), 50, 1)}
    for seed in range(5):
        mixed = random.Random(seed).sample(numbers, 500)
        assert {mixed[row] for row in hold_out(hashes(mixed), None, 50, 1)} == set(chosen)
        theirs = grouped([groups[number] for number in mixed])
        assert {mixed[row] for row in hold_out(hashes(mixed), theirs, 50, 1)} == held
        assert {mixed[row] for row in pick(hashes(mixed), 9, 1)} == set(pick(hashes(numbers), 9, 1).tolist())


def test_the_choice_is_the_one_it_always_was() -> None:
    """A run that goes on must find its held-out rows where they were."""
    assert hold_out(hashes(range(100)), None, 8, 42).tolist() == [0, 22, 52, 64, 73, 75, 82, 93]


def grouped(groups: list[int]) -> Hashes:
    return np.array([group_hash(str(group) if group else "") for group in groups], np.uint64)


@given(
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 6)), min_size=1, max_size=80),
    st.integers(0, 40),
    st.integers(0, 3),
)
def test_nothing_leaks(rows: list[tuple[int, int]], count: int, seed: int) -> None:
    contents, groups = [content for content, _ in rows], [group for _, group in rows]
    for named in (grouped(groups), None):
        chosen = set(hold_out(hashes(contents), named, count, seed).tolist())
        assert len(chosen) <= count
        kept = set(range(len(rows))) - chosen
        assert not {contents[row] for row in chosen} & {contents[row] for row in kept}
        if named is not None:
            assert not {groups[row] for row in chosen if groups[row]} & {groups[row] for row in kept}


@given(st.lists(st.integers(0, 9), max_size=40))
def test_equal_rows_are_of_one_class(contents: list[int]) -> None:
    found = classes(hashes(contents)).tolist()
    assert [found[0] == one for one in found] == [contents[0] == one for one in contents] if contents else found == []
    assert len(set(found)) == len(set(contents))


def test_a_million_rows_take_little_memory_and_ten_times_as_long_as_a_tenth() -> None:
    chance = np.random.default_rng(0)
    contents = chance.integers(0, 1 << 63, (1_000_000, 2)).astype(np.uint64)
    contents[::7] = contents[0]
    groups = chance.integers(0, 200_000, 1_000_000).astype(np.uint64)

    def seconds(rows: int) -> float:
        began = time.process_time()
        hold_out(contents[:rows], groups[:rows], 500, 42)
        return time.process_time() - began

    assert seconds(1_000_000) < 30 * min(seconds(100_000) for _ in range(2))
    tracemalloc.start()
    try:
        hold_out(contents, groups, 500, 42)
        assert tracemalloc.get_traced_memory()[1] < 150 << 20
        tracemalloc.reset_peak()
        hold_out(contents, None, 500, 42)
        assert tracemalloc.get_traced_memory()[1] < 150 << 20
    finally:
        tracemalloc.stop()
