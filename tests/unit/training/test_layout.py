"""Order, micro-batches and padding, without torch."""

from __future__ import annotations

import random
import subprocess
import sys
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest

from llamahome_tui.training.auto import Micro
from llamahome_tui.training.layout import Mode, Order, micro_batches, padding_share

MODES: tuple[Mode, ...] = get_args(Mode)


def test_order_is_a_permutation_each_epoch_and_depends_on_seed_and_step_alone() -> None:
    order = Order(33, 16, seed=1)
    first = [i for step in range(3) for i in order.rows_of(step)]
    second = [i for step in range(3, 6) for i in order.rows_of(step)]
    assert sorted(first) == sorted(second) == list(range(33))
    assert first != second
    assert [len(order.rows_of(step)) for step in range(3)] == [16, 16, 1]
    assert Order(33, 16, seed=1).rows_of(4) == second[16:32]  # in the middle of a run, without what came before
    assert Order(33, 16, seed=2).rows_of(0) != first[:16]
    assert order.epoch(3) == 1.0


def test_the_order_never_changes_between_versions() -> None:
    """A resume of an older run must see the rows it would have seen."""
    assert Order(10, 4, seed=42).rows_of(0) == [5, 6, 0, 7]
    assert Order(10, 4, seed=42).rows_of(5) == [6, 5]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("micro", [Micro("tokens", 40), Micro("tokens", 200, 20), Micro("rows", 3), Micro("tokens", 1)])
def test_every_row_is_in_one_micro_batch_within_the_limit(mode: Mode, micro: Micro) -> None:
    chance = random.Random(7)
    for _ in range(50):
        lengths = [chance.randint(1, 60) for _ in range(chance.randint(1, 40))]
        indexes = chance.sample(range(len(lengths)), chance.randint(1, len(lengths)))
        groups = micro_batches(indexes, lengths, micro, mode)
        assert sorted(i for g in groups for i in g) == sorted(indexes)
        limit = micro.limit * (max(lengths[i] for i in indexes) if micro.unit == "rows" else 1)
        for group in groups:
            if mode == "packed":
                assert len(group) == 1 or sum(lengths[i] for i in group) <= limit
            else:
                assert micro.fits(len(group), max(lengths[i] for i in group))
        assert groups == micro_batches(indexes, lengths, micro, mode)
        if mode != "plain":
            assert groups == micro_batches(sorted(indexes), lengths, micro, mode)
            assert lengths[groups[0][0]] == max(lengths[i] for i in indexes)


def test_sorted_holds_rows_of_one_length_and_plain_keeps_the_order() -> None:
    lengths = [5, 9, 2, 9, 7, 1, 3, 8]
    assert micro_batches(range(8), lengths, Micro("tokens", 18), "sorted")[0] == [1, 3]  # ties by position
    assert micro_batches(range(8), lengths, Micro("rows", 3), "plain") == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert micro_batches([0, 1], [50, 60], Micro("tokens", 10), "sorted") == [[1], [0]]


def test_sorted_is_cut_where_padding_costs_more_than_one_more_micro_batch() -> None:
    lengths = [100, 98, 20, 19, 3]
    assert micro_batches(range(5), lengths, Micro("tokens", 1000), "sorted") == [[0, 1, 2, 3, 4]]
    assert micro_batches(range(5), lengths, Micro("tokens", 1000, 50), "sorted") == [[0, 1], [2, 3, 4]]
    assert micro_batches(range(5), lengths, Micro("tokens", 1000, 10), "sorted") == [[0, 1], [2, 3], [4]]
    assert micro_batches(range(5), lengths, Micro("tokens", 1000, 10_000), "sorted") == [[0, 1, 2, 3, 4]]
    assert micro_batches([], lengths, Micro("tokens", 1000, 10), "sorted") == []


def test_the_cut_is_the_best_there_is() -> None:
    """Against every way to cut a few rows."""
    chance = random.Random(3)
    for _ in range(100):
        lengths = sorted((chance.randint(1, 50) for _ in range(7)), reverse=True)
        micro = Micro("tokens", chance.choice([60, 120, 400]), chance.choice([1, 10, 40]))
        costs = []
        for cuts in range(2**6):
            edges = [0, *(i + 1 for i in range(6) if cuts >> i & 1), 7]
            groups = [lengths[a:b] for a, b in pairwise(edges)]
            if all(micro.fits(len(g), g[0]) for g in groups):
                costs.append(sum(len(g) * g[0] + micro.call for g in groups))
        found = micro_batches(range(7), lengths, micro, "sorted")
        assert sum(len(g) * lengths[g[0]] + micro.call for g in found) == min(costs)


def test_packed_puts_a_row_where_it_leaves_the_least_room() -> None:
    lengths = [6, 5, 4, 3, 2]
    assert micro_batches(range(5), lengths, Micro("tokens", 10), "packed") == [[0, 2], [1, 3, 4]]
    assert micro_batches(range(5), lengths, Micro("rows", 1), "packed") == [[0], [1], [2, 4], [3]]
    assert micro_batches([], lengths, Micro("tokens", 10), "packed") == []


def test_packed_needs_few_more_sequences_than_there_are_tokens_for() -> None:
    """Best fit decreasing needs at most 11/9 of the best packing, and one (Johnson 1973)."""
    chance = random.Random(1)
    lengths = [chance.randint(1, 500) for _ in range(2000)]
    groups = micro_batches(range(2000), lengths, Micro("tokens", 512), "packed")
    assert len(groups) <= 1 + 11 / 9 * -(-sum(lengths) // 512)


def test_padding_share_by_hand() -> None:
    lengths = np.array([10, 2, 10, 2])
    four = {"global_batch": 4, "seed": 0}
    assert padding_share(lengths, micro=Micro("rows", 4), mode="plain", **four) == 1 - 24 / 40
    assert padding_share(lengths, micro=Micro("rows", 2), mode="sorted", **four) == 0
    assert padding_share(lengths, micro=Micro("tokens", 24), mode="packed", **four) == 0
    assert padding_share(lengths, micro=Micro("tokens", 24), mode="packed", multiple=8, **four) == 0
    assert padding_share(lengths, micro=Micro("rows", 2), mode="sorted", multiple=8, **four) == 1 - 24 / 48
    assert padding_share([], micro=Micro("rows", 2), mode="sorted", **four) == 0


def test_the_layout_loads_no_torch() -> None:
    said = "import sys, llamahome_tui.training.layout; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", said], capture_output=True, text=True).stdout == "False\n"
