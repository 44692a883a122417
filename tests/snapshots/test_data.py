"""The data view as pictures at two sizes, from a real file that holds what rows may hold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from llamahome_tui.start import surroundings
from llamahome_tui.tui.app import LlamaHomeApp
from llamahome_tui.tui.screens.training.data_page import DataPage
from llamahome_tui.tui.screens.training.data_subject import of_words
from tests.conftest import clean_environ
from tests.runfolder import EPOCH

SIZES = [(80, 24), (120, 40)]
ROWS = 600
WORDS = ["alpaca", "bright", "canyon", "desert", "evening", "feather", "glacier", "harbour", "island", "juniper"]


def _row(number: int) -> str:
    asked = f"Question {number}: " + " ".join(WORDS[(number * at) % 10] for at in range(1, 2 + number * 7 % 23))
    said = f"Answer {number}.\n" + " ".join(WORDS[(number + at) % 10] for at in range(number * 3 % 11))
    if number == 3:
        said = "\tnames: \u202eabc\u202c, Zoë, 日本, \x1b[31mred\x1b[0m"
    messages = [{"role": "system", "content": "Be brief."}] if number % 2 else []
    messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    return json.dumps({"messages": messages})


@pytest.fixture
def folder(home: Path) -> Iterator[Path]:
    """A working folder with a fixed name, as its path is shown."""
    place = Path("/tmp/llamahome-pictures")
    place.mkdir(exist_ok=True)
    lines = [_row(number) for number in range(ROWS)]
    lines[7] = json.dumps({"messages": [{"role": "user", "content": "nobody answers"}]})
    lines[12] = '{"messages": [{"role": "user", "content": "cut o'
    lines[300] = lines[30]
    (place / "support.jsonl").write_text("\n".join(lines) + "\n")
    pairs = [{"prompt": f"Name {at} colours.", "chosen": "red\nblue", "rejected": "a horse"} for at in range(2, 9)]
    (place / "pairs.jsonl").write_text("\n".join(json.dumps(pair) for pair in pairs) + "\n")
    yield place
    shutil.rmtree(place)


def application(home: Path, folder: Path, **more: Any) -> LlamaHomeApp:
    context, _ = surroundings(clean_environ(home), "tui")
    context.places.ensure()
    return LlamaHomeApp(replace(context, cwd=folder), host="gpubox", clock=lambda: EPOCH, sampling=False, **more)


def after(
    *keys: str, file: str = "support.jsonl", model: str = "demo", ready: Callable[[DataPage], bool] = lambda page: True
) -> Callable[[Pilot[Any]], Awaitable[None]]:
    """Open the view on a file, press keys, and wait until everything that comes from threads is there."""

    async def before(pilot: Pilot[Any]) -> None:
        app = pilot.app
        assert isinstance(app, LlamaHomeApp)
        page = DataPage(of_words(app.context, file, model))
        await app.push_screen(page)
        await _until(pilot, lambda: page._listing.done and page._listing.lines and _counted(page))
        for key in keys:
            await pilot.press(key)
            await pilot.pause()
        await _until(pilot, lambda: ready(page) and _counted(page))
        await pilot.pause(0.6)

    return before


def _counted(page: DataPage) -> bool:
    """Every row in view has its tokens, and so has the open one."""
    listing, looks = page._listing, page._looks
    if page.subject_of_view.model_dir is None or page.pane in ("stats", "bad"):
        return True
    if page._opened is not None and (looks.looked is None or looks.looked.number != page._opened.line.number):
        return False
    lines = [listing.lines.get(at) for at in range(*page.rows.in_view())]
    return (page.pane == "row" and not page.has_class("-wide")) or all(
        line is not None and (line.sample is None or line.number in looks.counts) for line in lines
    )


def _open(page: DataPage) -> bool:
    return page._opened is not None


async def _until(pilot: Pilot[Any], holds: Callable[[], Any]) -> None:
    for _ in range(400):
        if holds():
            return
        await pilot.pause(0.05)
    raise AssertionError("the screen never got there")


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "120x40"])
class TestData:
    """Each part of the view at both sizes."""

    def test_rows(self, snap_compare: Any, home: Path, folder: Path, size: tuple[int, int]) -> None:
        assert snap_compare(application(home, folder), terminal_size=size, run_before=after("j", "j"))

    def test_tokens(self, snap_compare: Any, home: Path, folder: Path, size: tuple[int, int]) -> None:
        keys = ("j", "j", "j", "enter", "right", "right", "right")
        assert snap_compare(application(home, folder), terminal_size=size, run_before=after(*keys, ready=_open))

    def test_edges_in_ascii(self, snap_compare: Any, home: Path, folder: Path, size: tuple[int, int]) -> None:
        before = after("j", "j", "j", "enter", "e", ready=_open)
        assert snap_compare(application(home, folder, ascii_only=True), terminal_size=size, run_before=before)

    def test_raw(self, snap_compare: Any, home: Path, folder: Path, size: tuple[int, int]) -> None:
        assert snap_compare(application(home, folder), terminal_size=size, run_before=after("enter", "v", ready=_open))

    def test_pair(self, snap_compare: Any, home: Path, folder: Path, size: tuple[int, int]) -> None:
        before = after("enter", file="pairs.jsonl", ready=_open)
        assert snap_compare(application(home, folder), terminal_size=size, run_before=before)

    def test_filter(self, snap_compare: Any, home: Path, folder: Path, size: tuple[int, int]) -> None:
        before = after("slash", *"glacier 2", ready=lambda page: page._listing.typed == "glacier 2")
        assert snap_compare(application(home, folder), terminal_size=size, run_before=before)

    def test_statistics(self, snap_compare: Any, home: Path, folder: Path, size: tuple[int, int]) -> None:
        before = after("t", ready=lambda page: page.stats.value is not None)
        assert snap_compare(application(home, folder), terminal_size=size, run_before=before)

    def test_statistics_light(self, snap_compare: Any, home: Path, folder: Path, size: tuple[int, int]) -> None:
        before = after("t", ready=lambda page: page.stats.value is not None)
        assert snap_compare(application(home, folder, theme="light"), terminal_size=size, run_before=before)

    def test_bad(self, snap_compare: Any, home: Path, folder: Path, size: tuple[int, int]) -> None:
        before = after("b", ready=lambda page: page.bad.value is not None)
        assert snap_compare(application(home, folder), terminal_size=size, run_before=before)

    def test_a_bad_row(self, snap_compare: Any, home: Path, folder: Path, size: tuple[int, int]) -> None:
        before = after("b", ready=lambda page: page.bad.value is not None)

        async def opened(pilot: Pilot[Any]) -> None:
            await before(pilot)
            await pilot.press("j", "enter")
            await _until(pilot, lambda: _open(pilot.app.screen))  # type: ignore[arg-type]
            await pilot.pause(0.6)

        assert snap_compare(application(home, folder), terminal_size=size, run_before=opened)

    def test_without_a_model(self, snap_compare: Any, home: Path, folder: Path, size: tuple[int, int]) -> None:
        assert snap_compare(
            application(home, folder), terminal_size=size, run_before=after("enter", model="", ready=_open)
        )

    def test_asked(self, snap_compare: Any, home: Path, folder: Path, size: tuple[int, int]) -> None:
        assert snap_compare(application(home, folder), terminal_size=size, run_before=after("o"))
