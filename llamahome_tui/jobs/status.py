"""What state a job is in: derived each time, from the locks first and then from the journals; never stored."""

from __future__ import annotations

import os
import signal as signals
import time
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from llamahome_tui.errors import ConfigError
from llamahome_tui.jobs import control
from llamahome_tui.jobs.identity import Identity, boot_id, pid_namespace
from llamahome_tui.jobs.journal import Record, head, tail
from llamahome_tui.jobs.locks import holder
from llamahome_tui.jobs.store import Run

_TAIL: Final = 64 << 10  # bytes: an attempt's `end`, and the `error` before it, are the last things in its journal
_FRESH: Final = 120.0  # seconds: a journal that grew so lately belongs to a run that goes on, on whatever host


class Status(StrEnum):
    """The states of a job."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    UNSUPERVISED = "unsupervised"
    STALLED = "stalled"
    STOPPING = "stopping"
    COMPLETED = "completed"
    STOPPED = "stopped"
    PAUSED = "paused"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    LOST = "lost"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens by itself."""
        return self in _ENDED

    @property
    def good(self) -> bool:
        """Whether it ended as somebody wanted it to."""
        return self in (Status.COMPLETED, Status.STOPPED, Status.PAUSED)


_ENDED: Final = frozenset(
    {Status.COMPLETED, Status.STOPPED, Status.PAUSED, Status.FAILED, Status.INTERRUPTED, Status.LOST}
)
_BY_REASON: Final = {
    "completed": Status.COMPLETED,
    "stopped": Status.STOPPED,
    "paused": Status.PAUSED,
    "failed": Status.FAILED,
}


@dataclass(frozen=True, slots=True)
class Derived:
    """A job's state and why. `exit_code` and `signal` are null when nobody saw how the trainer died.

    `remote`: it lives, or lived, where this process can neither see nor signal it: read-only here.
    `unreadable`: its files are another user's, as after a start with sudo; such a run is `remote` too.
    `adoptable`: it needs a supervisor and has none, perhaps only to say that it has ended. `checkpoint` is the newest
    complete one at the trainer's death. `failure` has code, exception, message, hint and step of its `error` event.
    """

    status: Status
    attempt: int
    exit_code: int | None = None
    signal: str | None = None
    reason: str = ""
    hint: str = ""
    remote: bool = False
    trainer_pid: int | None = None
    supervisor_pid: int | None = None
    adoptable: bool = False
    checkpoint: str | None = None
    failure: dict[str, Any] | None = None
    unreadable: bool = False

    @property
    def live(self) -> bool:
        """Whether it runs, waits or is about to."""
        return not self.status.ended


@dataclass(frozen=True, slots=True)
class Story:
    """What the journals tell about the newest attempt; each field is None when that has not happened in it."""

    spawn: Record | None  # its `begin` while there is no more
    exit: Record | None
    stall: Record | None
    start: Record | None
    end: Record | None
    error: Record | None
    events_bytes: int
    caretaker: int | None  # pid of the supervisor that started or adopted it
    adopted: bool

    @property
    def attempt(self) -> int:
        """Number of the newest attempt; 0 before the first."""
        said = [record.get("attempt") for record in (self.spawn, self.start) if record is not None]
        return max((attempt for attempt in said if isinstance(attempt, int)), default=0)

    @property
    def trainer(self) -> Identity | None:
        """The process of the newest attempt."""
        for record in (self.start, self.spawn):
            identity = Identity.from_record(record) if record is not None else None
            if identity is not None:
                return identity
        return None

    @property
    def unborn(self) -> bool:
        """Whether it was begun and nothing of it was ever seen: its supervisor died just then, and it is still due."""
        begun = self.spawn is not None and self.spawn["type"] == "begin" and not self.adopted
        return begun and self.exit is None and self.start is None and self.end is None and self.error is None

    @property
    def retry_due(self) -> bool:
        """Whether its supervisor has decided to try again and not done it yet."""
        return self.exit is not None and bool(self.exit.get("retry"))

    @property
    def rebooted(self) -> bool:
        """Whether the machine has been restarted since that attempt began."""
        return self.trainer is not None and self.trainer.boot_id != boot_id()


def tell(run: Run) -> Story:
    """The newest attempt, read from the ends of both journals; how long these are does not matter."""
    spawn = exit_ = stall = None
    adopted: Record | None = None
    for record in reversed(tail(run.supervisor_path, 16, {"begin", "spawn", "adopt", "exit", "stall"})):
        if record["type"] in ("begin", "spawn"):
            spawn = record
            break
        if record["type"] == "adopt":
            adopted = adopted or record
        elif record["type"] == "stall":
            stall = stall or record
        elif adopted is None:  # an exit before an adoption was that of an earlier attempt
            exit_ = exit_ or record
    if spawn is None and (exit_ is not None or stall is not None or adopted is not None):
        spawn = next(iter(tail(run.supervisor_path, 1, {"begin", "spawn"})), None)
    try:
        size = run.events_path.stat().st_size
    except FileNotFoundError:
        size = 0
    # A spawn says how long the trainer's journal was then: what comes later belongs to this attempt.
    begun = spawn.get("events_bytes") if spawn is not None else 0
    begun = begun if isinstance(begun, int) and 0 <= begun <= size else 0
    found = _this_attempt(run, begun, size, whole=spawn is None)
    caretaker = (adopted or spawn or {}).get("supervisor")
    return Story(
        spawn, exit_, stall, found.get("start"), found.get("end"), found.get("error"), size,
        caretaker if isinstance(caretaker, int) else None, adopted is not None,
    )  # fmt: skip


def _this_attempt(run: Run, begun: int, size: int, *, whole: bool) -> dict[str, Record]:
    """start, end and error of the attempt whose part of the trainer's journal lies between these bytes."""
    room = size - begun + 1
    newest = tail(run.events_path, 1, limit_bytes=min(_TAIL, room)) if size > begun else []
    if newest and newest[0]["type"] == "end" and newest[0].get("reason") != "failed" and not whole:
        return {"end": newest[0]}  # how it began is told by its spawn
    found: dict[str, Record] = {}
    for record in tail(run.events_path, 8, {"start", "end", "error"}, limit_bytes=min(_TAIL, room)) if newest else []:
        if record["type"] == "start":
            found.clear()  # a further attempt, started by hand
        found[record["type"]] = record
    if "start" not in found:
        found.update(
            (record["type"], record) for record in head(run.events_path, 8, begun) if record["type"] == "start"
        )
    return found


def derive(run: Run) -> Derived:
    """The state of a run, now. Reads two locks and the ends of two journals; changes nothing."""
    # Locks before journals: a lock seen free means that everything its holder wrote is there to be read.
    trainer = holder(run.trainer_lock)
    supervisor = holder(run.supervisor_lock)
    try:
        return _told(run, trainer, supervisor)
    except PermissionError as error:
        return _of_another_user(run, error, working=trainer is not None)


def _told(run: Run, trainer: int | None, supervisor: int | None) -> Derived:
    story = tell(run)
    known = story.trainer
    if known is not None and known.host != os.uname().nodename:
        return _elsewhere(run, story, f"it belongs to the host {known.host}")
    if known is not None and known.boot_id == boot_id() and known.pidns != pid_namespace() and trainer is not None:
        return _elsewhere(run, story, "it lives in another pid namespace of this host")
    if trainer is not None:
        return _working(run, story, trainer, supervisor)
    if supervisor is not None:
        return _between(run, story, supervisor)
    return _alone(run, story)


def _working(run: Run, story: Story, trainer: int, supervisor: int | None) -> Derived:
    reason = ""
    adoptable = supervisor is None
    if control.stop_requested(run) is not None:
        status = Status.STOPPING
        reason = "a stop was asked; it checkpoints and ends"
    elif story.end is not None:
        status = Status.STOPPING
        reason = f"it has ended ({story.end.get('reason')}) and its process is about to go"
    elif supervisor is None:
        status = Status.UNSUPERVISED
        reason = "training goes on; the next llamahome command looks after it again"
    elif story.start is None:
        status = Status.STARTING
    elif story.stall is not None and story.stall.get("events_bytes") == story.events_bytes:
        status = Status.STALLED
        reason = f"nothing new for {story.stall.get('silent_s', 0):g} s; where it hangs stands in out.log"
    else:
        status = Status.RUNNING
    return Derived(
        status, story.attempt, reason=reason, trainer_pid=trainer, supervisor_pid=supervisor, adoptable=adoptable,
        hint=f"llamahome --batch runs logs {run.id}" if status is Status.STALLED else "",
    )  # fmt: skip


def _between(run: Run, story: Story, supervisor: int) -> Derived:
    """A supervisor without a trainer: it waits, starts one, or has just seen one go."""
    if story.spawn is None or (resume_waits(run, story) and not story.unborn):
        return Derived(Status.QUEUED, story.attempt, supervisor_pid=supervisor, reason="it waits for its devices")
    if story.caretaker not in (None, supervisor):
        # It has only just come, perhaps to sweep: what it finds is as if nobody were there.
        return replace(_alone(run, story), supervisor_pid=supervisor, adoptable=False)
    if story.unborn:
        return Derived(Status.STARTING, story.attempt, supervisor_pid=supervisor)
    if story.exit is not None:
        if story.retry_due:
            stopped = control.stop_requested(run) is not None
            return Derived(
                Status.STOPPING if stopped else Status.STARTING, story.attempt, supervisor_pid=supervisor,
                reason=f"attempt {story.attempt} failed" + ("" if stopped else "; it is tried again"),
            )  # fmt: skip
        return _ended(run, story, supervisor)
    if story.end is not None and story.end.get("reason") in ("completed", "stopped", "paused"):
        return _ended(run, story, supervisor)
    spawned = Identity.from_record(story.spawn)
    if story.start is None and spawned is not None and spawned.alive:
        return Derived(Status.STARTING, story.attempt, supervisor_pid=supervisor, trainer_pid=spawned.pid)
    return Derived(
        Status.STOPPING, story.attempt, supervisor_pid=supervisor,
        reason=f"its process is gone; supervisor {supervisor} has not said yet how",
    )  # fmt: skip


def _alone(run: Run, story: Story) -> Derived:
    """Nobody holds a lock."""
    derived = _waiting_or_ended(run, story)
    if derived.adoptable and derived.status is Status.QUEUED:
        try:
            _ = run.job
        except ConfigError as error:  # no supervisor could do anything for it
            return Derived(Status.FAILED, story.attempt, reason=error.message, hint=error.hint)
    return derived


def _waiting_or_ended(run: Run, story: Story) -> Derived:
    if resume_waits(run, story):
        return Derived(Status.QUEUED, story.attempt, adoptable=True, reason="it waits for its devices")
    if story.unborn or (story.spawn is None and story.start is None):
        if control.stop_requested(run) is not None:
            return Derived(Status.STOPPED, story.attempt, reason="it was stopped before it began")
        return Derived(Status.QUEUED, story.attempt, adoptable=True, reason="it waits for its devices")
    if story.retry_due and control.stop_requested(run) is None and not story.rebooted:
        return Derived(
            Status.UNSUPERVISED, story.attempt, adoptable=True,
            reason="it is due to be tried again; the next llamahome command goes on with it",
        )  # fmt: skip
    spawned = Identity.from_record(story.spawn) if story.spawn is not None and story.exit is None else None
    if story.start is None and story.end is None and spawned is not None and spawned.alive:
        return Derived(
            Status.UNSUPERVISED, story.attempt, adoptable=True, trainer_pid=spawned.pid, reason="it is just starting"
        )
    return replace(_ended(run, story, None), adoptable=unclosed(story))


def unclosed(story: Story) -> bool:
    """Whether it came to its end unsupervised in this boot: that is still to be journalled, told, or tried again."""
    return story.end is not None and story.exit is None and story.spawn is not None and not story.rebooted


def _ended(run: Run, story: Story, supervisor: int | None) -> Derived:
    """Every lock of a trainer is free and no attempt is to come."""
    exit_ = story.exit or {}
    code, name = exit_.get("code"), exit_.get("signal")
    code = code if isinstance(code, int) else None
    name = name if isinstance(name, str) else None
    status, reason = _how_it_ended(run, story)
    failure = None
    if story.error is not None and status is Status.FAILED:
        failure = {key: story.error.get(key) for key in ("code", "exception", "message", "hint", "step")}
        reason = str(failure["message"] or reason)
    checkpoint = exit_.get("checkpoint")
    hint = str((failure or {}).get("hint") or "")
    if status is Status.FAILED and not hint:
        hint = _hint_for(run, name, bool(exit_.get("oom")))
    elif status in (Status.LOST, Status.INTERRUPTED, Status.STOPPED, Status.PAUSED):
        hint = f"go on from the newest checkpoint: llamahome --batch runs resume {run.id}"
    return Derived(
        status, story.attempt, code, name, reason, hint, supervisor_pid=supervisor,
        checkpoint=checkpoint if isinstance(checkpoint, str) else None, failure=failure,
    )  # fmt: skip


def as_ended(run: Run, story: Story, exit_: Record) -> Derived:
    """The state of a run once its supervisor has written this `exit`, after which no attempt comes."""
    return _ended(run, replace(story, exit=exit_), None)


def _how_it_ended(run: Run, story: Story) -> tuple[Status, str]:
    if story.retry_due and control.stop_requested(run) is not None:
        return Status.STOPPED, "it was stopped before it was tried again"
    if story.retry_due and story.rebooted:
        return Status.INTERRUPTED, "the machine was restarted before it was tried again"
    if story.end is not None and story.end.get("reason") in _BY_REASON:
        return _BY_REASON[str(story.end["reason"])], ""
    if story.exit is not None:
        # How it stood when the trainer died: what is asked afterwards doesn't change what happened.
        if story.exit.get("stop"):
            return Status.STOPPED, "it was stopped without a last checkpoint"
        return Status.FAILED, _death(story.exit)
    if control.stop_requested(run) is not None:
        return Status.STOPPED, "it was stopped without a last checkpoint"
    if story.rebooted:
        return Status.INTERRUPTED, "the machine was restarted while it ran"
    return Status.LOST, "its process and its supervisor are gone; nobody saw why"


def _death(exit_: Record) -> str:
    name, code = exit_.get("signal"), exit_.get("code")
    if exit_.get("oom"):
        return f"the kernel killed it ({name}): the machine ran out of memory"
    if exit_.get("problem"):
        return str(exit_["problem"])
    if name:
        return f"it was killed by {name}"
    if code is not None:
        return f"it ended with exit code {code} and without saying that it was done"
    return "it died; its supervisor was not its parent, so how is not known"


def _hint_for(run: Run, name: str | None, oom: bool) -> str:
    resume = f"llamahome --batch runs resume {run.id}"
    if oom or name == "SIGKILL":
        guess = "" if oom else "perhaps the out-of-memory killer (see: dmesg); "
        smaller = "" if run.job.get("kind") == "exec" else " --set training.batch_size=1"
        return f"{guess}then{', with less memory' if smaller else ''}: {resume}{smaller}"
    return f"see what it printed: llamahome --batch runs logs {run.id}; then: {resume}"


def resume_waits(run: Run, story: Story) -> bool:
    """Whether somebody has asked for another attempt that has not been spawned."""
    asked = control.resume_in(control.requests(run))
    if asked is None:
        return False
    if story.spawn is not None and asked.id == story.spawn.get("request"):
        return story.unborn
    return asked.id not in control.answered(run, by_trainer=False)  # only supervisors answer these


def _elsewhere(run: Run, story: Story, where: str) -> Derived:
    """Its locks mean nothing here: only the journals speak, and nothing may be done to it."""
    if story.exit is not None or story.end is not None:
        status, reason = _how_it_ended(run, story)
    else:
        try:
            age = time.time() - max(run.events_path.stat().st_mtime, run.supervisor_path.stat().st_mtime)
        except FileNotFoundError:
            age = _FRESH
        status, reason = (Status.RUNNING, "") if age < _FRESH else (Status.LOST, f"silent for {age:.0f} s")
    return Derived(
        status, story.attempt, remote=True, reason=f"{where}; {reason}".removesuffix("; "),
        hint="log in there to change it",
    )  # fmt: skip


def _of_another_user(run: Run, error: PermissionError, *, working: bool) -> Derived:
    """Its journals are closed to this user: only its locks speak, and one's own runs go on beside it."""
    return Derived(
        Status.RUNNING if working else Status.LOST, 0, remote=True, unreadable=True,
        reason=f"it belongs to another user: {error.filename or run.dir} can't be read",
        hint=f"to have it back: sudo chown -R {os.geteuid()}:{os.getegid()} {run.dir}",
    )  # fmt: skip


def signal_name(number: int) -> str:
    """`SIGKILL` for 9; realtime signals by number."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"SIG{number}"
