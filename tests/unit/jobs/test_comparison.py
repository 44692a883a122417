"""Runs side by side: only what counts, at the same x, and no held-out losses of different rows."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.batch.comparing import compared_lines
from llamahome_tui.batch.paper import Paper
from llamahome_tui.context import Context
from llamahome_tui.errors import NotFoundError, UsageError
from llamahome_tui.jobs.answers import Answer, leave
from llamahome_tui.jobs.commands.comparing import compare_runs
from llamahome_tui.jobs.comparison import compare, look
from llamahome_tui.jobs.course import POINTS, Series, course_of
from llamahome_tui.jobs.store import Run
from llamahome_tui.outcome import Note, Result
from llamahome_tui.schemas import RESULTS
from tests.runfolder import EPOCH, make_run
from tests.schema import problems

DATA = {"files": {"/a/train.jsonl": "1" * 64}, "decided_by": {"/m/tokenizer.json": "2" * 64}, "eval_rows": 8}


def a_run(state: Path, name: str, *, noted: dict[str, Any] = DATA, at: int = 0, **spec: dict[str, Any]) -> Run:
    run = make_run(state, name, begun=EPOCH + at, extra=(("phase", {"phase": "model", "data": noted}),))
    job = json.loads((run.dir / "spec.json").read_text())
    for part, values in spec.items():
        job["spec"].setdefault(part, {}).update(values)
    (run.dir / "spec.json").write_text(json.dumps(job))
    return Run(run.id, run.dir)


def compared(*runs: Run, metric: str = "eval_loss", axis: Any = "step") -> dict[str, Any]:
    return compare([look(run) for run in runs], metric, axis)


def journal(path: Path, records: list[dict[str, Any]]) -> None:
    lines = [
        json.dumps({"v": 1, "seq": n, "t": EPOCH + n, **one}, separators=(",", ":")) for n, one in enumerate(records, 1)
    ]
    path.write_text("".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize("seed", range(20))
def test_what_counts_is_what_a_plain_fold_keeps(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    records: list[dict[str, Any]] = []
    kept: list[tuple[int, float, float]] = []  # the oracle: everything, cut at each start
    worked, reached = 0.0, 0
    for attempt in range(chance.randint(1, 5)):
        begun = chance.randint(0, reached) if attempt else 0
        mono = chance.uniform(0, 1e6)
        records.append({"type": "start", "from_step": begun, "attempt": attempt + 1, "mono": mono})
        kept = [point for point in kept if point[0] <= begun]
        step, since = begun, 0.0
        for _ in range(chance.randint(0, 30)):
            step, since = step + chance.randint(1, 9), since + chance.random()
            value = chance.choice([chance.random(), None])
            records.append({"type": "metrics", "step": step, "loss": value, "mono": mono + since})
            if value is not None:
                kept.append((step, round(worked + since, 3), value))
        worked, reached = worked + since, step
    journal(tmp_path / "events.jsonl", records)
    course = course_of(tmp_path / "events.jsonl")
    found = course.series["loss"].points() if "loss" in course.series else []
    assert [(s, v) for s, _, v in found] == [(s, v) for s, _, v in kept]
    assert [t for _, t, _ in found] == pytest.approx([t for _, t, _ in kept], abs=2e-3)
    if kept:
        assert course.series["loss"].lowest == min(found, key=lambda p: p[2])


def test_a_very_long_series_keeps_its_peaks_and_its_ends() -> None:
    chance = random.Random(3)
    values = [(step, float(step), chance.random()) for step in range(50 * POINTS)]
    series = Series()
    for point in values:
        series.add(point)
    found = series.points()
    assert len(found) <= 2 * POINTS and found[0] == values[0] and found[-1] == values[-1]
    assert set(found) <= set(values) and [p[0] for p in found] == sorted(p[0] for p in found)
    assert {min(values, key=lambda p: p[2]), max(values, key=lambda p: p[2])} <= set(found)


def test_tokens_lie_on_the_line_between_two_places_where_they_are_known(tmp_path: Path) -> None:
    journal(
        tmp_path / "events.jsonl",
        [
            {"type": "start", "from_step": 0, "mono": 0.0},
            {"type": "metrics", "step": 5, "loss": 2.0, "mono": 1.0},
            {"type": "progress", "step": 10, "tokens": 1000, "mono": 2.0},
            {"type": "metrics", "step": 12, "loss": 1.0, "mono": 3.0},
        ],
    )
    assert course_of(tmp_path / "events.jsonl").curve("loss", "tokens") == [(500.0, 2.0)]


def test_values_stand_at_the_same_x_and_nothing_is_made_up(tmp_path: Path) -> None:
    paths = [tmp_path / "state" / name for name in ("a", "b")]
    runs = [make_run(path, path.name, done=0) for path in paths]
    for run, at in zip(runs, ((0, 40, 80), (0, 30, 100)), strict=True):
        records: list[dict[str, Any]] = [{"type": "start", "from_step": 0, "mono": 0.0}]
        records += [{"type": "metrics", "step": step, "eval_x": float(step), "mono": 1.0 + step} for step in at]
        journal(run.events_path, records)
    (found,) = [one for one in compared(*runs, metric="eval_x")["aligned"] if one["metric"] == "eval_x"]
    assert found["x"] == [0, 10, 20, 30, 40, 50, 60, 70, 80, 100]
    assert found["values"][runs[0].id] == [0, 0, 0, 0, 40, 40, 40, 40, 80, None]
    assert found["values"][runs[1].id] == [0, 0, 0, 30, 30, 30, 30, 30, 30, 100]


def test_what_differs_is_named_and_what_is_the_same_is_not(tmp_path: Path) -> None:
    runs = a_run(tmp_path, "a", training={"lr": 1e-4}), a_run(tmp_path, "b", at=9, training={"lr": 2e-4, "seed": 1})
    found = {one["key"]: list(one["values"].values()) for one in compared(*runs)["differences"]}
    assert found == {"training.lr": [1e-4, 2e-4], "training.seed": [None, 1]}


@pytest.mark.parametrize(
    ("data", "spec", "reason"),
    [
        ({**DATA, "files": {"/a/train.jsonl": "3" * 64}}, {}, "by their sha256"),
        ({**DATA, "eval_rows": 9}, {}, "held 8 rows out"),
        ({**DATA, "decided_by": {"/m/tokenizer.json": "4" * 64}}, {}, "tokenizer or template"),
        (DATA, {"data": {"split_seed": 7}}, "data.split_seed is 42"),
        (DATA, {"method": {"kind": "dpo"}}, "different objectives: sft in"),
    ],
)
def test_losses_of_other_rows_are_not_compared(tmp_path: Path, data: Any, spec: Any, reason: str) -> None:
    found = compared(a_run(tmp_path, "a"), a_run(tmp_path, "b", at=9, noted=data, **spec))
    assert not found["comparable"] and found["best"] is None and any(reason in one for one in found["why_not"])


def test_the_same_rows_by_another_name_are_the_same(tmp_path: Path) -> None:
    moved = {**DATA, "files": {"/elsewhere/t.jsonl": "1" * 64}}
    found = compared(a_run(tmp_path, "a"), a_run(tmp_path, "b", at=9, noted=moved))
    assert found["same_eval_rows"] and found["comparable"]
    assert compared(a_run(tmp_path, "c", at=20, noted={}), a_run(tmp_path, "d", at=30))["same_eval_rows"] is None


def test_answers_to_the_same_rows_are_paired(tmp_path: Path) -> None:
    runs = a_run(tmp_path, "a"), a_run(tmp_path, "b", at=9)
    for run, right in zip(runs, ("110000", "111110"), strict=True):
        leave(run, 400, [Answer(n, f"p{n}", "x", "x", one == "1") for n, one in enumerate(right)])
    (found,) = compared(*runs)["answers"]
    assert (found["rows"], found["wins"], found["losses"], found["ties"]) == (6, 3, 0, 3)
    assert found["p"] == 0.25 and found["difference"] == 0.5  # 2 / 2**3
    assert found["low"] <= 0.5 <= found["high"] and not found["samples"][0]["right"]


def test_the_best_has_the_right_direction_and_the_table_says_so(tmp_path: Path) -> None:
    runs = a_run(tmp_path, "a"), a_run(tmp_path, "b", at=9)
    with runs[1].events_path.open("a") as file:
        for name, value in (("eval_loss", 0.01), ("eval_exact", 0.5)):
            record = {"v": 1, "seq": 9999, "t": EPOCH + 999, "mono": 4e9 + 999, "type": "metrics", "step": 400}
            file.write(json.dumps({**record, name: value}) + "\n")
        file.write("no record\n")
    found = compared(*runs)
    assert found["best"] == {"run": runs[1].id, "value": 0.01, "step": 400}
    assert found["runs"][1]["unreadable_lines"] == 1
    assert compared(*runs, metric="eval_exact")["higher_is_better"]
    text = "\n".join(compared_lines(found, Paper()))
    assert "best: B, eval_loss 0.01 at step 400 (lowest)" in text and "held-out rows: the same in all" in text


def test_the_command_takes_runs_or_a_tag_and_refuses_what_is_no_comparison(context: Context) -> None:
    state = context.places.state
    one = a_run(state, "a")
    with pytest.raises(UsageError, match="needs two runs, and 1 is meant"):
        list(compare_runs(context, (one.id, "latest")))
    other = make_run(state, "wrapped", begun=EPOCH + 9, kind="exec", command=("true",), done=-1)
    *told, last = compare_runs(context, (one.id, other.id))
    assert isinstance(last, Result) and "kind exec" in last.data["runs"][1]["fault"]
    assert any(isinstance(said, Note) and "not known of" in said.text for said in told)
    assert problems(RESULTS["runs compare"], json.loads(json.dumps(last.data))) == []
    assert "kind exec" in "\n".join(compared_lines(last.data, Paper(symbols=False)))
    with pytest.raises(NotFoundError, match="none of these runs has it"):
        list(compare_runs(context, (one.id, other.id), metric="nothing"))
    with pytest.raises(NotFoundError):
        list(compare_runs(context, (one.id, "none")))
    with pytest.raises(UsageError, match="not both"):
        list(compare_runs(context, (one.id, other.id), tag="x"))
    *_, listed = compare_runs(context, status="completed")
    assert isinstance(listed, Result) and len(listed.data["runs"]) == 2
    assert asdict(listed)["changed"] is False
