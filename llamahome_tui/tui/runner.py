"""Run operations and reads in daemon threads; the newest outcome waits for the tick, a failure becomes one toast.

This is the terminal application's outer wall: nothing an operation raises goes further than here, and no thread
started here ever delays quitting.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from llamahome_tui.context import new_request_id
from llamahome_tui.errors import LlamaHomeError

if TYPE_CHECKING:
    from llamahome_tui.operations import Operation
    from llamahome_tui.outcome import Outcome, Result
    from llamahome_tui.tui.app import LlamaHomeApp

T = TypeVar("T")
_KEPT = 10_000  # outcomes that wait for the tick; a stream that is faster loses its oldest, not the terminal


class Running:
    """An operation on its way. `drain()` gives what came since the last call, `cancel()` ends it at its next one."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.result: Result | None = None
        self.error: LlamaHomeError | None = None
        self.ended = threading.Event()
        self.cancelled = False
        self._waiting: deque[Outcome] = deque(maxlen=_KEPT)

    def drain(self) -> list[Outcome]:
        """The outcomes since the last call, oldest first."""
        got: list[Outcome] = []
        while self._waiting:
            got.append(self._waiting.popleft())
        return got

    def cancel(self) -> None:
        """Stop listening; a job that the operation started goes on."""
        self.cancelled = True

    def put(self, outcome: Outcome) -> None:
        """Called by the operation's thread."""
        self._waiting.append(outcome)


def named(name: str) -> Operation:
    """The operation of that name, `runs stop`; raises KeyError."""
    from llamahome_tui.operations import OPERATIONS

    for operation in OPERATIONS:
        if operation.name == name:
            return operation
    raise KeyError(name)


def run_operation(
    app: LlamaHomeApp,
    name: str,
    arguments: dict[str, Any] | None = None,
    *,
    on_result: Callable[[Result], None] | None = None,
    on_error: Callable[[LlamaHomeError], None] | None = None,
    on_end: Callable[[Running], None] | None = None,
    quiet: bool = False,
) -> Running:
    """Start an operation in a daemon thread. Callbacks run on the application's own thread.

    Without `on_error` a failure is shown as a toast that ends in its hint; notes become toasts unless `quiet`.
    """
    running = Running(named(name))
    context = dataclasses.replace(
        app.context, interface="tui", yes=True, stdin=None, stdout_is_terminal=False, request_id=new_request_id()
    )

    def deliver() -> None:
        if running.error is not None:
            (on_error or app.report)(running.error)
        elif running.result is not None and on_result is not None:
            on_result(running.result)
        if on_end is not None:
            on_end(running)

    def work() -> None:
        from llamahome_tui.logs.access import logged
        from llamahome_tui.outcome import Note, Result

        try:
            for outcome in logged(running.operation, context, arguments or {}):
                if running.cancelled:
                    break
                if isinstance(outcome, Result):
                    running.result = outcome
                elif isinstance(outcome, Note) and not quiet:
                    app.later(app.toast, outcome.text, outcome.level)
                running.put(outcome)
        except LlamaHomeError as error:
            running.error = error
        except Exception as error:  # noqa: BLE001 (the outer wall: a fault of our own is reported, never a crash)
            running.error = app.fault(error, running.operation.name)
        running.ended.set()
        app.later(deliver)

    threading.Thread(target=work, name=f"operation {name}", daemon=True).start()
    return running


class Poll(Generic[T]):
    """Reads something again and again in a daemon thread; the screen's tick takes the newest value.

    `read` gets nothing and gives a plain value. While `awake` is False nothing is read. `changed()` is True once for
    each new value. An `eager` one has every value painted at once: what follows a key must not wait for the clock.
    `on_end` is called in the thread once it is closed.
    """

    def __init__(
        self,
        app: LlamaHomeApp,
        name: str,
        read: Callable[[], T],
        every_s: float = 1.0,
        *,
        eager: bool = False,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self.value: T | None = None
        self.error: LlamaHomeError | None = None
        self.awake = True
        self._app, self._name, self._read, self._every = app, name, read, every_s
        self._kick = threading.Event()
        self._closed = False
        self._eager, self._on_end = eager, on_end
        self._version = self._seen = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to read; safe to call again."""
        self.awake = True
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name=f"poll {self._name}", daemon=True)
            self._thread.start()
        self._kick.set()

    def pause(self) -> None:
        """Read nothing until `start` is called again."""
        self.awake = False

    def now(self) -> None:
        """Read at once instead of at the next turn."""
        self._kick.set()

    def close(self) -> None:
        """End the thread after its present read."""
        self._closed = True
        self._kick.set()

    def changed(self) -> bool:
        """True once for each new value or error."""
        version = self._version
        fresh, self._seen = version != self._seen, version
        return fresh

    def _loop(self) -> None:
        while not self._closed:
            self._kick.clear()
            if self.awake:
                self._turn()
            self._kick.wait(self._every)
        if self._on_end is not None:
            self._on_end()

    def _turn(self) -> None:
        try:
            value = self._read()
        except LlamaHomeError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 (the outer wall, as above)
            self.error = self._app.fault(error, self._name)
        else:
            self.error = None
            self.value = value
        self._version += 1
        if self._version == 1 or self._eager:
            self._app.later(self._app.tick)  # what is shown first should not wait for the clock


class Stopped(Exception):
    """Raised out of a task's progress when it was cancelled; whoever works on it lets it pass."""


class Task(Generic[T]):
    """One long piece of work in a daemon thread, with progress and an end; `on_end` runs on the application's thread.

    `work` is given a function to tell how much is done of how much, and must call it often: that is where it ends
    when it is cancelled.
    """

    def __init__(
        self,
        app: LlamaHomeApp,
        name: str,
        work: Callable[[Callable[[int, int], None]], T],
        on_end: Callable[[Task[T]], None] | None = None,
    ) -> None:
        self.value: T | None = None
        self.error: LlamaHomeError | None = None
        self.running = True
        self.cancelled = False
        self.share: float | None = None
        self._app, self._name, self._work, self._on_end = app, name, work, on_end
        threading.Thread(target=self._run, name=f"task {name}", daemon=True).start()

    def cancel(self) -> None:
        """Have it end at its next sign of progress."""
        self.cancelled = True

    def _tell(self, done: int, total: int) -> None:
        if self.cancelled:
            raise Stopped
        self.share = done / total if total else None

    def _run(self) -> None:
        try:
            self.value = self._work(self._tell)
        except Stopped:
            pass
        except LlamaHomeError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 (the outer wall, as above)
            self.error = self._app.fault(error, self._name)
        self.running = False
        if self._on_end is not None:
            self._app.later(self._on_end, self)
