"""A hundred kills over all objectives: losses, evaluations and weights are bitwise those of undisturbed runs."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.forge import Forge
from tests.objective_kills import campaign, make_bench

pytestmark = [pytest.mark.torch, pytest.mark.slow]


def test_a_hundred_kills_change_no_bit(forge: Forge, tmp_path: Path) -> None:
    tally = campaign(make_bench(forge, tmp_path), 100, seed=1)
    print(tally.as_dict())
    assert tally.total >= 100
    assert not tally.as_dict()["stages_missed"], tally.stages
