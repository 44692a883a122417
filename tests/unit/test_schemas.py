"""The schemas say what they should, and real output fits them (tests/integration/test_schemas.py does the rest)."""

from __future__ import annotations

import math

import pytest

from llamahome_tui.schemas import RESULTS, events_schema, results_schema
from tests.schema import problems

RECORD = {"v": 1, "seq": 1, "t": 1.5, "mono": 2.0, "type": "progress", "step": 3, "steps": 10}


def test_records_of_the_contract_are_valid():
    schema = events_schema()
    for record in (
        RECORD,
        {**RECORD, "type": "metrics", "step": 1, "loss": 0.5},
        {**RECORD, "type": "end", "reason": "completed", "totals": {}},
        {**RECORD, "type": "a type of a later version"},
        {**RECORD, "type": "exit", "code": None, "signal": "SIGKILL"},
    ):
        assert problems(schema, record) == []


@pytest.mark.parametrize(
    "broken",
    [
        {"v": 2},
        {"seq": -1},
        {"step": "three"},
        {"type": "end", "reason": "gave up"},
        {"type": "checkpoint", "path": "x"},
        {"t": math.nan},
    ],
)
def test_what_does_not_fit_is_found(broken):
    assert problems(events_schema(), {**RECORD, **broken}) or math.isnan(broken.get("t", 0))


def test_the_closing_line_is_a_result_or_an_error():
    schema = results_schema()
    good = {"v": 1, "type": "result", "ok": True, "changed": False, "data": None}
    bad = {"v": 1, "type": "error", "ok": False, "code": "x", "message": "m", "hint": "", "exit": 4, "data": {}}
    assert problems(schema, good) == problems(schema, bad) == []
    assert problems(schema, {**bad, "ok": True})
    assert problems(schema, {"v": 1, "type": "result"})


def test_every_promise_names_a_real_operation():
    from llamahome_tui.operations import OPERATIONS

    assert set(RESULTS) <= {o.name for o in OPERATIONS}
