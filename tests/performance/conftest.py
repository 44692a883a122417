"""What a benchmark measured is always on the screen, also where tests run side by side."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import pytest


class Shown:
    """`capsys` of a worker (`-n`), whose stdout leads nowhere: what is printed while it is disabled goes to stderr."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        with self._capsys.disabled(), contextlib.redirect_stdout(sys.stderr):
            yield


@pytest.fixture
def capsys(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> pytest.CaptureFixture[str] | Shown:
    return Shown(capsys) if hasattr(request.config, "workerinput") else capsys
