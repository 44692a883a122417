"""What a supervisor writes down and what is asked of it; every word of its journal goes through here."""

from __future__ import annotations

import time
from typing import Any, Final

from llamahome_tui.jobs import control, history, recovery
from llamahome_tui.jobs.control import Request
from llamahome_tui.jobs.journal import JournalWriter
from llamahome_tui.jobs.store import Run
from llamahome_tui.logs import files as logs

_FULL_DISK: Final = 10.0  # seconds the last record waits for room
_LOUD: Final = frozenset({"retry", "stall", "kill"})


class Ledger:
    """The supervisor's journal, the line that each record leaves in training.log, and the requests for the run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._journal = JournalWriter(run.supervisor_path)
        self._inbox = control.Inbox(run)
        self._answers = control.Answers(run)
        self._answered: set[str] = set()  # by this process, whether or not the disk has taken it

    def write(self, type: str, **fields: Any) -> None:
        """Journal something that must outlive a power cut."""
        self._journal.append(type, sync=True, **fields)
        shown = ("attempt", "pid", "code", "signal", "retry", "reason", "problem", "delay_s", "silent_s", "checkpoint")
        words = " ".join(f"{key}={fields[key]}" for key in shown if fields.get(key) not in (None, "", False))
        failed = type == "exit" and not fields.get("stop") and fields.get("failure") is not None
        level = "error" if failed else "warning" if type in _LOUD else "info"
        logs.write(self._run.state / "logs", logs.TRAINING, level, f"{self._run.id} {type} {words}")

    def requests(self) -> list[Request]:
        """Everything ever asked, oldest first."""
        return self._inbox.look()

    def open(self) -> list[Request]:
        """What nobody has answered. The trainer answers too while it lives: its journal is read anew."""
        found = [request for request in self._inbox.look() if request.id not in self._answered]
        if found:
            self._answered |= self._answers.look()
        return [request for request in found if request.id not in self._answered]

    def stop(self) -> Request | None:
        """The newest request to stop that still holds."""
        return next(iter(control.stops_in(self._inbox.look())), None)

    def answer(self, request: Request, outcome: str, reason: str = "") -> None:
        """Answer a request: applied, superseded or refused."""
        self._answered.add(request.id)
        about = {"request": request.id, "op": request.op, "value": request.value}
        self.write("control", **about, outcome=outcome, reason=reason, step=self._step(request))

    def _step(self, request: Request) -> int | None:
        """The step that an answer is about: of a wish to go on where that begins, else what has been done."""
        if request.op == "resume":
            newest = recovery.newest_complete_checkpoint(self._run)
            return newest.step if newest is not None else 0 if self._run.job.get("kind") == "train" else None
        return history.newest(self._run.events_path).step

    def ended(self, stopped: bool, reason: str) -> None:
        """Answer what is open: the run is over, as the first request to stop wanted when it was `stopped`.

        Not a wish to go on: that is for what comes after.
        """
        for request in [request for request in self.open() if request.op != "resume"]:
            applied = stopped and request.op == "stop" and not request.fault
            stopped = stopped and not applied
            self.answer(request, "applied" if applied else "superseded", "" if applied else reason)

    def settle(self, seconds: float = 0.0) -> None:
        """Call when idle; sleeps as long as asked."""
        self._journal.settle()
        time.sleep(seconds)

    def close(self) -> None:
        """Write what a full disk has kept waiting, as far as it lets us, and close."""
        self._journal.close(timeout=_FULL_DISK)
