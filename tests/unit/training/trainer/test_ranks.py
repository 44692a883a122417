"""Two processes that take a step together take the step of one; each has its share of the rows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llamahome_tui.training.trainer.ranks import ALONE, Ranks  # noqa: E402
from tests.tinymodel import write_model  # noqa: E402
from tests.unit.training.trainer.objective_cases import CASES, Case  # noqa: E402

pytestmark = pytest.mark.torch

ROOT = Path(__file__).resolve().parents[4]
SCRIPT = "tests.unit.training.trainer.ranks_steps"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process saw, and what each of two did."""
    place = tmp_path_factory.mktemp("ranks")
    folder = write_model(place / "model")
    quiet = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "GLOO_SOCKET_IFNAME": "lo"}
    roles = {"alone": ("0", "1"), "first": ("0", "2"), "second": ("1", "2")}
    started = {
        name: subprocess.Popen(
            [sys.executable, "-m", SCRIPT, str(folder), str(place / name), *role, str(place / "store")],
            env=os.environ | quiet, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for name, role in roles.items()
    }  # fmt: skip
    try:
        for process in started.values():
            said = process.communicate(timeout=300)[1]
            assert process.returncode == 0, said[-3000:]
    finally:
        for process in started.values():
            process.kill()
    return {name: torch.load(place / name) for name in roles}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_two_take_the_step_of_one(found: dict[str, Any], case: Case) -> None:
    """Also where one of them has no row of a step; and both end with the very same weights."""
    alone, first, second = (found[name][case.name] for name in ("alone", "first", "second"))
    for one, two in zip(alone["taken"], first["taken"], strict=True):
        assert two[:5] == pytest.approx(one[:5], rel=1e-5)
        assert two[5] == pytest.approx(one[5], rel=1e-4, abs=1e-5)
    assert first["taken"] == second["taken"]
    for wanted, mine, other in zip(alone["weights"], first["weights"], second["weights"], strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-6)
        assert torch.equal(mine, other)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_every_row_has_one_rank(size: int) -> None:
    lengths = [7, 90, 3, 41, 41, 5, 64, 12]
    rows = [6, 1, 0, 4, 3]
    shares = [Ranks(rank, size).share(rows, lengths) for rank in range(size)]
    assert sorted(row for share in shares for row in share) == sorted(rows)
    assert all(share == [row for row in rows if row in share] for share in shares), "the step's order is kept"
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_alone_has_all() -> None:
    assert ALONE.share([3, 1, 2], [5, 6, 7, 8]) == [3, 1, 2]
    assert ALONE.sum_by_name({"loss": 0.1}) == {"loss": 0.1}
