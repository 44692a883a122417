"""Models, Cache, Logs and the resource panel as pictures at two sizes, above planted machines and disks."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from llamahome_tui.cache.scan import Category, Entry
from llamahome_tui.config.places import Places
from llamahome_tui.models.inventory import File, Model
from llamahome_tui.resources.snapshot import Snapshot
from llamahome_tui.start import surroundings
from llamahome_tui.tui.app import LlamaHomeApp
from llamahome_tui.tui.widgets.table import Table
from tests import machines
from tests.conftest import clean_environ

NOW = 1_790_000_000.0
COMMIT = "0e9e39f249a16976918f6564b8830bc894c89659"
Before = Callable[[Pilot[Any]], Awaitable[None]]


@pytest.fixture(params=[(80, 24), (120, 40)], ids=["80x24", "120x40"])
def size(request: pytest.FixtureRequest) -> tuple[int, int]:
    """Columns and rows of the terminal."""
    chosen: tuple[int, int] = request.param
    return chosen


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of day as in UTC, wherever the test runs."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def _app(places: Places, screen: str, snapshot: Snapshot, **more: Any) -> LlamaHomeApp:
    context, _ = surroundings(clean_environ(places.state.parent), "tui")
    app = LlamaHomeApp(context, screen=screen, host="gpubox", clock=lambda: NOW, sampling=False, **more)
    app.sampler = machines.sampler(snapshot)
    return app


def _after(*keys: str, rows: int = 0, text: str = "", then: tuple[str, ...] = (), last: str = "") -> Before:
    """Wait for the list and the panel, press keys, wait for a text; press what comes `then`, wait for the `last`."""

    async def before(pilot: Pilot[Any]) -> None:
        app = pilot.app

        def shown() -> str:
            return "\n".join(strip.text for strip in app.screen._compositor.render_strips())

        async def until(holds: Callable[[], bool]) -> None:
            limit = time.monotonic() + 20
            while not holds():
                assert time.monotonic() < limit, shown()
                await pilot.pause(0.05)

        await until(lambda: app.screen.query_one(Table)._loaded and len(app.screen.query_one(Table).rows) >= rows)
        await until(lambda: "23%" in shown())
        for key in keys:
            await pilot.press(key)
            await pilot.pause()
        await until(lambda: text in shown())
        for key in then:
            await pilot.press(key)
        await until(lambda: last in shown())
        await pilot.pause(0.4)

    return before


def _model(id: str, **more: Any) -> Model:
    fields: dict[str, Any] = {
        "revision": COMMIT, "size_bytes": 2_471_645_608, "freed_bytes": 2_471_645_608, "format": "hf", "dtype": "bf16",
        "parameters": 1_235_814_400, "architecture": "LlamaForCausalLM", "context": 131_072,
        "path": f"/data/hub/models--{id.replace('/', '--')}/snapshots/{COMMIT}", "state": "ok", "reason": "",
        "pinned": False, "last_used": "2026-09-21T10:00:00Z", "used_by": (),
    }  # fmt: skip
    return Model(id=id, **(fields | more))


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four models, one unfinished and one broken."""
    runs = ("20260921-091500-gsm8k-lora", "20260920-180000-support")
    shelf = [
        _model("meta-llama/Llama-3.2-1B-Instruct", used_by=runs),
        _model("Qwen/Qwen3-8B", size_bytes=16_381_516_800, parameters=8_190_735_360, last_used="2026-09-02T10:00:00Z"),
        _model("google/gemma-3-4b-it", state="incomplete", reason="model-00002-of-00002.safetensors is missing"),
        _model(
            "acme/old", state="broken", reason="model.safetensors: the header is cut off", dtype=None, parameters=None
        ),
    ]
    files = [File("model.safetensors", 2_471_645_608), File("tokenizer.json", 9_085_657), File("config.json", 877)]
    where = "llamahome_tui.tui.screens.models.listing"
    monkeypatch.setattr(f"{where}.list_models", lambda *_: shelf)
    monkeypatch.setattr(f"{where}.files_of", lambda _: files)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes disk on a box in use."""
    gib = 1024**3

    def entry(category: Category, kind: str, name: str, size: float, days: float, held: tuple[str, ...] = ()) -> Entry:
        path = Path("/data") / category.value / name
        return Entry(category, kind, name, path, int(size * gib), 7, NOW - days * 86400, held)

    found = [
        entry(Category.MODELS, "model", "Qwen/Qwen3-8B", 15.3, 19),
        entry(Category.MODELS, "model", "meta-llama/Llama-3.2-1B-Instruct", 2.3, 0.1, ("20260921-091500-gsm8k-lora",)),
        entry(Category.TRAINING, "run", "20260921-091500-gsm8k-lora", 1.4, 0.01, ("20260921-091500-gsm8k-lora",)),
        entry(Category.TRAINING, "run", "20260920-180000-support", 1.3, 1),
        entry(Category.TRAINING, "prepared", "3f2a9c", 0.2, 1),
        entry(Category.SYSTEM, "log", "app", 0.02, 0.01),
    ]
    monkeypatch.setattr("llamahome_tui.tui.screens.cache.screen.scan", lambda *_: found)


@pytest.fixture
def logs(places: Places) -> None:
    """An error log with a traceback, a training log, the output of a run."""
    lines = []
    for number in range(120):
        level = "ERROR" if number % 40 == 39 else "WARNING" if number % 15 == 14 else "INFO"
        lines.append(f"2026-09-21T09:{number // 60:02}:{number % 60:02}.000Z {level:<7} step {number} of the day\n")
        if level == "ERROR":
            lines.append('Traceback (most recent call last):\n  File "loop.py", line 3, in step\nValueError: no\n')
    printed = "".join(f"{{'loss': {3 - i * 0.02:.4f}, 'epoch': {i / 100:.2f}}}\n" for i in range(90))
    run = places.runs / "20260921-091500-gsm8k-lora"
    run.mkdir()
    for path, text, age in (
        (places.logs / "app" / "error.log", "".join(lines), 60),
        (places.logs / "models" / "training.log", "".join(lines[:10]), 7200),
        (run / "out.log", printed, 5),
    ):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        os.utime(path, (NOW - age, NOW - age))


class TestModels:
    def test_list(self, snap_compare: Any, models: None, places: Places, size: tuple[int, int]) -> None:
        app = _app(places, "models", machines.box(2))
        assert snap_compare(app, terminal_size=size, run_before=_after(rows=4))

    def test_details(self, snap_compare: Any, models: None, places: Places) -> None:
        before = _after("j", "j", "enter", rows=4, text="incomplete:")
        assert snap_compare(_app(places, "models", machines.bare()), terminal_size=(80, 24), run_before=before)


class TestCache:
    def test_list(self, snap_compare: Any, disk: None, places: Places, size: tuple[int, int]) -> None:
        app = _app(places, "cache", machines.box(2))
        assert snap_compare(app, terminal_size=size, run_before=_after(rows=6))

    def test_category(self, snap_compare: Any, disk: None, places: Places) -> None:
        app = _app(places, "cache", machines.bare(), theme="light")
        assert snap_compare(app, terminal_size=(80, 24), run_before=_after("c", "c", rows=3, text="support"))


class TestLogs:
    def test_list(self, snap_compare: Any, logs: None, places: Places, size: tuple[int, int]) -> None:
        text = "following" if size[0] >= 100 else "error"
        app = _app(places, "logs", machines.box(2))
        assert snap_compare(app, terminal_size=size, run_before=_after(rows=3, text=text))

    def test_log(self, snap_compare: Any, logs: None, places: Places, size: tuple[int, int]) -> None:
        app = _app(places, "logs", machines.bare())
        before = _after("enter", rows=3, text="ValueError", then=("pageup",), last="at ")
        assert snap_compare(app, terminal_size=size, run_before=before)

    def test_filter(self, snap_compare: Any, logs: None, places: Places, size: tuple[int, int]) -> None:
        app = _app(places, "logs", machines.bare())
        before = _after("enter", "v", "v", "slash", "9", "4", rows=3, text="/94/")
        assert snap_compare(app, terminal_size=size, run_before=before)

    def test_empty(self, snap_compare: Any, places: Places) -> None:
        app = _app(places, "logs", machines.bare())
        assert snap_compare(app, terminal_size=(80, 24), run_before=_after(text="No logs yet"))


class TestPanel:
    def test_eight(self, snap_compare: Any, disk: None, places: Places, size: tuple[int, int]) -> None:
        app = _app(places, "cache", machines.box())
        assert snap_compare(app, terminal_size=size, run_before=_after(rows=6))

    def test_one_line(self, snap_compare: Any, disk: None, places: Places, size: tuple[int, int]) -> None:
        app = _app(places, "cache", machines.box())
        assert snap_compare(app, terminal_size=size, run_before=_after("R", rows=6, text="8 GPUs"))

    def test_every_process(self, snap_compare: Any, disk: None, places: Places, size: tuple[int, int]) -> None:
        app = _app(places, "cache", machines.box())
        assert snap_compare(app, terminal_size=size, run_before=_after("R", "R", rows=6, text="pid 4242"))

    def test_split_and_lost(self, snap_compare: Any, disk: None, places: Places, size: tuple[int, int]) -> None:
        app = _app(places, "cache", machines.faulty(), theme="contrast")
        assert snap_compare(app, terminal_size=size, run_before=_after(rows=6))

    def test_hung(self, snap_compare: Any, disk: None, places: Places, size: tuple[int, int]) -> None:
        app = _app(places, "cache", machines.hung())
        assert snap_compare(app, terminal_size=size, run_before=_after(rows=6, text="does not answer"))

    def test_ascii(self, snap_compare: Any, disk: None, places: Places) -> None:
        app = _app(places, "cache", machines.box(), ascii_only=True)
        assert snap_compare(app, terminal_size=(120, 40), run_before=_after(rows=6))
