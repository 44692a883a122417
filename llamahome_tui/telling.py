"""Long work that reports through a callback, as an operation's outcomes: progress as it goes, at the end its value."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Generic, TypeVar

from llamahome_tui.outcome import Progress

Value = TypeVar("Value")
_PAUSE_S = 0.25
_STOP_S = 1.5


class _Stopped(BaseException):
    """Nobody waits for the work any more; raised out of its own progress call, so that it closes what it holds."""


class _Work(threading.Thread, Generic[Value]):
    """The work in a thread of its own, as only there the outcomes can go on while it lasts."""

    def __init__(self, work: Callable[[Callable[[int, int], None]], Value]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self.state = (0, 0)
        self.stopped = False
        # Not join(): interrupted by Ctrl+C in it, Python takes a thread that goes on for one that has ended.
        self.ended = threading.Event()
        self.value: list[Value] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.value.append(self._work(self._progress))
        except BaseException as error:  # noqa: BLE001 - raised again where the outcomes are read
            self.error = error
        finally:
            self.ended.set()

    def _progress(self, done: int, total: int) -> None:
        if self.stopped:
            raise _Stopped
        self.state = (done, total)


def told(
    work: Callable[[Callable[[int, int], None]], Value], label: str, unit: str = "bytes"
) -> Generator[Progress, None, Value]:
    """Yields the latest progress four times a second, and returns what `work` returns or raises what it raises.

    `work` is given a function to tell how much of how much is done; when the generator is closed, that function raises.
    """
    thread = _Work(work)
    try:
        thread.start()
        while not thread.ended.wait(_PAUSE_S):
            done, total = thread.state
            yield Progress(label, done, total, unit)
    finally:
        if not thread.ended.is_set():
            thread.stopped = True
            thread.ended.wait(_STOP_S)
    if thread.error is not None:
        raise thread.error
    return thread.value[0]
