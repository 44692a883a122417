"""A run as people and scripts see it (CONTRACT: runs show); made from its files each time it is asked, never stored."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from llamahome_tui.config.secrets import redact
from llamahome_tui.errors import LlamaHomeError
from llamahome_tui.jobs import exports as exported
from llamahome_tui.jobs import history
from llamahome_tui.jobs.identity import boot_id
from llamahome_tui.jobs.reader import tail
from llamahome_tui.jobs.records import Record
from llamahome_tui.jobs.status import Derived, Status, derive
from llamahome_tui.jobs.store import Run
from llamahome_tui.units import utc

# What only `runs show` has: lists, and what takes a look through the whole journal.
LISTS: Final = frozenset({"checkpoints", "artifacts", "recoveries", "degrades"})
_MODERATE: Final = 2 << 20  # bytes of a journal


@dataclass(frozen=True, slots=True)
class RunView:
    """One run at one moment. Times are ISO 8601 UTC or seconds, sizes bytes; what is not known is null."""

    id: str
    name: str
    status: str
    attempt: int
    step: int | None
    steps: int | None
    metrics: dict[str, float | int | None]
    best: dict[str, Any] | None
    started_at: str | None
    elapsed_s: float | None
    eta_s: float | None
    checkpoints: tuple[dict[str, Any], ...]
    artifacts: tuple[dict[str, Any], ...]
    memory: dict[str, int | None]
    recoveries: tuple[dict[str, Any], ...]
    host: str | None
    remote: bool
    kind: str = "train"
    model: str | None = None
    method: str | None = None
    replay_of: str | None = None  # the run that this one does again
    command: tuple[str, ...] | None = None
    tags: tuple[str, ...] = ()
    title: str | None = None
    note: str | None = None
    phase: str | None = None
    epoch: float | None = None
    tokens_per_s: float | None = None
    reason: str = ""
    hint: str = ""
    failure: dict[str, Any] | None = None
    exit_code: int | None = None
    signal: str | None = None
    queue_position: int | None = None
    created_at: str | None = None
    ended_at: str | None = None
    age_s: float | None = None  # since the newest record of the trainer
    dir: str = ""
    degrades: tuple[dict[str, Any], ...] = ()
    full: bool = False
    adoptable: bool = False  # it needs a supervisor and has none
    last_t: float | None = None  # unix time of the trainer's newest record

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; without the lists unless everything was asked for."""
        hidden = {"full", "adoptable", "last_t"} | (set() if self.full else LISTS)
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in hidden}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @property
    def ended(self) -> bool:
        """Whether nothing more happens by itself."""
        return Status(self.status).ended


def summarise(
    run: Run, *, full: bool = False, queued: Mapping[str, int] | None = None, derived: Derived | None = None
) -> RunView:
    """How the run stands now, or as `derived` has it.

    `full` adds its lists and looks through the whole journal for evaluations.
    `queued` gives the place in the queue by run id; without it the queue is read. A run whose spec.json is broken
    is shown as far as it is known, with the fault as its reason.
    """
    derived = derived or derive(run)
    full = full and not derived.unreadable
    newest = history.newest(run.events_path, thorough=full)
    # The trainer notes its best evaluation with every checkpoint; for others a journal of moderate size is read whole.
    small = newest.size <= _MODERATE
    look = full or derived.attempt > 1 or (small and newest.metrics and not newest.best_known)
    rare = history.whole(run.events_path) if look else None
    first = rare.attempts[0].start if rare is not None and rare.attempts else history.first_record(run.events_path)
    begun = first is not None and first["type"] == "start"
    now, mono = time.time(), time.monotonic()
    reason = derived.reason
    try:
        job = run.job
    except LlamaHomeError as error:
        job, reason = {}, derived.reason if derived.unreadable else error.message
    labels = run.labels()
    spec = job.get("spec") if isinstance(job.get("spec"), dict) else {}
    assert isinstance(spec, dict)
    checkpoints = _checkpoints(run, rare) if full else ()
    metrics = dict(newest.metrics)
    for evaluation in reversed(rare.evaluations if rare is not None else ()):
        for name, value in evaluation.items():
            if name.startswith("eval_"):
                metrics.setdefault(name, value)
    status = derived.status
    last = newest.last if newest.last is not None and newest.last["type"] == "end" else {}
    host = first.get("host") if first is not None and begun else None
    return RunView(
        id=run.id,
        name=str(job.get("name") or run.id[16:]),
        status=status.value,
        attempt=derived.attempt,
        step=newest.step if newest.step or newest.steps or job.get("kind") != "exec" else None,
        steps=newest.steps,
        metrics=metrics,
        best=_best(run, spec, newest, rare, checkpoints),
        started_at=utc(first["t"]) if first is not None and begun else None,
        elapsed_s=_elapsed(first if begun else None, newest.last, rare, derived, mono),
        eta_s=_eta(newest, status, mono),
        checkpoints=checkpoints,
        artifacts=_artifacts(run, rare) if full else (),
        memory={
            "predicted_bytes": _whole(first.get("predicted_bytes")) if first is not None else None,
            "measured_bytes": _whole(metrics.get("memory_peak_bytes")),
        },
        recoveries=_recoveries(rare),
        host=str(host) if host else None,
        remote=derived.remote,
        kind=str(job.get("kind") or "train"),
        model=_text(_in(spec, "model", "id")),
        method=_text(_in(spec, "method", "kind")),
        replay_of=_text(_in(job, "replay_of", "run")),
        command=tuple(redact(str(word)) for word in job["command"]) if isinstance(job.get("command"), list) else None,
        tags=tuple(str(tag) for tag in labels.get("tags", job.get("tags") or spec.get("tags") or ())),
        title=_text(labels.get("title")),
        note=_text(labels.get("note")),
        phase=None if status.ended else newest.phase or ("train" if newest.metrics else None),
        epoch=newest.epoch,
        tokens_per_s=_number(metrics.get("tokens_per_s")),
        reason=reason,
        hint=derived.hint,
        failure=derived.failure,
        exit_code=_whole(last["exit_code"]) if "exit_code" in last else derived.exit_code,
        signal=_text(last["signal"]) if "signal" in last else derived.signal,
        queue_position=_position(run, status, queued),
        created_at=_text(job.get("created_at")),
        ended_at=utc(newest.last["t"]) if status.ended and newest.last is not None else None,
        age_s=max(0.0, now - newest.last["t"]) if newest.last is not None else None,
        dir=str(run.dir),
        degrades=tuple(_plain(record, "step", "what", "why") for record in rare.degrades) if full and rare else (),
        full=full,
        adoptable=derived.adoptable,
        last_t=newest.last["t"] if newest.last is not None else None,
    )


def _elapsed(
    first: Record | None, last: Record | None, rare: history.Whole | None, derived: Derived, mono: float
) -> float | None:
    """Seconds of work over all attempts, by the monotonic clock: what the wall clock does in between is no time."""
    if first is None or last is None:
        return None
    spans = [(a.start, a.last) for a in rare.attempts] if rare is not None and rare.attempts else [(first, last)]
    seconds = 0.0
    for start, end in spans:
        until = float(end["mono"])
        newest_one = start is spans[-1][0]
        if newest_one:
            until = float(last["mono"])
            here = start.get("boot_id") == boot_id() and start.get("host") == os.uname().nodename
            if derived.trainer_pid is not None and here and not derived.status.ended:
                until = mono
        seconds += max(0.0, until - float(start["mono"]))
    return round(seconds, 3)


def _eta(newest: history.Newest, status: Status, mono: float) -> float | None:
    if status not in (Status.RUNNING, Status.UNSUPERVISED) or newest.eta_s is None:
        return None
    return round(max(0.0, newest.eta_s - max(0.0, mono - newest.eta_mono)), 1)


def _best(
    run: Run,
    spec: Mapping[str, Any],
    newest: history.Newest,
    rare: history.Whole | None,
    checkpoints: tuple[dict[str, Any], ...],
) -> dict[str, Any] | None:
    """The best evaluation: as the trainer recorded it, or found among the evaluations where it did not."""
    told = newest.best
    metric = str(_in(spec, "evaluation", "metric") or "eval_loss")
    if told is None and not newest.best_known:
        higher = bool(_in(spec, "evaluation", "higher_is_better"))
        measured = [(e["step"], _number(e.get(metric))) for e in rare.evaluations] if rare is not None else []
        numbers = [(value, step) for step, value in measured if value is not None]
        if not numbers:
            return None
        value, step = (max if higher else min)(numbers, key=lambda pair: pair[0])
        told = {"metric": metric, "value": value, "step": step}
    if told is None:
        return None
    step = told.get("step")
    path = told.get("path") or next((c["path"] for c in checkpoints if c["step"] == step and c["complete"]), None)
    return {
        "metric": told.get("metric"), "value": told.get("value"), "step": step,
        "path": str(run.dir / str(path)) if path else None,
    }  # fmt: skip


def _checkpoints(run: Run, rare: history.Whole | None) -> tuple[dict[str, Any], ...]:
    """What is on the disk; the journal adds when it was made."""
    from llamahome_tui.jobs import recovery  # a list of runs does without

    noted = rare.checkpoints if rare is not None else {}
    return tuple(
        {
            "step": c.step,
            "path": str(c.path),
            "bytes": c.bytes,
            "complete": c.complete,
            "t": utc(noted[c.step]["t"]) if c.step in noted else utc(c.t) if c.t else None,
        }
        for c in recovery.checkpoints(run)
    )


def _artifacts(run: Run, rare: history.Whole | None) -> tuple[dict[str, Any], ...]:
    found = dict(rare.artifacts) if rare is not None else {}
    for record in tail(run.supervisor_path, 64, {"artifact"}):  # the report of a run that could not leave one
        found[str(record.get("path"))] = record
    return tuple(
        {
            "kind": record.get("kind"),
            "path": str(run.dir / str(path)),
            "bytes": record.get("bytes"),
            "sha256": record.get("sha256"),
            "exists": Path(run.dir, str(path)).exists(),
        }
        for path, record in found.items()
    ) + tuple(dict(one) for one in exported.kept(run))


def _recoveries(rare: history.Whole | None) -> tuple[dict[str, Any], ...]:
    later = rare.attempts[1:] if rare is not None else []
    return tuple({"t": utc(a.start["t"]), **_plain(a.start, "attempt", "from_step", "reason", "exact")} for a in later)


def _position(run: Run, status: Status, queued: Mapping[str, int] | None) -> int | None:
    if status is not Status.QUEUED:
        return None
    if queued is not None:
        return queued.get(run.id)
    from llamahome_tui.jobs.queue import Queue

    return Queue(run.state).position(run.id)


def _plain(record: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: record.get(name) for name in names}


def _in(value: Mapping[str, Any], *keys: str) -> Any:
    found: Any = value
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _text(value: Any) -> str | None:
    return str(value) if value not in (None, "") else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
