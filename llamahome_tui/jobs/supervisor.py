"""Looks after one run from its turn in the queue to its end; that it may die at any moment must never hurt training."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Final

from llamahome_tui.errors import LlamaHomeError, ResourceError
from llamahome_tui.jobs import control, leftovers, notify, queue, recovery, report_files, retries, spawn
from llamahome_tui.jobs.identity import Identity, boot_id, require_pidfds, send_signal_to_holder
from llamahome_tui.jobs.ledger import Ledger
from llamahome_tui.jobs.locks import RecordLock, holder
from llamahome_tui.jobs.report import report_of
from llamahome_tui.jobs.status import Derived, Status, as_ended, derive, resume_waits, tell, unclosed
from llamahome_tui.jobs.store import Run
from llamahome_tui.jobs.watch import Death, Trainer, Watch, oom_kills

_TICK: Final = 0.25  # seconds between two looks when nothing wakes it
_REST: Final = 0.1  # seconds after a wake-up before the next one counts
_FAILED: Final = 9  # exit status: the run failed

StartChild = Callable[[spawn.Order], int]


def supervise(
    run: Run,
    *,
    foreground: bool = False,
    start_child: StartChild = spawn.spawn_child,
    environ: Mapping[str, str] | None = None,
) -> int:
    """Look after `run` until it has ended; 0 when that went as somebody wanted it (or another does it already), else 9.

    With `foreground` the trainer gets no session of its own, and SIGTERM, SIGINT and SIGUSR1 mean checkpoint and
    exit: call it in the main thread then.
    """
    os.umask(0o077)
    require_pidfds()
    lock = RecordLock(run.supervisor_lock)
    code = 0
    while True:
        if not lock.acquire():
            say(f"{run.id} is already looked after by process {holder(run.supervisor_lock)}")
            return code
        try:
            derived = derive(run)
            if derived.remote:
                say(f"{run.id} can't be looked after from here: {derived.reason}")
                return _FAILED
            supervisor = Supervisor(run, foreground, start_child, os.environ if environ is None else environ)
            try:
                code = supervisor.work()
            finally:
                supervisor.close()
        finally:
            lock.release()
        # Who asked for another attempt while we were leaving has found the lock taken, and relies on us.
        if not resume_waits(run, tell(run)):
            return code


def say(text: str) -> None:
    """A line for whoever reads supervisor.log, or sits at the terminal of a run in the foreground."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


class Supervisor:
    """One supervisor's life: find the trainer or start one, watch it, say how it ended, perhaps again, finish."""

    def __init__(self, run: Run, foreground: bool, start_child: StartChild, environ: Mapping[str, str]) -> None:
        self.run = run
        self.foreground = foreground
        self._start_child = start_child
        self._environ = environ
        self._ledger = Ledger(run)
        self._recovery = retries.Recovery.of(run.effective_job())
        self._turn: queue.Turn | None = None
        self._signals: list[str] = []
        self._restore: dict[signal.Signals, Any] = {}
        self._told_to_stop = False
        self._reported = False  # the newest attempt, by this process
        if foreground and threading.current_thread() is threading.main_thread():
            self._listen()

    def work(self) -> int:
        """All the steps, in order. Returns the exit status of the run."""
        trainer = self._find()
        if trainer is None:
            if self._due():
                trainer = self._begin()
            elif self._unclosed():
                trainer = self._close_unseen()
            else:
                return self._nothing_to_do()
        while trainer is not None:
            death = self._watch(trainer)
            trainer = self._after(trainer, death)
        return self._finish()

    def close(self) -> None:
        """Give back signals and journal."""
        for number, previous in self._restore.items():
            signal.signal(number, previous)
        self._ledger.close()

    # 1. Is there a trainer already?

    def _find(self) -> Trainer | None:
        """The trainer that an earlier supervisor has left, adopted."""
        locked = holder(self.run.trainer_lock)
        story = tell(self.run)
        process = Identity.of(locked) if locked else None
        if locked is None and story.exit is None and story.spawn is not None:
            process = Identity.from_record(story.spawn)  # started, and not so far that it has its lock
        if process is None or not process.here:
            return None
        try:
            pidfd = os.pidfd_open(process.pid)
        except OSError:
            return None
        # Looked at again behind the descriptor: from here on no stranger can be meant by it.
        if not process.alive or (locked and holder(self.run.trainer_lock) != locked):
            os.close(pidfd)
            return None
        attempt = max(1, story.attempt)
        self._ledger.write("adopt", attempt=attempt, supervisor=os.getpid(), **process.fields())
        return Trainer(process, attempt, pidfd, None, parent=False, oom_kills=oom_kills())

    def _due(self) -> bool:
        """Whether an attempt is to be started: the first, one that was asked for, or a retry that was promised."""
        story = tell(self.run)
        if resume_waits(self.run, story) or story.unborn or (story.spawn is None and story.start is None):
            return True
        return story.retry_due and self._ledger.stop() is None and not story.rebooted

    def _unclosed(self) -> bool:
        """Whether the trainer came to its end while nobody looked after it: somebody waits to be told."""
        return unclosed(tell(self.run))

    def _close_unseen(self) -> Trainer | None:
        story = tell(self.run)
        self._sweep()
        process = story.trainer
        return self._close_attempt(story.attempt, process.pid if process is not None else 0, Death(), adopted=True)

    def _nothing_to_do(self) -> int:
        """The run is over; only what it may have left behind is cleared away."""
        if holder(self.run.trainer_lock) is None:
            self._sweep()
        return 0 if derive(self.run).status.good else _FAILED

    # 2. The queue, then a trainer.

    def _begin(self) -> Trainer | None:
        """Wait for the run's devices and start its trainer; None when it was stopped before."""
        request = control.resume_in(self._ledger.requests())
        if request is not None and not resume_waits(self.run, tell(self.run)):
            request = None
        self._supersede(request)
        try:
            while (turn := queue.turn(self.run)) is None:
                if self._leave_early():
                    return None
                self._ledger.settle(_TICK)
        except ResourceError as error:  # a machine that has lost its devices since the run was submitted
            self._could_not_start(self._about(request), request, error.message)
            return None
        self._turn = turn
        if self._leave_early():
            return None
        return self._spawn(request)

    def _supersede(self, resume: control.Request | None) -> None:
        """What was asked of an earlier attempt means nothing to the next one."""
        for request in self._ledger.open():
            if resume is not None and request.id < resume.id:
                self._ledger.answer(request, "superseded", "it was meant for an earlier attempt")

    def _leave_early(self) -> bool:
        self._heed_signals()
        for request in self._ledger.open():
            if request.fault:
                self._ledger.answer(request, "refused", request.fault)
        if self._ledger.stop() is None and not self._told_to_stop:
            return False
        self._ledger.ended(True, "the run was stopped before")
        return True

    def _spawn(self, request: control.Request | None) -> Trainer | None:
        if holder(self.run.trainer_lock) is not None:
            return self._find()
        recovery.set_aside_partials(self.run)
        self._recovery = retries.Recovery.of(self.run.effective_job())
        about = self._about(request)
        attempt = about["attempt"]
        self._reported = False
        # Before the fork: whatever happens right after it, this attempt is known, and nobody begins it a second time.
        self._ledger.write("begin", **about, host=os.uname().nodename, boot_id=boot_id())
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        token = spawn.token_file(self.run, self._environ)
        try:
            out = os.open(
                self.run.out_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            try:
                pid = self._start_child(self._order(attempt, out, writer, token))
            finally:
                os.close(out)
        except OSError as error:
            os.close(reader)
            where = f"{error.filename}: " if error.filename else ""
            self._could_not_start(about, request, f"its process could not be started: {where}{error.strerror}")
            return None
        finally:
            os.close(writer)
            if token is not None:
                os.close(token)
        process = Identity.of(pid) or Identity(os.uname().nodename, boot_id(), pid, 0, "")
        trainer = Trainer(process, attempt, os.pidfd_open(pid), reader, parent=True, oom_kills=oom_kills())
        self._ledger.write("spawn", **about, **process.fields(), devices=self._devices())
        if request is not None:
            self._ledger.answer(request, "applied")
        return trainer

    def _order(self, attempt: int, out_fd: int, progress_fd: int, hub_fd: int | None) -> spawn.Order:
        job = self.run.effective_job()
        environ = {**self._environ, **(self._turn.environ if self._turn is not None else {})}
        cwd = Path(str(job.get("cwd") or self.run.dir))
        if job.get("kind") != "exec" and not cwd.is_dir():
            cwd = self.run.dir  # a training's paths are absolute; where it was started from may be gone
        return spawn.Order(
            argv=spawn.child_command(job, self.run.dir),
            environ=spawn.child_environ(self.run, environ, attempt=attempt, progress_fd=progress_fd, hub_fd=hub_fd),
            cwd=cwd, out_fd=out_fd, progress_fd=progress_fd, own_session=not self.foreground, hub_fd=hub_fd,
        )  # fmt: skip

    def _about(self, request: control.Request | None) -> dict[str, Any]:
        """What is known of an attempt before its process."""
        story = tell(self.run)
        attempt = story.attempt if story.unborn else story.attempt + 1
        about: dict[str, Any] = {"attempt": attempt, "supervisor": os.getpid()}
        about["events_bytes"] = self.run.events_path.stat().st_size if self.run.events_path.exists() else 0
        if request is not None:
            changes = request.value.get("set") if isinstance(request.value, dict) else None
            about.update(request=request.id, set=changes if isinstance(changes, dict) else {})
        return about

    def _could_not_start(self, about: Mapping[str, Any], request: control.Request | None, problem: str) -> None:
        who = Identity.mine().fields() | {"pid": None, "start_ticks": None}
        self._ledger.write("spawn", **about, **who, devices=self._devices())
        if request is not None:
            self._ledger.answer(request, "applied")
        attempt = about["attempt"]
        self._ledger.write("exit", attempt=attempt, code=127, signal=None, stop=False, retry=False, problem=problem)

    # 3. Watching.

    def _watch(self, trainer: Trainer) -> Death:
        """Until the trainer is dead: pass on what is asked, see stalls, kill when grace is over."""
        poll, death = select.poll(), select.poll()
        for one in (poll, death):
            one.register(trainer.pidfd, select.POLLIN)
        if trainer.pipe is not None:
            poll.register(trainer.pipe, select.POLLIN)
        watch = Watch(self.run, self._recovery)
        while True:
            ready = {fd for fd, _ in poll.poll(_TICK * 1000)}
            if trainer.pipe is not None and trainer.pipe in ready and not trainer.woken():
                poll.unregister(trainer.pipe)  # nobody can write to it any more; the pidfd tells the rest
            # A trainer may write a thousand records a second: after a wake-up only its death counts for a while.
            if trainer.pidfd in ready or (ready and death.poll(_REST * 1000)):
                return trainer.death()
            self._heed_signals()
            watch.look()
            self._heed_stop(trainer, watch)
            self._heed_stall(trainer, watch)
            self._ledger.settle()

    def _heed_stop(self, trainer: Trainer, watch: Watch) -> None:
        stops = control.stops_in(self._ledger.requests())
        if not stops and not self._told_to_stop and not watch.grace_over:
            return
        if (stops or self._told_to_stop) and not watch.asked:
            watch.ask()
            trainer.send(signal.SIGTERM)
        now = any(isinstance(stop.value, dict) and stop.value.get("now") for stop in stops)
        if (now or watch.grace_over) and not watch.killed:
            watch.killed = True
            why = "now" if now else "grace"
            self._ledger.write("kill", attempt=trainer.attempt, pid=trainer.process.pid, signal="SIGKILL", reason=why)
            trainer.send(signal.SIGKILL)

    def _heed_stall(self, trainer: Trainer, watch: Watch) -> None:
        if not watch.stalled_now():
            return
        about = {"attempt": trainer.attempt, "silent_s": round(watch.silent_s, 1), "events_bytes": watch.size}
        self._ledger.write("stall", **about)
        # Only the holder of the lock is sure to have its handler for this signal.
        send_signal_to_holder(self.run.trainer_lock, trainer.process, signal.SIGUSR2)

    def _heed_signals(self) -> None:
        while self._signals:
            op = self._signals.pop(0)
            try:
                if not any(request.op == op for request in self._ledger.open()):
                    control.drop(self.run, op)
            except OSError:
                self._told_to_stop = True  # a full disk is no reason to go on

    # 4. It is dead.

    def _after(self, trainer: Trainer, death: Death) -> Trainer | None:
        """Clear away, say how it ended, and start the next attempt if there is to be one."""
        if holder(self.run.trainer_lock) is not None:
            trainer.close()
            return self._find()  # another one works, and bears the same marks: ours was the second and went
        session = trainer.process.pid if trainer.parent else None
        self._sweep(session)  # before the reaping: until then no stranger can have the session's number
        trainer.close()
        return self._close_attempt(trainer.attempt, trainer.process.pid, death, adopted=not trainer.parent)

    def _close_attempt(self, attempt: int, pid: int, death: Death, *, adopted: bool) -> Trainer | None:
        story = tell(self.run)
        stopped = self._ledger.stop() is not None or self._told_to_stop
        verdict, about = retries.account(self.run, story, death.code, death.signal, stopped, self._recovery)
        if death.oom:
            about["oom"] = True
        how = {"code": death.code, "signal": death.signal, "adopted": adopted}
        if not verdict.again:
            # A trainer that came to its end has answered for itself; what is open now came too late.
            self._ledger.ended(stopped and story.end is None, "the run has ended")
            # Before its end is known: whoever waits for that finds the report as well.
            self._leave_report(as_ended(self.run, story, {**how, **about}))
        self._ledger.write("exit", attempt=attempt, pid=pid, **how, **about)
        if verdict.again:
            return self._again(attempt + 1, verdict)
        self._ledger.ended(False, "the run has ended")
        return None

    def _again(self, attempt: int, verdict: retries.Verdict) -> Trainer | None:
        newest = recovery.newest_complete_checkpoint(self.run)
        step = newest.step if newest is not None else 0
        self._ledger.write("retry", attempt=attempt, delay_s=verdict.delay_s, reason=verdict.reason, from_step=step)
        until = time.monotonic() + verdict.delay_s
        while time.monotonic() < until:
            if self._leave_early():
                return None
            self._ledger.settle(min(_TICK, max(0.0, until - time.monotonic())))
        return self._begin()

    def _sweep(self, session: int | None = None) -> None:
        swept = leftovers.sweep(self.run, session=session)
        if swept:
            self._ledger.write("kill", signal="SIGKILL", reason="left behind", pids=swept)

    # 5. The end.

    def _finish(self) -> int:
        queue.leave(self.run)
        derived = derive(self.run)
        status = derived.status if derived.status.ended else Status.STOPPED
        if not self._reported:
            self._leave_report()
        told = notify.notify(self.run, status)
        if told is not None:
            self._ledger.write("notify", **told)
        return 0 if status.good else _FAILED

    def _leave_report(self, derived: Derived | None = None) -> None:
        """For a training that could not do it: it failed, was killed, or left before its data were prepared."""
        if self.run.job.get("kind") != "train" or not tell(self.run).attempt or report_files.left_by_trainer(self.run):
            return
        if derived is not None and report_files.takes_long(self.run):
            return  # that it is dead is said first
        try:
            written = report_files.leave(self.run, report_of(self.run, derived=derived))
        except Exception as error:  # noqa: BLE001 - how the run ended is written down all the same
            say(f"the report of {self.run.id} can't be written: {report_files.why_not(error)}")
            return
        self._reported = derived is not None
        for one in written:
            self._ledger.write("artifact", **one)

    # What the steps need.

    def _devices(self) -> list[str]:
        return list(self._turn.devices) if self._turn is not None else []

    def _listen(self) -> None:
        def note(number: int, _frame: FrameType | None) -> None:
            self._signals.append("pause" if number == signal.SIGUSR1 else "stop")

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            self._restore[number] = signal.signal(number, note)


def main(arguments: list[str]) -> int:
    """`python -m llamahome_tui.jobs.supervisor RUN_DIR`: the detached form."""
    # Its terminal may go, and a Ctrl+C there is not meant for it.
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    try:
        return supervise(Run.open(Path(arguments[0])))
    except LlamaHomeError as error:
        say(f"{error.message}; {error.hint}")
        return error.exit
    except Exception:  # noqa: BLE001  # an outer wall: the run goes on, and the next supervisor takes it over
        traceback.print_exc()
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
