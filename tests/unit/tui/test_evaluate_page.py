"""`v` on a run's page: the form, what it refuses, the evaluation while it goes on, its end by key, and its table."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from textual.widgets import Input

from llamahome_tui.config.places import Places
from llamahome_tui.errors import UsageError
from llamahome_tui.evaluation import commands
from llamahome_tui.outcome import Outcome, Progress, Result
from llamahome_tui.tui.app import LlamaHomeApp
from llamahome_tui.tui.screens.training.evaluate_ask import arguments_of, words_of
from llamahome_tui.tui.screens.training.evaluate_page import EvaluatePage
from llamahome_tui.tui.screens.training.page import RunPage
from llamahome_tui.tui.widgets.form import Form, Pick
from tests.looking import shown_text, until
from tests.runfolder import make_run
from tests.unit.jobs.test_evaluations import result

MakeApp = Callable[..., LlamaHomeApp]
EMPTY = {"data": "", "compare": "alone", "metric": "exact", "by": "", "expect": "", "rows": ""}


def test_what_is_typed_as_arguments_and_as_a_command_line() -> None:
    values = EMPTY | {
        "data": "'a b.jsonl' c.jsonl",
        "compare": "beside its base",
        "metric": "regex",
        "by": "^{expected}",
    }
    found = arguments_of("cow", values | {"rows": "9", "expect": "x+"}, run=True)
    assert found == {
        "model": "cow", "data": ["a b.jsonl", "c.jsonl"], "metric": "regex", "rows": 9, "compare": "base",
        "pattern": "^{expected}", "expect": "x+",
    }  # fmt: skip
    line = "evaluate cow --data 'a b.jsonl' c.jsonl --rows 9 --compare base --metric regex"
    assert words_of(found).startswith(f"llamahome --batch {line}")
    assert arguments_of("cow", EMPTY, run=True) == {"model": "cow", "data": [], "rows": 0}


@pytest.mark.parametrize(
    ("typed", "run", "said"),
    [
        ({}, False, "data files"),
        ({"data": "'a"}, True, "a quote is open"),
        ({"metric": "regex"}, True, "right if regex needs it"),
        ({"by": "x"}, True, "for regex and command only"),
        ({"rows": "-3"}, True, "rows at most"),
    ],
)
def test_what_is_refused_while_the_form_is_open(typed: dict[str, str], run: bool, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        arguments_of("cow", EMPTY | typed, run=run)


async def test_from_the_form_to_the_table(make_app: MakeApp, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(places.state, "cow", steps=40, done=40)
    go_on, asked, left = threading.Event(), [], []

    def evaluate(context: Any, **arguments: Any) -> Iterator[Outcome]:
        asked.append(arguments)
        try:
            while not go_on.wait(0.02):
                yield Progress("measuring", 5, 20, "rows")
            yield Result(result() | {"left_out": 3, "kept": "artifacts/evaluate-x.json", "seconds": 12.4})
        except GeneratorExit:
            left.append(True)
            raise

    monkeypatch.setattr(commands, "evaluate", evaluate)
    app = make_app(screen="training", run=run.id)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, RunPage) and app.screen.view is not None)
        await pilot.press("v")
        await until(pilot, lambda: isinstance(app.screen, Form) and bool(app.screen.query(Input)))
        await pilot.press("tab", "left", "down", "left", "enter")
        await until(pilot, lambda: "right if command needs it" in shown_text(app))
        assert [pick.value for pick in app.screen.query(Pick)] == ["alone", "command"]
        await pilot.press("right", "up", "right", "enter")
        await until(
            pilot, lambda: isinstance(app.screen, EvaluatePage) and "measuring  5 of 20 rows" in shown_text(app)
        )
        assert "end it" in shown_text(app)
        await pilot.press("escape")
        await until(pilot, lambda: "ended before it was done" in shown_text(app))
        assert left == [True] and isinstance(app.screen, EvaluatePage)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, RunPage))
        go_on.set()
        await pilot.press("v")
        await until(pilot, lambda: isinstance(app.screen, Form) and bool(app.screen.query(Input)))
        await pilot.press("enter")
        await until(pilot, lambda: "4 held-out rows of a.jsonl in 12 s, kept in artifacts/" in shown_text(app))
        text = shown_text(app)
        assert "3 rows are too long" in text and "wrong to right 2" in text and "say | a" in text
        assert "0.25        0.75        +0.5  -0.1 to +0.9" in text
    expected = {"model": run.id, "data": [], "rows": 200, "compare": "base"}
    assert asked[0] | expected == asked[0]
