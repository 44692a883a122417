"""Looking at the terminal application from a test: what stands on its screen, and waiting for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from textual.pilot import Pilot

from llamahome_tui.tui.app import LlamaHomeApp


def shown_text(app: LlamaHomeApp) -> str:
    """All that stands on the screen."""
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


async def until(pilot: Pilot[int], holds: Callable[[], bool], seconds: float = 20) -> None:
    """Wait, without a fixed time, for what a thread brings; fails with the screen's text."""
    limit = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > limit:
            assert isinstance(pilot.app, LlamaHomeApp)
            pytest.fail(f"did not come true in {seconds} s:\n{shown_text(pilot.app)}")
        await asyncio.sleep(0.02)
        await pilot.pause()
