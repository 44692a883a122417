"""Make docs/img/*.svg from the real program on real runs: python docs/screenshots.py [folder of a LlamaHome home].

Without a folder it makes a home of its own and trains the embedded model there for a minute first.
"""

from __future__ import annotations

import asyncio
import dataclasses
import html
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from llamahome_tui.start import surroundings
from llamahome_tui.tui.app import LlamaHomeApp
from llamahome_tui.tui.screens.training.page import RunPage
from llamahome_tui.tui.widgets.table import Table

IMAGES = Path(__file__).resolve().parent / "img"
SPEC = """
name = "reverse-words"
tags = ["demo"]
[model]
id = "demo"
[data]
train = ["demo"]
[training]
max_steps = 150
log_every = 2
[evaluation]
every_steps = 25
[checkpoint]
every_steps = 50
"""
COMMAND = """
import time
for step in range(1, 999):
    print({"loss": 3 / (1 + step / 40), "learning_rate": 1e-4, "epoch": step / 99})
    time.sleep(0.5)
"""
WIDE, NARROW = (120, 36), (80, 24)

Act = Callable[[Any], Awaitable[None]]


def main(words: list[str]) -> int:
    """Make every picture; the exit status of the program."""
    with tempfile.TemporaryDirectory(prefix="llamahome-pictures-") as temporary:
        home = Path(words[0]) if words else Path(temporary)
        os.environ["LLAMAHOME_HOME"] = str(home)
        if not words:
            _train()
        IMAGES.mkdir(parents=True, exist_ok=True)
        pictures: list[tuple[str, str, tuple[int, int], Act]] = [
            ("run", "training", WIDE, _open),
            ("training", "training", NARROW, _nothing),
            ("data", "training", WIDE, _data("j", "j", "enter", *["right"] * 20)),
            ("statistics", "training", NARROW, _data("t")),
            ("palette", "training", NARROW, _press("colon")),
            ("models", "models", NARROW, _nothing),
            ("cache", "cache", NARROW, _nothing),
            ("logs", "logs", NARROW, _nothing),
            ("light", "training", WIDE, _light),
        ]
        for name, screen, size, act in pictures:
            asyncio.run(_picture(name, screen, size, act))
            sys.stdout.write(f"{IMAGES / name}.svg\n")
        if not words:
            _batch("runs", "stop", "axolotl", "--now", "--quiet")
    return 0


def _train() -> None:
    """One real run of the embedded model, and one of somebody's own command that goes on meanwhile."""
    _batch("train", "start", "-", "--quiet", stdin=SPEC)
    _batch("runs", "exec", "--name", "axolotl", "--detach", "--quiet", "--", sys.executable, "-u", "-c", COMMAND)


def _batch(*words: str, stdin: str = "") -> None:
    environ = {**os.environ, "PYTHONWARNINGS": "ignore"}
    subprocess.run(
        [sys.executable, "-m", "llamahome_tui", "--batch", *words], input=stdin, text=True, check=True, env=environ
    )


async def _picture(name: str, screen: str, size: tuple[int, int], act: Act) -> None:
    context, _ = surroundings(os.environ, "tui", env_file=False)
    context.places.ensure()
    app = LlamaHomeApp(dataclasses.replace(context, cwd=Path.home()), screen=screen, host="gpubox")
    async with app.run_test(size=size) as pilot:
        await pilot.pause(3.0)
        await act(pilot)
        await pilot.pause(2.0)
        app.save_screenshot(f"{name}.svg", str(IMAGES))
    picture = IMAGES / f"{name}.svg"
    there = {os.environ["LLAMAHOME_HOME"]: "/home/ada/.local/share/llamahome", str(IMAGES.parents[1]): "/home/ada/src"}
    picture.write_text(elsewhere(picture.read_text(encoding="utf-8"), there), encoding="utf-8")


def elsewhere(picture: str, places: Mapping[str, str]) -> str:
    """A picture with other names for folders, as those of the machine it is made on mean nothing to anybody.

    Each text of it has a width, which changes with its number of characters.
    """

    def named(found: re.Match[str]) -> str:
        width, between, text = found.groups()
        other = text
        for folder, name in places.items():
            other = other.replace(folder, name)
        share = len(html.unescape(other)) / max(1, len(html.unescape(text)))
        return f'textLength="{float(width) * share:.10g}"{between}>{other}</text>' if other != text else found[0]

    return re.sub(r'textLength="([\d.]+)"([^>]*)>([^<]*)</text>', named, picture)


async def _nothing(pilot: Any) -> None:
    """As it opens."""


async def _open(pilot: Any) -> None:
    table = pilot.app.screen.query_one(Table)
    trained = [row.id for row in table.rows if "axolotl" not in row.id]
    table.select(trained[0])
    await pilot.press("enter")
    await pilot.pause(1.0)
    assert isinstance(pilot.app.screen, RunPage)


def _data(*keys: str) -> Act:
    """The data of the run that was trained."""

    async def act(pilot: Any) -> None:
        table = pilot.app.screen.query_one(Table)
        table.select(next(row.id for row in table.rows if "axolotl" not in row.id))
        await pilot.press("D")
        await pilot.pause(4.0)
        await pilot.press(*keys)
        await pilot.pause(8.0)

    return act


async def _light(pilot: Any) -> None:
    pilot.app.use_theme("llamahome-light")
    await _open(pilot)


def _press(*keys: str) -> Act:
    async def press(pilot: Any) -> None:
        await pilot.press(*keys)

    return press


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)
