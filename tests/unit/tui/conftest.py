"""The application in a home of its own, without a sampler and with a clock that stands still."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from llamahome_tui.config.places import Places
from llamahome_tui.start import surroundings
from llamahome_tui.tui.app import LlamaHomeApp
from tests.conftest import clean_environ
from tests.runfolder import EPOCH

MakeApp = Callable[..., LlamaHomeApp]


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of day as in UTC, wherever the test runs."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.fixture
def make_app(places: Places) -> MakeApp:
    """Makes the application on the test's own places."""

    def make(**more: Any) -> LlamaHomeApp:
        context, problems = surroundings(clean_environ(places.state.parent), "tui")
        chosen = {"host": "gpubox", "clock": lambda: EPOCH + 3600, "sampling": False} | more
        return LlamaHomeApp(context, problems=[p.as_dict() for p in problems], **chosen)

    return make
