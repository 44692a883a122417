"""What a job's own process holds: its lock, its journal, what is asked of it; taken before anything heavy loads."""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any, Final

from llamahome_tui.errors import BusyError
from llamahome_tui.jobs import control
from llamahome_tui.jobs.control import Request
from llamahome_tui.jobs.identity import Identity
from llamahome_tui.jobs.journal import JournalWriter, tail
from llamahome_tui.jobs.locks import RecordLock, holder
from llamahome_tui.jobs.store import Run

PROGRESS_FD: Final = "LLAMAHOME_PROGRESS_FD"
ATTEMPT: Final = "LLAMAHOME_ATTEMPT"
HUB_FD: Final = "LLAMAHOME_HUB_FD"  # an open file with the Hub's token, for the one process that talks to it
FIRST_RANK: Final = "LLAMAHOME_FIRST_RANK"  # for the other ranks' processes: the pid of the job's own
_FULL_DISK: Final = 30.0  # seconds the last records of a run wait for room
_LONG: Final = 4000  # characters of an error's message
# Who looks after the run answers these; the child only reads that they are there.
_LEAVING: Final = ("stop", "pause", "resume")


class Child:
    """The process that does a job's work, seen from inside. There is one for each process, made by `enter`."""

    def __init__(
        self,
        run: Run,
        lock: RecordLock,
        journal: JournalWriter,
        attempt: int,
        received: list[str],
        hub_fd: int | None = None,
    ) -> None:
        self.run = run
        self.hub_fd = hub_fd  # never read here: it goes on to the process that talks to the Hub
        self.attempt = attempt
        self._lock = lock
        self._journal = journal
        self._received = received  # what signals said: "stop", "pause"
        self._inbox = control.Inbox(run)
        self._answered = control.answered(run)
        self._own: list[Request] = []  # that nobody left in the folder: a replay's own leaving
        self._ended = False
        self.step: int | None = None  # so many steps are done; answers carry it
        self._passed_on: Callable[[Mapping[str, Any]], None] | None = None
        self._before_end: Callable[[], None] | None = None

    @classmethod
    def enter(cls, run_dir: Path) -> Child:
        """Become the one process that does this run's work. Call it before any heavy import.

        Raises BusyError when another process already does (its pid is named).
        """
        os.umask(0o077)
        run = Run.open(run_dir)
        # Handlers first: who finds the lock held may send these signals at once.
        received: list[str] = []
        _install(received)
        lock = RecordLock(run.trainer_lock)
        if not lock.acquire():
            raise BusyError(
                f"{run.id} is already being worked on by process {holder(run.trainer_lock)}",
                code="run.busy",
                hint=f"watch it: llamahome --batch runs watch {run.id}",
            )
        pipe = os.environ.pop(PROGRESS_FD, "")
        journal = JournalWriter(run.events_path, int(pipe) if pipe.isdigit() and _is_open(int(pipe)) else None)
        given = os.environ.pop(ATTEMPT, "")
        attempt = int(given) if given.isdigit() else _attempts_before(run) + 1
        handed = os.environ.pop(HUB_FD, "")
        hub_fd = int(handed) if handed.isdigit() and _is_open(int(handed)) else None
        if hub_fd is not None:
            os.set_inheritable(hub_fd, False)
        return cls(run, lock, journal, attempt, received, hub_fd)

    @cached_property
    def job(self) -> Mapping[str, Any]:
        """spec.json with what `runs resume --set` changed."""
        return self.run.effective_job()

    def emit(self, type: str, *, sync: bool = False, **fields: Any) -> dict[str, Any]:
        """Append an event to the run's journal and give it back; `sync` for what must outlive a power cut."""
        record = self._journal.append(type, sync=sync, **fields)
        if self._passed_on is not None:
            self._passed_on(record)
        return record

    def pass_on(self, each: Callable[[Mapping[str, Any]], None], before_end: Callable[[], None]) -> None:
        """From now on give each record to `each` as well, and call `before_end` before the last ones, once."""
        self._passed_on, self._before_end = each, before_end

    def start(self, from_step: int, exact: bool, reason: str, **fields: Any) -> dict[str, Any]:
        """The first event of an attempt: who works, from which step, and whether it goes on exactly."""
        who = Identity.mine().fields()
        request = {"request_id": self.run.job["request_id"]} if self.run.job.get("request_id") else {}
        given = {"attempt": self.attempt, "from_step": from_step, "exact": exact, "reason": reason}
        return self.emit("start", sync=True, **given, **who, **request, **fields)

    @property
    def stopping(self) -> bool:
        """Whether the run shall checkpoint and stop, by signal or by request. Cheap enough for every step."""
        return "stop" in self._received or self._asked("stop")

    @property
    def pausing(self) -> bool:
        """Whether the run shall checkpoint and pause. A stop that is also there comes first."""
        return "pause" in self._received or self._asked("pause")

    def leave(self, request: Request) -> None:
        """Take up a stop or a pause that a replay has to obey by itself, as if somebody had asked for it now."""
        self._own.append(request)

    def refuse_pause(self, reason: str) -> None:
        """The run can't pause now and goes on: answer whoever asked, and hear who asks next."""
        self._received[:] = [word for word in self._received if word != "pause"]
        for request in self._pending():
            if request.op == "pause" and not request.fault:
                self.answer(request, "refused", reason)

    def requests(self) -> list[Request]:
        """What is asked and neither answered nor about leaving (save, eval, sample, lr), oldest first; answer each.

        Of equal requests the first is given and the others are answered `superseded`, of several learning rates the
        newest; what may not be obeyed is answered `refused`. Costs one stat while nothing changes.
        """
        given: list[Request] = []
        asked = self._pending()
        rates = [r for r in asked if r.op == "lr" and not r.fault and control.rate_of(r.value) is not None]
        for request in asked:
            if request.fault:
                self.answer(request, "refused", request.fault)
            elif request.op in _LEAVING:
                continue
            elif request in rates[:-1]:
                self.answer(request, "superseded", "another rate was asked for just after")
            elif any(request.same(other) for other in given):
                self.answer(request, "superseded", "the same was asked just before")
            else:
                given.append(request)
        return given

    def answer(self, request: Request, outcome: str, reason: str = "") -> None:
        """Answer a request: `applied`, `superseded` or `refused`, after the step that is done."""
        self._answered.add(request.id)
        about = {"request": request.id, "op": request.op, "value": request.value}
        self.emit("control", sync=True, **about, outcome=outcome, reason=reason, step=self.step)

    def fail(self, code: str, message: str, **fields: Any) -> int:
        """Journal an `error` (fields: exception, hint, step, retry) and the end `failed`; gives the exit status.

        A very long message is cut in its middle: whoever asks how the run ended reads the end of the journal only.
        """
        if len(message) > _LONG:
            message = f"{message[: _LONG // 2]} [...] {message[-_LONG // 4 :]}"
        about: dict[str, Any] = {"exception": "", "hint": "", "step": None, **fields}
        self.emit("error", sync=True, code=code, message=message, **about)
        return self.end("failed")

    def end(self, reason: str, *, last: Callable[[], None] | None = None, **fields: Any) -> int:
        """The last event, `reason` completed, stopped, paused or failed; gives the process its exit status, 0 or 1.

        `last` is done just before it, when every request is answered.
        The lock stays until the process is gone: only then are its devices free.
        """
        if self._ended:
            raise RuntimeError(f"{self.run.id} has already ended")
        self._ended = True
        self._passed_on = None
        if self._before_end is not None:
            self._before_end()
        outcomes = {"stopped": "stop", "paused": "pause"}
        for request in [one for one in (*self._own, *control.requests(self.run)) if one.id not in self._answered]:
            if request.op == "resume":
                continue
            if request.fault:
                self.answer(request, "refused", request.fault)
            elif outcomes.get(reason) == request.op:
                self.answer(request, "applied")
                outcomes = {}  # equal requests: the first one did it
            else:
                self.answer(request, "superseded", f"the run ended first: {reason}")
        if last is not None:
            last()
        self.emit("end", sync=True, reason=reason, **fields)
        kept = self._journal.close(timeout=_FULL_DISK)
        return 0 if reason in ("completed", "stopped", "paused") and kept else 1

    def _asked(self, op: str) -> bool:
        return any(request.op == op and not request.fault for request in self._pending())

    def _pending(self) -> list[Request]:
        if not self._ended:
            self._journal.settle()
        return [request for request in (*self._own, *self._inbox.look()) if request.id not in self._answered]


def _install(received: list[str]) -> None:
    """Turn signals into words in `received`; SIGUSR2 writes every thread's stack to stderr, even from a hung call."""

    def note(number: int, _frame: FrameType | None) -> None:
        received.append("pause" if number == signal.SIGUSR1 else "stop")

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, note)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    faulthandler.enable(file=2)
    faulthandler.register(signal.SIGUSR2, file=2, all_threads=True, chain=False)
    me = os.getpid()

    def plain() -> None:
        # A forked data worker must die of the signals that its parent only notes.
        if os.getppid() == me:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
                signal.signal(number, signal.SIG_DFL)

    os.register_at_fork(after_in_child=plain)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return fd > 2


def _attempts_before(run: Run) -> int:
    newest = tail(run.events_path, 1, {"start"})
    attempt = newest[0].get("attempt") if newest else 0
    return attempt if isinstance(attempt, int) else 0
