"""Takes the pictures of the documentation from the real program, in a real run and after it: docs/img/*.svg."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.pilot import Pilot

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "img"
SIZE = (120, 36)
LIVE_SHARE = 0.6  # of the run's steps, when its page is photographed
COMMAND = (sys.executable, "-m", "llamahome_tui")


def main() -> None:
    """Train, look, and write the pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="llamahome-") as folder:
        os.environ["LLAMAHOME_HOME"] = folder
        os.environ["HF_HOME"] = f"{folder}/models"
        with subprocess.Popen([*COMMAND, "--batch", "demo", "--quiet"], stdout=subprocess.DEVNULL) as demo:
            _wait_for_share(LIVE_SHARE)
            asyncio.run(_picture("run", run="latest"))
            demo.wait()
        for screen in ("training", "models", "cache", "logs"):
            asyncio.run(_picture(screen, screen=screen))


def _wait_for_share(share: float) -> None:
    from llamahome_tui.jobs.store import RunStore
    from llamahome_tui.jobs.view import summarise
    from llamahome_tui.start import surroundings

    places = surroundings(os.environ, "batch", env_file=False)[0].places
    while True:
        for run in RunStore(places).list():
            view = summarise(run)
            if view.steps and view.step and view.step / view.steps >= share:
                return
        time.sleep(0.2)


async def _picture(name: str, *, screen: str = "training", run: str = "") -> None:
    from llamahome_tui.start import surroundings
    from llamahome_tui.tui.app import LlamaHomeApp

    context, _ = surroundings(os.environ, "tui", env_file=False)
    app = LlamaHomeApp(context, screen=screen, run=run)
    async with app.run_test(size=SIZE) as pilot:
        await _settle(pilot)
        if screen == "logs":
            await pilot.press("enter")
            await _settle(pilot)
        (IMAGES / f"{name}.svg").write_text(app.export_screenshot(title="LlamaHome"), encoding="utf-8")
    sys.stdout.write(f"{IMAGES / name}.svg\n")


async def _settle(pilot: Pilot[object]) -> None:
    """Two samples of the resources, and every list read."""
    await pilot.pause(2.5)


if __name__ == "__main__":
    main()
