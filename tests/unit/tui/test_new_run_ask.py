"""The form of a new run: few keys, every mistake named, and never a forecast of other values than those that stand."""

from __future__ import annotations

import pytest
from textual import events
from textual.widgets import Input

from llamahome_tui.errors import UsageError
from llamahome_tui.training import planned_for
from llamahome_tui.training.forecast import Target
from llamahome_tui.training.planned_for import Room
from llamahome_tui.tui.screens.training import new_run_ask
from llamahome_tui.tui.screens.training.new_run_ask import NewRun, start_arguments
from llamahome_tui.tui.widgets.form import Pick
from tests.looking import shown_text, until
from tests.unit.tui.conftest import MakeApp


async def test_a_forecast_follows_what_is_typed_and_ten_keys_start_a_run(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, dict[str, object]]] = []

    def run_operation(home: object, name: str, arguments: dict[str, object], *, on_result: object) -> None:
        started.append((name, arguments))

    monkeypatch.setattr(new_run_ask, "run_operation", run_operation)
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("N")
        keys = ["d", "tab", "tab", "d", "e", "m", "o"]
        await pilot.press(*keys)
        form = app.screen
        assert isinstance(form, NewRun)
        await until(pilot, lambda: "memory: fits" in shown_text(app) and "weights" in shown_text(app))
        await pilot.press("tab", "x", "!")
        await until(pilot, lambda: "name" in shown_text(app) and "memory: fits" not in shown_text(app))
        await until(pilot, lambda: "letters, digits" in shown_text(app))
        await pilot.press("enter")
        assert not started
        await pilot.press("backspace", "backspace", "enter")
        await until(pilot, lambda: bool(started))
    name, arguments = started[0]
    assert name == "train start"
    assert (arguments["model"], arguments["data"], arguments["detach"]) == ("demo", ["demo"], True)
    assert len(["N", *keys, "enter"]) < 10


def test_what_a_plan_sets_without_a_line_goes_into_the_start() -> None:
    values = {"model": "m", "data": "'a b.jsonl' c.jsonl", "name": ""}
    values |= {key.replace(".", "-"): "" for key in (*new_run_ask.KEYS, *new_run_ask.CHOICES)}
    values["lora-r"] = "8"
    said = start_arguments(values, {"lora.r": 4, "training.optimizer": "paged_adamw_8bit", "lora.enabled": True})
    assert said == {
        "model": "m",
        "data": ["a b.jsonl", "c.jsonl"],
        "set": ["lora.r=8", 'training.optimizer="paged_adamw_8bit"', "lora.enabled=true"],
    }


def test_what_is_wrong_stands_below_the_lines() -> None:
    assert new_run_ask.told(None, UsageError("model.id: must be set")) == ["model.id: must be set"]


async def test_where_it_does_not_fit_f5_sets_the_best_plan(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [80 << 30]
    card = Target("cuda", "a GPU", 80 << 30)
    monkeypatch.setattr(planned_for, "here", lambda _: Room(card, free[0], here=True))
    app = make_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("N", *"demo", "tab", *"demo")
        form = app.screen
        assert isinstance(form, NewRun)
        form.query_one("#field-training-batch_size", Input).value = "16"
        form.query_one("#field-training-gradient_checkpointing", Pick).turn(2)
        await until(pilot, lambda: "memory: fits" in shown_text(app))
        assert form.seen is not None and form.seen.foresight is not None
        free[0] = form.seen.foresight.predicted_bytes - 1
        form.query_one("#field-training-epochs", Input).value = "2"
        await until(pilot, lambda: "DOES NOT FIT" in shown_text(app))
        before = form.values
        await pilot.press("f5")
        await until(pilot, lambda: "memory: fits" in shown_text(app))
        assert form.values != before


async def test_keys_that_come_faster_than_lines_take_them_go_where_they_belong(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("N")
        form = app.screen
        assert isinstance(form, NewRun)
        for key in ("d", "tab", "tab", *"demo", "down", "x"):  # as a terminal hands over what was typed meanwhile
            app.post_message(events.Key(key, key if len(key) == 1 else None))
        await until(pilot, lambda: "x" in "".join(form.values.values()))
        assert (form.values["model"], form.values["data"], form.values["name"]) == ("demo", "demo", "x")
