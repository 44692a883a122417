"""Marked runs side by side: a letter for each, curves along each axis, and a word where there is nothing to compare."""

from __future__ import annotations

from collections.abc import Callable

from llamahome_tui.config.places import Places
from llamahome_tui.tui.app import LlamaHomeApp
from llamahome_tui.tui.screens.training.compare_page import MOST, ComparePage, curves_of
from llamahome_tui.tui.screens.training.screen import TrainingScreen
from llamahome_tui.tui.widgets.braille import Curve, draw
from llamahome_tui.tui.widgets.table import Table
from tests.looking import shown_text, until
from tests.runfolder import EPOCH, make_run

MakeApp = Callable[..., LlamaHomeApp]


async def test_two_marked_runs_by_step_tokens_and_time(make_app: MakeApp, places: Places) -> None:
    for at, name in enumerate(("one", "two", "[b]three")):
        make_run(places.state, name.strip("[b]"), begun=EPOCH + at, done=100)
    app = make_app(screen="training")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(
            pilot, lambda: isinstance(app.screen, TrainingScreen) and len(app.screen.query_one(Table).rows) == 3
        )
        await pilot.press("equals_sign")
        await pilot.pause()
        assert isinstance(app.screen, TrainingScreen)  # one run is no comparison
        await pilot.press("space", "space", "equals_sign")
        await until(pilot, lambda: isinstance(app.screen, ComparePage) and app.screen.found is not None)
        page = app.screen
        assert isinstance(page, ComparePage)
        await until(pilot, lambda: "loss by step" in shown_text(app) and "STATUS" in shown_text(app))
        await pilot.press("x")
        await until(pilot, lambda: page.found is not None and page.found["axis"] == "tokens")
        await pilot.press("x")
        await until(pilot, lambda: "loss by time" in shown_text(app))
        await pilot.press("m")
        await until(pilot, lambda: page.found is not None and page.found["metric"] != "loss")
        assert page.found is not None
        assert [one.curve.mark for one in curves_of(page.found)] == ["A", "B"]
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, TrainingScreen))


def test_more_than_eight_are_said(places: Places) -> None:
    runs = [make_run(places.state, f"r{at}", begun=EPOCH + at, done=0) for at in range(MOST + 2)]
    page = ComparePage(runs)
    assert len(page.runs) == MOST and "the first 8 of 10" in page._title


def test_each_curve_ends_in_its_letter_though_they_end_in_one_place() -> None:
    curves = [Curve((0.0, 1.0), (2.0, 1.0), "first", "A"), Curve((0.0, 1.0), (0.5, 1.0), "second", "B")]
    text = "".join(part for line in draw(curves, 40, 8) for part, _ in line)
    assert "BA" in text and text.count("A") == text.count("B") == 1
