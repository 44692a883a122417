"""What this version cannot do of what a spec can say."""

from __future__ import annotations

import pytest

from llamahome_tui.data.formats import FORMATS
from llamahome_tui.errors import DataError
from llamahome_tui.training.support import LIMITS, UNTRAINED, limits, refuse_format


def test_rows_of_two_answers_or_a_verdict_are_refused_and_all_others_are_not() -> None:
    for name in FORMATS:
        if name in UNTRAINED:
            with pytest.raises(DataError) as found:
                refuse_format(name)
            assert found.value.exit == 3 and found.value.error_code == "data.untrained_format"
            assert "data formats" in found.value.hint
        else:
            refuse_format(name)
    assert set(UNTRAINED) == {"preference", "labels"}


def test_every_way_to_batch_is_taken() -> None:
    assert "data.batching" not in LIMITS
    assert not limits({"data.batching": "packed"})
    assert limits({"method.kind": "pretrain"})
