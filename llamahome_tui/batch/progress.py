"""The one moving line on stderr: a bar on a terminal, elsewhere a plain line at most every 30 seconds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TextIO

SILENCE_S = 30.0  # between progress lines where there is no terminal
REPAINT_S = 0.1
_BAR = 24


class ProgressLine:
    """Shows the latest of many states. `terminal` says whether the line may be repainted in place."""

    def __init__(self, stream: TextIO, terminal: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._terminal = terminal
        self._clock = clock
        self._shown_at: float | None = None
        self._painted = 0

    def update(self, text: str, share: float | None = None) -> None:
        """Show this state if it is time to; `share` (0-1) draws the bar."""
        now = self._clock()
        pause = REPAINT_S if self._terminal else SILENCE_S
        done = share is not None and share >= 1 and self._terminal
        if self._shown_at is not None and now - self._shown_at < pause and not done:
            return
        self._shown_at = now
        percent = "" if share is None else f"{min(1.0, max(0.0, share)):4.0%} "
        if not self._terminal:
            self._stream.write(f"{percent.strip()} {text}".strip() + "\n")
            self._stream.flush()
            return
        bar = "" if share is None else f"[{'#' * round(_BAR * min(1.0, share)):.<{_BAR}}] "
        line = (bar + percent + text)[: max(20, _columns() - 1)]
        self._stream.write("\r" + line + " " * (self._painted - len(line)))
        self._stream.flush()
        self._painted = len(line)

    def clear(self) -> None:
        """Take the bar away, so that another line can be written."""
        if self._terminal and self._painted:
            self._stream.write("\r" + " " * self._painted + "\r")
            self._stream.flush()
            self._painted = 0
            self._shown_at = None


def _columns() -> int:
    try:
        return os.get_terminal_size(2).columns or 80  # a terminal that nobody told its size says 0
    except OSError:
        return 80
