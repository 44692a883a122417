"""Results of `evaluate` beside a run: the newest stay, bounded, and what is planted among them does no harm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llamahome_tui.jobs import evaluations
from llamahome_tui.jobs.evaluations import FILES, LONGEST, SAMPLES
from llamahome_tui.jobs.report import report_of
from llamahome_tui.jobs.report_text import markdown
from llamahome_tui.tui.screens.training.report_lines import lines_of
from tests.runfolder import EPOCH, make_run

SECRET = "hf_" + "b" * 34


def result(rows: int = 4, **more: Any) -> dict[str, Any]:
    """A result as the operation gives it."""
    sample = {"file": "/d/a.jsonl", "line": 3, "prompt": "say | a", "expected": "moo", "text": f"# mu {SECRET}",
              "score": 0.0, "base_text": "the", "base_score": None}  # fmt: skip
    compared = {"metric": "exact", "base": 0.25, "tuned": 0.75, "difference": 0.5, "low": -0.1, "high": 0.9}
    changed = {"wrong_to_right": 2, "right_to_wrong": 0, "both_right": 1, "both_wrong": 1, "p": 0.5}
    return {"data": ["/d/a.jsonl"], "held_out": True, "rows": rows, "metric": "exact", "scores": {"exact": 0.75},
            "comparison": [compared], "changed": changed, "samples": [sample]} | more  # fmt: skip


def test_the_newest_results_stay_and_texts_are_bounded(tmp_path: Path) -> None:
    run = make_run(tmp_path, "cow")
    sample = {"text": "x" * 9000, "line": 1}
    for number in range(FILES + 3):
        evaluations.keep(run, result(number, samples=[sample] * 50), EPOCH + number)
    found = evaluations.newest(run)
    assert [one["rows"] for one in found] == list(range(FILES + 2, 2, -1))
    assert {len(one["samples"]) for one in found} == {SAMPLES} and len(found[0]["samples"][0]["text"]) == LONGEST


def test_the_report_has_the_newest_ones_without_a_secret(tmp_path: Path) -> None:
    run = make_run(tmp_path, "cow")
    for number in range(5):
        evaluations.keep(run, result(number), EPOCH + number)
    evaluations.keep(run, result(9, comparison=[], changed=None), EPOCH + 9)
    for name, planted in (("a", "{}"), ("b", "[" * 5000), ("c", json.dumps(result() | {"rows": "x"}))):
        (run.artifacts_dir / f"evaluate-20990101-000000-00000{name}.json").write_text(planted)
    report = report_of(run)
    assert [one["rows"] for one in report.evaluations] == [9, 4, 3]
    text = markdown(report)
    assert "| exact | 0.25 | 0.75 | +0.5 | -0.1 to +0.9 |" in text and "| exact | 0.75 |" in text
    assert "4 held-out rows of a.jsonl" in text and "wrong to right 2" in text and "\n    # mu" in text
    shown = "\n".join(line for line, _ in lines_of(report))
    assert "exact                       0.25        0.75        +0.5  -0.1 to +0.9" in shown
    assert SECRET not in text + shown + json.dumps(report.to_dict())
