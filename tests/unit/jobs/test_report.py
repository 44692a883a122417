"""The report of a run is made from its journals: what counts, thinned, without secrets and without foreign markup."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.context import Context
from llamahome_tui.errors import ResourceError
from llamahome_tui.jobs.commands.reporting import report
from llamahome_tui.jobs.report import POINTS, report_of
from llamahome_tui.jobs.report_text import markdown, sparkline
from tests.runfolder import make_run

HOSTILE = "| `x` <b> [go](http://a) \x1b]52;c;eA==\x07\n# title"
EXTRA: tuple[tuple[str, dict[str, Any]], ...] = (
    ("sample", {"step": 0, "prompt": "Say | a", "text": "before"}),
    ("sample", {"step": 400, "prompt": "Say | a", "text": HOSTILE}),
    ("control", {"request": "1", "op": "lr", "value": 1e-4, "outcome": "applied", "reason": "", "step": 120}),
    ("warning", {"step": 130, "message": "token hf_abcdefghijklmnopqrstuvwxyz0123456789"}),
)


def test_a_report_holds_the_run_its_curves_samples_and_requests(tmp_path: Path) -> None:
    run = make_run(tmp_path, "gsm8k", extra=EXTRA)
    made = report_of(run)
    assert made.run["status"] == "completed" and made.run["best"]["step"] == 400
    assert [p[0] for p in made.curves["eval_loss"]] == [0, 100, 200, 300, 400]
    assert (made.samples[0].first_step, made.samples[0].first, made.samples[0].last_step) == (0, "before", 400)
    assert [(one["step"], one["op"], one["outcome"]) for one in made.requests] == [(120, "lr", "applied")]
    text = markdown(made)
    assert "hf_abcdef" not in text + json.dumps(made.to_dict())
    assert "\x1b" not in text and "\n# title" not in text and "    # title" in text
    assert "Say \\| a" in text and "| eval\\_loss |" in text


def test_what_a_later_attempt_measured_again_counts_once(tmp_path: Path) -> None:
    again = (("start", {"attempt": 2, "from_step": 200, "exact": True, "reason": ""}),
             ("metrics", {"step": 300, "loss": 9.0}))  # fmt: skip
    made = report_of(make_run(tmp_path, "twice", extra=again, end="stopped"))
    assert made.curves["loss"][-2:][0][0] == 200 and made.curves["loss"][-1] == (300, 9.0)


def test_a_long_curve_is_thinned_and_keeps_its_ends(tmp_path: Path) -> None:
    steps = 3 * POINTS
    extra = tuple(("metrics", {"step": step, "eval_x": float(step)}) for step in range(steps))
    curve = report_of(make_run(tmp_path, "long", done=0, extra=extra)).curves["eval_x"]
    assert len(curve) <= 2 * POINTS and curve[0] == (0, 0.0) and curve[-1] == (steps - 1, float(steps - 1))
    assert sparkline(curve)[0] == "▁" and sparkline(curve)[-1] == "█" and sparkline([]) == ""


def test_it_is_written_where_it_is_asked_to(context: Context, tmp_path: Path) -> None:
    run = make_run(context.places.state, "a-run", extra=EXTRA)
    for name in ("report.md", "report.json"):
        *_, last = report(context, run.id, to=str(tmp_path / name))
        assert getattr(last, "changed", False)
    assert (tmp_path / "report.md").read_text() == markdown(report_of(run))
    assert json.loads((tmp_path / "report.json").read_text())["run"]["id"] == run.id
    with pytest.raises(ResourceError, match="can't be written"):
        list(report(context, run.id, to=str(tmp_path / "no" / "where.md")))
