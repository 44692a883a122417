"""The Models screen on a real cache with a good, an unfinished and a broken model."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from textual.pilot import Pilot

from llamahome_tui.config.places import Places
from llamahome_tui.context import Context
from llamahome_tui.tui.app import LlamaHomeApp
from llamahome_tui.tui.screens.models.screen import ModelsScreen
from llamahome_tui.tui.widgets.table import Table
from tests.looking import shown_text, until

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _plant(places: Places, name: str, *, weights: bytes | None, config: dict[str, object] | None = None) -> Path:
    """A model in the Hugging Face cache as the library lays it out."""
    repository = places.hub_cache / ("models--" + name.replace("/", "--"))
    snapshot = repository / "snapshots" / COMMIT
    (repository / "blobs").mkdir(parents=True)
    (repository / "refs").mkdir()
    snapshot.mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    files = {"config.json": json.dumps(config or {"architectures": ["LlamaForCausalLM"]}).encode()}
    if weights is not None:
        files["model.safetensors"] = weights
    for number, (file, content) in enumerate(files.items()):
        blob = repository / "blobs" / f"{number:040x}"
        blob.write_bytes(content)
        (snapshot / file).symlink_to(f"../../blobs/{blob.name}")
    return snapshot


def _safetensors(count: int = 64) -> bytes:
    header = json.dumps({"w": {"dtype": "BF16", "shape": [count], "data_offsets": [0, 2 * count]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0" * (2 * count)


@pytest.fixture
def app(places: Places, context: Context) -> LlamaHomeApp:
    _plant(places, "acme/good-1B", weights=_safetensors())
    _plant(places, "acme/broken", weights=b"\xff" * 64)
    _plant(places, "evil/\x1b]52;c;AAAA\x07[@click=app.quit]x", weights=None)
    return LlamaHomeApp(context, screen="models", host="box", sampling=False)


async def _rows(app: LlamaHomeApp, pilot: Pilot[int]) -> dict[str, list[str]]:
    table = app.screen.query_one("#models", Table)
    await until(pilot, lambda: len(table.rows) == 3)
    return {row.cells[0].text: [cell.text for cell in row.cells] for row in table.rows}


async def test_models_with_their_state(app: LlamaHomeApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        rows = await _rows(app, pilot)
        text = shown_text(app)
    assert rows["acme/good-1B"][2:6] == ["64", "bf16", "hf", "ok"]
    assert rows["acme/broken"][5] == "broken"
    assert rows["demo"][5] == "ok"
    assert "\x1b" not in "".join(rows) and "AAAA" not in text


async def test_details_of_the_selected_one(app: LlamaHomeApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await _rows(app, pilot)
        app.screen.query_one("#models", Table).select(f"acme/broken@{COMMIT}")
        await until(pilot, lambda: "broken:" in shown_text(app) and "files 2" in shown_text(app))
        text = shown_text(app)
    assert "model.safetensors" in text and COMMIT[:30] in text and COMMIT[-6:] in text


async def test_narrow_screens_show_details_on_enter(app: LlamaHomeApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await _rows(app, pilot)
        assert "path " not in shown_text(app)
        await pilot.press("enter")
        await until(pilot, lambda: "path " in shown_text(app))
        await pilot.press("enter")
        await until(pilot, lambda: "path " not in shown_text(app))


async def test_details_are_broken_for_the_width_they_have(app: LlamaHomeApp) -> None:
    """At once: what is broken for a width that a scroll bar takes from would be cut off."""
    async with app.run_test(size=(80, 24)) as pilot:
        await _rows(app, pilot)
        screen = app.screen
        assert isinstance(screen, ModelsScreen)
        screen.table.select(screen.table.rows[0].id)
        # Its files are read in a thread and add lines of their own.
        selected = screen.table.selected
        await until(pilot, lambda: screen.poll.value is not None and screen.poll.value.files_of == selected)
        screen._describe()
        before = list(screen.detail._source)
        await pilot.press("enter")
        await until(pilot, lambda: "path " in shown_text(app))
        await pilot.pause(0.3)
        width = screen.detail.scrollable_content_region.width
        assert list(screen.detail._source) == before and max(len(text) for text, _ in before) == width


async def test_a_model_that_comes_later_is_seen_by_its_key(app: LlamaHomeApp, places: Places) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await _rows(app, pilot)
        _plant(places, "acme/later", weights=_safetensors())
        await pilot.press("r")
        table = app.screen.query_one("#models", Table)
        await until(pilot, lambda: "acme/later" in [row.cells[0].text for row in table.rows])
        assert isinstance(app.screen, ModelsScreen)


async def test_a_models_file_that_is_no_toml_is_said(app: LlamaHomeApp, places: Places) -> None:
    places.models_file.write_text("[models\n")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "models.toml" in "".join(shown_text(app).split()))
