"""The Cache screen on real folders: shares, largest first, categories by key."""

from __future__ import annotations

import pytest

from llamahome_tui.config.places import Places
from llamahome_tui.context import Context
from llamahome_tui.tui.app import LlamaHomeApp
from llamahome_tui.tui.widgets.table import Table
from tests.looking import shown_text, until


@pytest.fixture
def app(places: Places, context: Context) -> LlamaHomeApp:
    for name, size in (("20260101-000000-big", 3_000_000), ("20260102-000000-small", 100_000)):
        folder = places.runs / name
        folder.mkdir(parents=True)
        (folder / "out.log").write_bytes(b"x" * size)
    repository = places.hub_cache / "models--acme--one" / "blobs"
    repository.mkdir(parents=True)
    (repository / ("0" * 40)).write_bytes(b"x" * 9_000_000)
    return LlamaHomeApp(context, screen="cache", host="box", sampling=False)


async def test_largest_first_with_shares(app: LlamaHomeApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        table = app.screen.query_one("#entries", Table)
        await until(pilot, lambda: len(table.rows) >= 3)
        names = [row.cells[2].text for row in table.rows]
        await until(pilot, lambda: "8.6 MiB" in shown_text(app))
        text = shown_text(app)
    ours = [name for name in names if name != "llamahome_tui"]  # the package's bytecode, of whatever size it is
    assert ours == ["acme/one", "20260101-000000-big", "20260102-000000-small"]
    assert "runs and data" in text and "2.9 MiB" in text and "in all" in text


async def test_categories_by_key_and_by_enter(app: LlamaHomeApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        table = app.screen.query_one("#entries", Table)
        await until(pilot, lambda: len(table.rows) >= 3)
        await pilot.press("c")
        await until(pilot, lambda: [row.cells[2].text for row in table.rows] == ["acme/one"])
        await pilot.press("c")
        await until(pilot, lambda: len(table.rows) == 2)
        await pilot.press("enter")
        await until(pilot, lambda: len(table.rows) >= 3)


async def test_measured_again_by_key(app: LlamaHomeApp, places: Places) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        table = app.screen.query_one("#entries", Table)
        await until(pilot, lambda: len(table.rows) >= 3)
        (places.runs / "20260103-000000-huge").mkdir()
        (places.runs / "20260103-000000-huge" / "out.log").write_bytes(b"x" * 20_000_000)
        await pilot.press("r")
        await until(pilot, lambda: "huge" in table.rows[0].cells[2].text)
        await pilot.press("g")
        await until(pilot, lambda: str(places.runs / "20260103-000000-huge")[:40] in shown_text(app))
