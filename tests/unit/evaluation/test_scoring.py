"""When an answer is right, what changed between two models, and how sure that is, against numbers made by hand."""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from llamahome_tui.errors import ConfigError
from llamahome_tui.evaluation.figures import Answer, Layout, Model, changed, compared, scores, shown
from llamahome_tui.evaluation.scoring import Rule, problem
from llamahome_tui.evaluation.statistics import interval, mcnemar
from llamahome_tui.evaluation.verdict import Failed, judge, words_of

GSM = r"#### *(.+)"


@pytest.mark.parametrize(
    ("rule", "expected", "written", "score"),
    [
        (Rule("exact"), "4", " 4\n", 1),
        (Rule("exact"), "4", "4.", 0),
        (Rule("exact", expect=GSM), "2+2\n#### 4", "so\n#### 4", 1),
        (Rule("exact", expect=GSM), "#### 4", "4", 0),
        (Rule("exact", expect=GSM), "#### 1\n#### 4", "#### 4", 1),
        (Rule("exact", expect=r"\d+"), "it is 4", "7, no: 4", 1),
        (Rule("contains"), "4", "it is 4.", 1),
        (Rule("contains", expect=GSM), "2+2\n#### 4", "The answer: 4", 1),
        (Rule("contains"), "4", "five", 0),
        (Rule("regex", pattern=r"\bis {expected}\b"), "4.5", "it is 4.5!", 1),
        (Rule("regex", pattern=r"\bis {expected}\b"), "4.5", "it is 405", 0),
        (Rule("command"), "4", "4", None),
    ],
)
def test_when_an_answer_is_right(rule: Rule, expected: str, written: str, score: float | None) -> None:
    assert rule.score(expected, written) == score


def test_what_is_no_regular_expression() -> None:
    assert problem("a(b") and not problem("x {expected} y{2}")


@pytest.mark.parametrize(
    ("worse", "better", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (1, 9, 22 / 1024), (0, 6, 2 / 64), (3, 12, 2 * (1 + 15 + 105 + 455) / 2**15)],
)
def test_mcnemar_is_the_binomial_counted_out(worse: int, better: int, p: float) -> None:
    assert mcnemar(worse, better) == pytest.approx(p)
    assert mcnemar(better, worse) == pytest.approx(p)


def test_mcnemar_of_many_rows_is_near_the_normal_one() -> None:
    assert mcnemar(4000, 4200) == pytest.approx(math.erfc((200 - 1) / math.sqrt(8200) / math.sqrt(2)), rel=0.01)


def test_an_interval_is_near_the_normal_one_and_repeats() -> None:
    chance = np.random.default_rng(3)
    base = [(float(x), 1.0) for x in chance.random(400) < 0.4]
    tuned = [(float(x), 1.0) for x in chance.random(400) < 0.6]
    differences = np.array([t[0] - b[0] for b, t in zip(base, tuned, strict=True)])
    low, high = interval(base, tuned, lambda sums: sums[..., 0] / sums[..., 1], 1)
    half = 1.96 * differences.std() / math.sqrt(len(differences))
    assert (low, high) == pytest.approx((differences.mean() - half, differences.mean() + half), abs=0.01)
    assert (low, high) == interval(base, tuned, lambda sums: sums[..., 0] / sums[..., 1], 1)


def _model(verdicts: str, losses: list[float]) -> Model:
    answers = {at: Answer(f"a{at}", {"r": 1.0, "w": 0.0, "?": None}[one], 1, "end") for at, one in enumerate(verdicts)}
    return Model({at: (loss, at, at + 1) for at, loss in enumerate(losses)}, answers)


def test_figures_weigh_by_tokens_and_leave_out_what_has_no_verdict() -> None:
    layout = Layout("rows", 4, [True] * 4)
    base, tuned = _model("rwr?", [1.0, 2.0, 3.0, 4.0]), _model("wrrr", [0.5, 1.0, 1.5, 2.0])
    found = scores(layout, "exact", base)
    assert found == pytest.approx({
        "loss": 1.0, "perplexity": math.e, "token_accuracy": 0.6, "exact": 2 / 3,
    })  # fmt: skip
    table = {line["metric"]: line for line in compared(layout, "exact", base, tuned, 0)}
    assert (table["loss"]["base"], table["loss"]["tuned"], table["loss"]["difference"]) == (1.0, 0.5, -0.5)
    assert table["loss"]["low"] == pytest.approx(-0.5) == table["loss"]["high"]  # every row is half as far off
    assert (table["exact"]["rows"], table["exact"]["difference"]) == (3, 0.0)
    what = {"right_to_wrong": 1, "wrong_to_right": 1, "both_right": 1, "both_wrong": 0, "p": 1.0}
    assert changed(4, base, tuned) == what
    assert shown(4, 3, tuned, base) == [0, 1, 2]


def test_pairs_are_told_apart_by_the_likelihood_of_a_token() -> None:
    model = Model({0: (2.0, 0, 2), 1: (9.0, 0, 3), 2: (8.0, 0, 2), 3: (3.0, 0, 3)}, {})
    found = scores(Layout("pairs", 2, [True] * 2), "", model)
    assert found["loss"] == 2.5  # of the chosen answers
    assert (found["preference_accuracy"], found["preference_margin"]) == (0.5, pytest.approx((2 - 3) / 2))


def test_labels_measure_the_good_answers_and_how_far_the_bad_ones_are() -> None:
    model = Model({0: (2.0, 1, 2), 1: (9.0, 0, 3), 2: (6.0, 1, 2)}, {})
    found = scores(Layout("labels", 3, [True, False, True]), "", model)
    assert (found["loss"], found["preference_margin"]) == (2.0, pytest.approx(-2.0 + 3.0))


def _judge(folder: Path, body: str, timeout: float = 60.0) -> float:
    (folder / "judge.py").write_text(f"import json, os, sys, time\nrow = json.load(sys.stdin)\n{body}\n")
    words = words_of(f"{sys.executable} judge.py", folder, os.environ)
    return judge(words, {"text": "4", "expected": "4"}, folder, {**os.environ, "HF_TOKEN": "hf_canary"}, timeout)


def test_a_command_judges_by_its_exit_or_its_number(tmp_path: Path) -> None:
    assert _judge(tmp_path, "sys.exit(row['text'] != row['expected'])") == 1
    assert _judge(tmp_path, "sys.exit(1)") == 0
    assert _judge(tmp_path, "print('thinking'); print(0.25)") == 0.25
    assert _judge(tmp_path, "sys.exit('HF_TOKEN' in os.environ)") == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("print('no such module'); sys.exit(3)", "exit code 3: no such module"),
        ("print(7)", "a score is from 0 to 1"),
        ("os.kill(os.getpid(), 9)", "signal 9"),
    ],
)
def test_a_command_that_fails_gives_no_verdict(tmp_path: Path, body: str, said: str) -> None:
    with pytest.raises(Failed, match=said):
        _judge(tmp_path, body)


def test_a_command_that_takes_too_long_is_killed_with_what_it_started(tmp_path: Path) -> None:
    body = "import subprocess; open('pid', 'w').write(str(subprocess.Popen(['sleep', '600']).pid)); time.sleep(600)"
    with pytest.raises(Failed, match="killed after 3 s"):
        _judge(tmp_path, body, timeout=3.0)
    if (tmp_path / "pid").exists():
        stat = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")
        for _ in range(200):
            if not stat.exists() or stat.read_text().split()[2] == "Z":
                break
            time.sleep(0.05)
        else:
            pytest.fail("its child lives on")


@pytest.mark.parametrize("command", ["no-such-judge --x", "'open", "./missing.sh"])
def test_a_command_that_is_not_there_is_refused(tmp_path: Path, command: str) -> None:
    with pytest.raises(ConfigError) as caught:
        words_of(command, tmp_path, os.environ)
    assert (caught.value.exit, caught.value.error_code) == (3, "evaluate.command")
