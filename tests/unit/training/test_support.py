"""What this version cannot do of what a spec can say."""

from __future__ import annotations

import pytest

from llamahome_tui.training.support import LIMITS, limits


@pytest.mark.parametrize(
    ("key", "value"),
    [("data.batching", "packed"), ("data.weights", [2.0, 0.5]), ("training.max_workers", 4), ("data.format", "text")],
)
def test_what_preparation_and_batching_do_is_taken(key: str, value: object) -> None:
    assert key not in LIMITS and not limits({key: value})
