"""Rows as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

pytest.importorskip("torch")

from llamahome_tui.training.trainer.batches import collate, trained_tokens

pytestmark = pytest.mark.torch


@dataclass
class Row:
    ids: list[int]
    mask: list[int]


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
