"""The resource panel: every machine in every form, and equal values cost nothing."""

from __future__ import annotations

import dataclasses

import pytest
from textual.pilot import Pilot

from llamahome_tui.context import Context
from llamahome_tui.resources.snapshot import Snapshot
from llamahome_tui.tui.app import LlamaHomeApp
from llamahome_tui.tui.widgets.cells import Value
from llamahome_tui.tui.widgets.panel import ResourcePanel, grid_shape, short_memory, sum_line
from tests import machines


def _app(context: Context, snapshot: Snapshot | None) -> LlamaHomeApp:
    app = LlamaHomeApp(context, screen="cache", host="box", sampling=False)
    app.sampler = machines.sampler(snapshot)
    return app


def _text(app: LlamaHomeApp) -> list[str]:
    """The panel's lines as they stand on the screen."""
    region = app.screen.query_one(ResourcePanel).region
    strips = app.screen._compositor.render_strips()
    return [strips[y].text[region.x : region.right] for y in range(region.y, region.bottom)]


async def _look(app: LlamaHomeApp, pilot: Pilot[int], snapshot: Snapshot) -> list[str]:
    app.sampler = machines.sampler(snapshot)
    app.screen.query_one(ResourcePanel).look()
    await pilot.pause()
    await pilot.pause()
    return _text(app)


@pytest.mark.parametrize(("count", "width", "height", "shape"), [
    (0, 80, 24, (1, 0)), (1, 80, 24, (1, 1)), (2, 80, 24, (2, 1)), (8, 80, 24, (2, 4)), (16, 80, 24, (2, 7)),
    (8, 60, 24, (1, 7)), (8, 220, 50, (4, 2)), (8, 20, 5, (1, 1)),
])  # fmt: skip
def test_grid_shape(count: int, width: int, height: int, shape: tuple[int, int]) -> None:
    assert grid_shape(count, width, height) == shape


async def test_eight_gpus_fit_in_80x24(context: Context) -> None:
    app = _app(context, machines.box())
    async with app.run_test(size=(80, 24)) as pilot:
        lines = await _look(app, pilot, machines.box())
    assert len(lines) == 5
    assert lines[0].split() == [
        "0",
        "▁",
        "0%",
        "4/80G",
        "40°C",
        "90W",
        "gsm8k-lora",
        "4",
        "▅",
        "52%",
        "44/80G",
        "68°C",
        "410W",
    ]
    assert lines[3].split()[-6:] == ["7", "█", "91%", "74/80G", "89°C", "650W"]
    assert "bob" in lines[3]
    assert lines[4].split() == ["CPU", "23%", "memory", "45/252", "GiB", "disk", "1.2", "TiB", "free"]


@pytest.mark.parametrize("fault", ["F36"])
async def test_unknown_values_are_not_zeros(context: Context, fault: str) -> None:
    app = _app(context, None)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "reading GPUs" in " ".join(_text(app))
        split = await _look(app, pilot, machines.faulty())
        hung = await _look(app, pilot, machines.hung())
        bare = await _look(app, pilot, machines.bare())
    assert split[0].split()[:6] == ["0", "n/a", "4/80G", "40°C", "90W", "MIG"]
    assert "0:1" in " ".join(split) and "lost" in " ".join(split)
    assert "does not answer for 12 s" in " ".join(hung) and "n/a/80G" in hung[0] and "0%" not in hung[0]
    assert len(bare) == 1 and "no NVIDIA driver" in bare[0] and "23%" in bare[0]


async def test_the_key_goes_through_the_forms(context: Context) -> None:
    app = _app(context, machines.box())
    async with app.run_test(size=(80, 24)) as pilot:
        assert len(await _look(app, pilot, machines.box())) == 5
        await pilot.press("R")
        await pilot.pause()
        await pilot.pause()
        line = _text(app)
        await pilot.press("R")
        await pilot.pause()
        await pilot.pause()
        full = _text(app)
        await pilot.press("3", "R")
        await pilot.pause()
        await pilot.pause()
        grid = _text(app)
    assert len(line) == 1 and "8 GPUs 46% 312/640G 89°C" in line[0]
    assert any("pid 4242  9.0 GiB  python  run 20261123-101500-gsm8k-lora" in row for row in full)
    assert len(grid) == 5


async def test_equal_values_are_not_painted_again(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    app = _app(context, machines.box())
    async with app.run_test(size=(80, 24)) as pilot:
        await _look(app, pilot, machines.box())
        painted: list[str] = []
        real = Value.update
        monkeypatch.setattr(Value, "update", lambda self, *a, **k: (painted.append(self.text), real(self, *a, **k))[1])
        same = machines.box()
        await _look(app, pilot, dataclasses.replace(same, t=2.0))
        assert painted == []
        moved = dataclasses.replace(same.gpus[5], temperature_c=81.0)
        await _look(app, pilot, dataclasses.replace(same, t=3.0, gpus=(*same.gpus[:5], moved, *same.gpus[6:])))
        assert painted == [" 81°C"]


@pytest.mark.parametrize("fault", ["F37"])
async def test_a_tiny_terminal_and_back(context: Context, fault: str) -> None:
    app = _app(context, machines.box())
    async with app.run_test(size=(80, 24)) as pilot:
        await _look(app, pilot, machines.box())
        await pilot.resize_terminal(20, 5)
        await _look(app, pilot, dataclasses.replace(machines.box(), t=2.0))
        await pilot.resize_terminal(80, 24)
        assert len(await _look(app, pilot, dataclasses.replace(machines.box(), t=3.0))) == 5


async def test_ascii_only(context: Context) -> None:
    app = LlamaHomeApp(context, screen="cache", host="box", sampling=False, ascii_only=True)
    async with app.run_test(size=(120, 40)) as pilot:
        lines = await _look(app, pilot, machines.box())
    assert all(line.isascii() for line in lines)
    assert "#########." in lines[3]


def test_words() -> None:
    gpu = machines.box().gpus[1]
    assert short_memory(gpu) == "14/80G"
    assert (
        short_memory(dataclasses.replace(gpu, memory_total_bytes=8 * machines.GIB, memory_used_bytes=3 * 2**29))
        == "1.5/8G"
    )
    assert short_memory(dataclasses.replace(gpu, memory_used_bytes=None)) == "n/a/80G"
    assert sum_line(machines.hung().gpus) == "2 GPUs n/a n/a n/a"
