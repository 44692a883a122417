"""The Logs screen on real files: pick, follow, filter; what is in a log never acts on the terminal."""

from __future__ import annotations

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from llamahome_tui.config.places import Places
from llamahome_tui.context import Context
from llamahome_tui.tui.app import LlamaHomeApp
from llamahome_tui.tui.screens.logs.pane import LogLines
from llamahome_tui.tui.widgets.table import Table
from tests.looking import shown_text, until


@pytest.fixture
def app(places: Places, context: Context) -> LlamaHomeApp:
    (places.logs / "app").mkdir(parents=True)
    lines = []
    for number in range(300):
        level = "ERROR" if number % 100 == 50 else "INFO"
        lines.append(f"2026-01-01T00:00:00.000Z {level:<7} number {number}\n")
    (places.logs / "app" / "error.log").write_text("".join(lines))
    run = places.runs / "20260101-101500-demo"
    run.mkdir(parents=True)
    (run / "out.log").write_text("\x1b]52;c;AAAA\x07step 1\x1b[2J\n[@click=app.quit]step 2[/red]\n")
    return LlamaHomeApp(context, screen="logs", host="box", sampling=False)


async def _listed(app: LlamaHomeApp, pilot: Pilot[int]) -> Table:
    table = app.screen.query_one("#files", Table)
    await until(pilot, lambda: len(table.rows) >= 2)
    return table


async def test_pick_and_read_on_a_narrow_screen(app: LlamaHomeApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await _listed(app, pilot)
        assert "demo 01-01 10:15" in shown_text(app)
        await pilot.press("enter")
        await until(pilot, lambda: "number 299" in shown_text(app))
        assert "following" in shown_text(app) and "demo 01-01" not in shown_text(app)
        await pilot.press("q")
        await until(pilot, lambda: "demo 01-01 10:15" in shown_text(app))


async def test_follow_and_count_while_scrolled_up(app: LlamaHomeApp, places: Places) -> None:
    path = places.logs / "app" / "error.log"
    async with app.run_test(size=(80, 24)) as pilot:
        await _listed(app, pilot)
        await pilot.press("enter")
        await until(pilot, lambda: "number 299" in shown_text(app))
        with path.open("a") as file:
            file.write("2026-01-01T00:00:00.000Z INFO    fresh one\n")
        await until(pilot, lambda: "fresh one" in shown_text(app))
        await pilot.press("pageup")
        with path.open("a") as file:
            file.write("2026-01-01T00:00:00.000Z INFO    fresh two\n" * 3)
        await until(pilot, lambda: "+3 lines" in shown_text(app))
        assert "fresh two" not in shown_text(app)
        await pilot.press("G")
        await until(pilot, lambda: "fresh two" in shown_text(app) and "+3" not in shown_text(app))
        await pilot.press("g")
        await until(pilot, lambda: "number 0 " in shown_text(app) + " " and "number 0" in shown_text(app))


async def test_the_place_stays_when_lines_come_before(app: LlamaHomeApp, places: Places) -> None:
    path = places.logs / "app" / "error.log"
    path.write_text("".join(f"number {number}\n" for number in range(20_000)))
    async with app.run_test(size=(80, 24)) as pilot:
        await _listed(app, pilot)
        await pilot.press("enter")
        lines = app.screen.query_one(LogLines)
        await until(pilot, lambda: "number 19999" in shown_text(app))
        await until(pilot, lambda: len(lines._source) >= 1000)
        lines._go(300)
        await pilot.pause()
        first = _first(app)
        for _ in range(10):
            await pilot.press("pageup")
        seen = _first(app)
        await until(pilot, lambda: len(lines._source) > 2500)
        await pilot.pause()
        assert _first(app) == seen < first
        assert "at 9" in shown_text(app)


def _first(app: LlamaHomeApp) -> int:
    """The number in the first line of the log in view."""
    return int(next(row for row in shown_text(app).splitlines() if "number" in row).split()[1])


async def test_filter_while_typing_and_by_level(app: LlamaHomeApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await _listed(app, pilot)
        await pilot.press("enter")
        await until(pilot, lambda: "number 299" in shown_text(app))
        await pilot.press("slash", *"number 1[01]$")
        await until(pilot, lambda: "number 10" in shown_text(app) and "number 299" not in shown_text(app))
        assert "number 11" in shown_text(app)
        await pilot.press("left_parenthesis")
        await until(pilot, lambda: "unterminated" in shown_text(app))
        await pilot.press("escape")
        await until(pilot, lambda: "number 299" in shown_text(app))
        await pilot.press("v", "v", "v")
        await until(pilot, lambda: "error and above" in shown_text(app) and "number 250" in shown_text(app))
        assert "number 299" not in shown_text(app)
        await pilot.press("q")
        await until(pilot, lambda: "number 299" in shown_text(app))


async def test_a_pattern_that_may_take_for_ever_is_refused(app: LlamaHomeApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await _listed(app, pilot)
        await pilot.press("enter")
        await pilot.press("slash")
        app.screen.query_one(Input).value = "(a+)+$"
        await until(pilot, lambda: "take for ever" in shown_text(app))


@pytest.mark.parametrize("threat", ["T08"])
async def test_a_hostile_log_is_only_text(app: LlamaHomeApp, threat: str) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        table = await _listed(app, pilot)
        await pilot.press("G", "enter")
        await until(pilot, lambda: "step 1" in shown_text(app))
        text = shown_text(app)
        assert table.selected is not None and "demo" in table.selected
    assert "AAAA" not in text and "\x1b" not in text and "[@click=app.quit]step 2[/red]" in text


async def test_without_logs_it_names_what_makes_some(context: Context, places: Places) -> None:
    app = LlamaHomeApp(context, screen="logs", host="box", sampling=False)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "No logs yet" in shown_text(app))
        assert "llamahome --batch demo" in shown_text(app)
