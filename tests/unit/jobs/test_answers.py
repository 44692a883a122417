"""Answers on held-out rows over time: by row and step, bounded, and nothing strange in them does harm."""

from __future__ import annotations

from pathlib import Path

from llamahome_tui.jobs import answers
from llamahome_tui.jobs.answers import FILES, LONGEST, ROWS, Answer, Answers
from llamahome_tui.jobs.report import report_of
from llamahome_tui.jobs.report_text import markdown
from llamahome_tui.jobs.store import Run
from tests.runfolder import make_run


def _answer(row: int, text: str, expected: str = "moo") -> Answer:
    return Answer(row, f"say {row}", expected, text, text == expected)


def test_answers_stand_by_row_and_step_and_a_written_step_replaces_the_one_before(tmp_path: Path) -> None:
    run = make_run(tmp_path, "cow")
    answers.leave(run, 0, [_answer(0, "the"), _answer(2, "of")])
    told = Answers(run)
    assert [row.texts for row in told.told()] == [((0, "the"),), ((0, "of"),)]
    answers.leave(run, 40, [_answer(0, "wrong"), _answer(2, "moo")])
    answers.leave(run, 40, [_answer(0, "moo"), _answer(2, "moo")])
    answers.leave(run, 50, [_answer(0, "later")])
    answers.forget_after(run, 40)
    first, last = told.told()
    assert (first.prompt, first.expected, first.texts) == ("say 0", "moo", ((0, "the"), (40, "moo")))
    assert first.right == {40} and last.right == {40}


def test_of_very_many_the_first_and_the_newest_stay_and_texts_are_bounded(tmp_path: Path) -> None:
    run = make_run(tmp_path, "cow")
    long = Answer(0, "x" * 9000 + "end", "y" * 9000, "z" * 9000, False)
    for step in range(3 * FILES):
        answers.leave(run, step, [long] * (ROWS + 1) if step == 0 else [long])
    steps = answers.steps_of(run)
    assert len(steps) <= FILES and steps[0] == 0 and steps[-1] == 3 * FILES - 1
    kept = answers.read(run, 0)
    assert len(kept) == ROWS and kept[0].prompt.endswith("end")
    assert {len(text) for text in (kept[0].prompt, kept[0].expected, kept[0].text)} == {LONGEST}


def test_what_is_no_answer_is_passed_over(tmp_path: Path) -> None:
    run = make_run(tmp_path, "cow")
    answers.leave(run, 4, [_answer(0, "moo")])
    whole = (run.artifacts_dir / "eval-4.jsonl").read_bytes()
    for step, planted in ((5, b'{"row": "a"}\n[]\n{}\n\xff\x00\n' + whole), (6, b"[" * 100_000)):
        (run.artifacts_dir / f"eval-{step}.jsonl").write_bytes(planted)
    (run.artifacts_dir / "eval-7.jsonl").symlink_to("/etc/passwd")
    (run.artifacts_dir / "eval-x.jsonl").write_bytes(whole)
    assert [len(answers.read(run, step)) for step in (4, 5, 6, 7, 8)] == [1, 1, 0, 0, 0]
    assert answers.steps_of(Run.open(run.dir)) == [4, 5, 6, 7]


def test_the_report_has_a_few_rows_beside_what_is_expected_and_no_secret(tmp_path: Path) -> None:
    run = make_run(tmp_path, "cow")
    secret = "hf_" + "a" * 34
    answers.leave(run, 0, [_answer(row, f"# no {secret}") for row in range(9)])
    answers.leave(run, 40, [_answer(row, "moo" if row else "mu") for row in range(9)])
    report = report_of(run)
    assert [(one.prompt, one.first_step, one.last, one.last_right) for one in report.answers] == [
        (f"say {row}", 0, "moo" if row else "mu", bool(row)) for row in range(5)
    ]
    text = markdown(report)
    assert "## Held-out row: say 4" in text and "Step 40, right:\n\n    moo" in text and "Step 0, wrong:" in text
    assert secret not in text
