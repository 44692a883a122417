"""Order, micro-batches and padding."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

pytest.importorskip("torch")

from llamahome_tui.training.auto import Micro
from llamahome_tui.training.trainer.batches import Order, collate, split, trained_tokens

pytestmark = pytest.mark.torch


@dataclass
class Row:
    ids: list[int]
    mask: list[int]


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


def test_split_keeps_every_row_once_within_the_limit() -> None:
    lengths = [5, 9, 2, 9, 7, 1, 3, 8]
    groups = split(range(8), lengths, Micro("tokens", 18), by_length=True)
    assert sorted(i for g in groups for i in g) == list(range(8))
    assert all(len(g) * max(lengths[i] for i in g) <= 18 for g in groups)
    assert groups[0] == [1, 3]  # the longest first, ties by position
    assert split(range(8), lengths, Micro("rows", 3), by_length=False) == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert split([0, 1], [50, 60], Micro("tokens", 10), by_length=True) == [[1], [0]]


def test_collate_pads_on_the_right_and_points_at_the_token_before_each_trained_one() -> None:
    batch = collate([Row([10, 11, 12, 13], [0, 0, 1, 1]), Row([20, 21], [0, 1])], multiple=8)
    assert batch.ids.shape == (2, 8)
    assert batch.ids[1].tolist() == [20, 21, 0, 0, 0, 0, 0, 0]
    assert batch.positions.tolist() == [1, 2, 8]
    assert batch.labels.tolist() == [12, 13, 21]
    assert (batch.tokens, batch.rows, batch.length) == (6, 2, 8)


def test_a_trained_first_token_has_nothing_that_predicts_it() -> None:
    row = Row([1, 2, 3], [1, 0, 1])
    assert trained_tokens(row) == 1
    assert collate([row]).labels.tolist() == [3]
