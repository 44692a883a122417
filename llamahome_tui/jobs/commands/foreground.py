"""A run without a session of its own, for containers, Slurm and systemd: this process looks after it until it ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from llamahome_tui.errors import LlamaHomeError, UsageError
from llamahome_tui.jobs import control
from llamahome_tui.jobs.commands.following import conclude, environ_of_jobs, stay_with
from llamahome_tui.jobs.identity import send_signal_to_holder
from llamahome_tui.jobs.store import Run
from llamahome_tui.jobs.supervisor import supervise
from llamahome_tui.outcome import Outcome, Result

if TYPE_CHECKING:
    from llamahome_tui.context import Context

# What a container, Slurm or a terminal sends, and what it means to a run.
_MEANING = {signal.SIGTERM: "stop", signal.SIGINT: "stop", signal.SIGUSR1: "pause"}


def allowed(context: Context) -> None:
    """Raises UsageError where signals could not be heard: in the terminal application there is a terminal to leave."""
    if context.interface == "tui" or threading.current_thread() is not threading.main_thread():
        raise UsageError(
            "--foreground is for the command line", hint="as in: llamahome --batch train start SPEC --foreground"
        )


def stay_in_foreground(context: Context, run: Run, since: Literal["start", "now"] = "start") -> Iterator[Outcome]:
    """Supervise the run and follow it from `since`. SIGTERM, SIGINT and SIGUSR1 mean checkpoint and exit, the last one
    as a pause."""
    failed: list[BaseException] = []

    def look_after() -> None:
        try:
            supervise(run, foreground=True, environ=environ_of_jobs(context))
        except (LlamaHomeError, OSError) as error:
            failed.append(error)

    supervisor = threading.Thread(target=look_after, name=f"supervise {run.id}")
    with listening(run):
        supervisor.start()
        try:
            for outcome in stay_with(context, run, since, changed=True):
                if not isinstance(outcome, Result):
                    yield outcome
        finally:
            supervisor.join()
    if failed:
        raise failed[0]
    yield conclude(run, changed=True)


@contextmanager
def listening(run: Run) -> Iterator[None]:
    """While inside, the signals of `_MEANING` are requests for the run. For the main thread.

    A signal interrupts whatever the main thread does, with whatever lock it holds: it is only noted there, and a
    thread of its own acts on it at once.
    """
    noted: SimpleQueue[int] = SimpleQueue()  # the one queue whose put() may interrupt itself

    def note(number: int, _frame: FrameType | None) -> None:
        noted.put(number)

    def obey() -> None:
        while number := noted.get():
            _ask(run, signal.Signals(number))

    obeying = threading.Thread(target=obey, name=f"signals for {run.id}", daemon=True)
    obeying.start()
    before: dict[signal.Signals, Any] = {number: signal.signal(number, note) for number in _MEANING}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
        noted.put(0)
        obeying.join()


def _ask(run: Run, number: signal.Signals) -> None:
    op = _MEANING[number]
    try:
        if not any(request.op == op for request in control.pending(run)):
            control.drop(run, op)
    except OSError:  # a full disk is no reason to go on
        send_signal_to_holder(run.trainer_lock, None, number)
