"""Asking something of a run: `runs stop`, `resume`, `control`, `move`, `tag`; a request is left, no status is set."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from llamahome_tui.errors import BusyError, LlamaHomeError, ResourceError, SpecError, UsageError
from llamahome_tui.jobs import control, spawn
from llamahome_tui.jobs.commands.following import Adoption, ending, environ_of_jobs, stay_with
from llamahome_tui.jobs.follow import POLL_S, follow
from llamahome_tui.jobs.queue import Queue, leave
from llamahome_tui.jobs.reader import tail
from llamahome_tui.jobs.status import Derived, Status, derive
from llamahome_tui.jobs.store import Run, RunStore
from llamahome_tui.jobs.submit import resubmit
from llamahome_tui.outcome import Accepted, Level, Note, Outcome, Record, Result
from llamahome_tui.training.rules import NAME

if TYPE_CHECKING:
    from llamahome_tui.context import Context

_ANSWER_S: Final = 10.0  # how long `runs control` waits for an answer before it says "pending"
_SLACK_S: Final = 30.0  # beyond the grace, until a stop counts as stuck
_TAGS: Final = 32
_WORDS: Final = ("save", "eval", "sample", "pause", "continue", "stop")
WITHOUT_SPEC: Final = {"exec": "a wrapped command", "export": "an export"}  # kinds of jobs that train nothing
_MEANS: Final = {
    "save": "there is nothing to save",
    "eval": "there is nothing to evaluate",
    "sample": "there is nothing to write with",
    "pause": "there is nothing to pause",
    "lr": "its schedule starts with its spec",
}


def stop(context: Context, id: str, now: bool = False) -> Iterator[Outcome]:
    """Have a run checkpoint and end, and stay until it has; `now` kills it. Asked again it changes nothing."""
    run = RunStore(context.places).resolve(id)
    derived = _mine(run)
    if derived.status.ended:
        yield Note(f"{run.id} has already ended: {derived.status.value}")
        yield Result(ending(run, derived))
        return
    asked = control.stop_requested(run)
    repeated = asked is not None and not (now and not (isinstance(asked.value, dict) and asked.value.get("now")))
    if not repeated:
        _drop(run, "stop", {"now": now})
    yield from _until_gone(context, run, changed=not repeated)


def resume(context: Context, id: str, set: Sequence[str] = (), detach: bool = False) -> Iterator[Outcome]:
    """Another attempt of a run that has ended, in the same folder, from its newest complete checkpoint."""
    run = RunStore(context.places).resolve(id)
    derived = _mine(run)
    if not derived.status.ended:
        raise BusyError(
            f"{run.id} is {derived.status.value}",
            code="run.live",
            hint=f"follow it: llamahome --batch runs watch {run.id}",
            data=ending(run, derived),
        )
    changes = changes_of(context, run, set)
    if derived.status is Status.COMPLETED and not (changes and run.job.get("kind") == "train"):
        raise UsageError(
            f"{run.id} is completed: there is nothing left to do",
            code="run.completed",
            hint=_more(run),
        )
    yield from go_on(context, run, changes, detach=detach)


def go_on(
    context: Context,
    run: Run,
    changes: Mapping[str, Any],
    *,
    detach: bool,
    foreground: bool = False,
    may_wait: bool = True,
) -> Iterator[Outcome]:
    """Start the next attempt of an ended run with these changes to its spec, and follow it unless `detach`."""
    resubmit(context, run, changes, may_wait=may_wait)
    yield Accepted(run.id)
    if foreground:
        from llamahome_tui.jobs.commands.foreground import stay_in_foreground

        yield from stay_in_foreground(context, run, "now")
        return
    spawn.launch(run, environ_of_jobs(context))
    if detach:
        yield Result(ending(run, derive(run)), changed=True, next=(f"llamahome --batch runs watch {run.id}",))
        return
    yield from stay_with(context, run, "now", changed=True)


def changes_of(context: Context, run: Run, words: Sequence[str]) -> dict[str, Any]:
    """What `--set` words change in the run's spec, as dotted keys.

    Raises SpecError with every mistake at once, and as `check_changes` does for what cannot be had.
    """
    if not words:
        return {}
    if run.job.get("kind") in WITHOUT_SPEC:
        raise UsageError(
            f"{run.id} is {WITHOUT_SPEC[run.job['kind']]}: it has no spec to change",
            hint=f"resume it as it is: llamahome --batch runs resume {run.id}",
        )
    from llamahome_tui.jobs.recovery import newest_complete_checkpoint
    from llamahome_tui.training.checks import check_changes
    from llamahome_tui.training.resume import fixed_changes
    from llamahome_tui.training.spec import SCHEMA, Spec, make_spec

    old = Spec.from_dict(run.effective_job()["spec"])
    document = {key: value for key, value in old.to_dict().items() if key != "given"}
    new = make_spec(
        document, source=str(run.dir / "spec.json"), folder=context.cwd, environ=context.environ, overrides=words
    )
    values = new.to_dict()
    changes = {key: _at(values, key) for key in SCHEMA if old.get(key) != new.get(key)}
    found_by = "is what the run is found by; runs tag changes tags"
    fixed: list[tuple[str, str]] = [(key, found_by) for key in ("name", "tags") if key in changes]
    if newest_complete_checkpoint(run) is not None:
        fixed += fixed_changes(old, new)
    if fixed:
        errors = [{"file": "--set", "line": 0, "key": key, "reason": why, "nearest": ""} for key, why in fixed]
        raise SpecError(
            "\n".join(f"--set {key}: {why}" for key, why in fixed),
            code="spec.fixed",
            hint=f"start a new run from it: llamahome --batch train start SPEC --set model.id={run.id}",
            data={"errors": errors},
        )
    check_changes(context, new, changes)
    return changes


def ask(context: Context, id: str, request: str) -> Iterator[Outcome]:
    """`runs control`: leave a request and give the answer; without one after ten seconds the outcome is `pending`.

    `continue` and `stop` are answered by what they bring about. Raises SpecError for a rate that is none, UsageError
    for what the run can't do as it stands or refuses, BusyError for a run of another machine.
    """
    run = RunStore(context.places).resolve(id)
    op, value = request_of(request)
    if op == "stop":
        yield from stop(context, id)
        return
    derived = _mine(run)
    if op == "continue":
        if derived.status is not Status.PAUSED:
            raise _not_live(run, derived, "continue is for a paused run", _instead(run, derived))
        yield from go_on(context, run, {}, detach=True)
        return
    if derived.status.ended:
        raise _not_live(run, derived, f"{op} is for a live run", _instead(run, derived))
    if run.job.get("kind") in WITHOUT_SPEC:
        raise UsageError(
            f"{run.id} is {WITHOUT_SPEC[run.job['kind']]}: it takes no {op}",
            code="control.refused",
            hint=f"stop it: llamahome --batch runs stop {run.id}",
        )
    if derived.status is Status.QUEUED:
        move_it = f"let others go first: llamahome --batch runs move {run.id} 2"
        raise UsageError(
            f"{run.id} is queued: it has not begun, and {_MEANS[op]}",
            code="control.refused",
            hint=move_it if op == "pause" else f"follow it until it has: llamahome --batch runs watch {run.id}",
        )
    name = _drop(run, op, value)
    if op == "pause":
        yield from _until_gone(context, run, changed=True, request_id=name)
        return
    yield _answer(context, run, name, op)


def move(context: Context, id: str, position: int) -> Iterator[Outcome]:
    """Give a waiting run another place in the queue; 1 is next."""
    run = RunStore(context.places).resolve(id)
    if position < 1:
        raise UsageError("the first place is 1", hint=f"as in: llamahome --batch runs move {run.id} 1")
    queue = Queue(run.state)
    before = queue.position(run.id)
    with queue.locked() as opened:
        place = opened.move(run.id, position)
    order = [entry.run for entry in queue.waiting()]
    yield Result({"id": run.id, "position": place, "queue": order}, changed=place != before)


def tag(context: Context, id: str, tag: str) -> Iterator[Outcome]:
    """Add a tag to a run, or take it off with a dash before it."""
    run = RunStore(context.places).resolve(id)
    name = tag.removeprefix("-")
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name[:64]!r} is no tag: letters, digits, dots, dashes and underscores, at most 64",
            hint=f"as in: llamahome --batch runs tag {run.id} good",
        )
    spec = run.job.get("spec")
    begun = run.job.get("tags") or (spec.get("tags") if isinstance(spec, dict) else None) or []
    before = [str(one) for one in run.labels().get("tags", begun)]
    after = [one for one in before if one != name] if tag.startswith("-") else list(dict.fromkeys([*before, name]))
    if len(after) > _TAGS:
        raise UsageError(
            f"a run has at most {_TAGS} tags", hint=f"take one off: llamahome --batch runs tag {run.id} -TAG"
        )
    if after != before:
        try:
            run.set_labels(tags=after)
        except OSError as error:
            raise _not_writable(run, error) from error
    yield Result({"id": run.id, "tags": after}, changed=after != before)


def _mine(run: Run) -> Derived:
    """How it stands; raises BusyError for a run that lives on another machine."""
    derived = derive(run)
    if derived.remote:
        raise BusyError(
            f"{run.id} can only be read here: {derived.reason}",
            code="run.remote",
            hint="log in there and try again",
            data=ending(run, derived),
        )
    return derived


def _drop(run: Run, op: str, value: Any) -> str:
    try:
        return control.drop(run, op, value)
    except OSError as error:
        raise _not_writable(run, error) from error


def _until_gone(context: Context, run: Run, *, changed: bool, request_id: str = "") -> Iterator[Outcome]:
    """Stay until a run that was asked to leave has left. Raises BusyError when even its grace was not enough, and
    UsageError when it refuses what it was asked by `request_id`."""
    from llamahome_tui.jobs.retries import Recovery

    deadline = time.monotonic() + Recovery.of(run.effective_job()).grace_s + _SLACK_S
    adoption = Adoption(context)
    for news in follow(run, "now"):
        if not isinstance(news, Derived):
            yield Record(run.id, news.source, news.record)
            continue
        adoption.look(run, news)
        if request_id and not news.status.ended:
            _answer_to(run, request_id, "pause")
        if time.monotonic() >= deadline and not news.status.ended:
            raise BusyError(
                f"{run.id} is still there: {news.status.value}",
                code="run.stuck",
                hint=f"kill it: llamahome --batch runs stop {run.id} --now",
                data=ending(run, news),
            )
    derived = derive(run)
    if derived.supervisor_pid is None:
        leave(run)  # stopped before anybody looked after it
    if not derived.status.good:
        yield Note(f"it {derived.status.value}: {derived.reason}", Level.WARNING)
    after = (f"llamahome --batch runs resume {run.id}",) if derived.status is not Status.COMPLETED else ()
    yield Result(ending(run, derived), changed=changed, next=after)


def _answer(context: Context, run: Run, request_id: str, op: str) -> Result:
    adoption = Adoption(context)
    deadline = time.monotonic() + _ANSWER_S
    while True:
        derived = derive(run)
        adoption.look(run, derived)
        answer = _answer_to(run, request_id, op)
        if answer is not None:
            return Result(answer, changed=answer["outcome"] == "applied")
        if derived.status.ended or time.monotonic() >= deadline:
            data = {"id": run.id, "request": request_id, "op": op, "outcome": "pending", "reason": ""}
            return Result(data, changed=True, hint=f"see the answer later: llamahome --batch runs events {run.id}")
        time.sleep(POLL_S)


def _answer_to(run: Run, request_id: str, op: str) -> dict[str, Any] | None:
    """What the run has answered, None while it has not. Raises UsageError when it refuses."""
    for path in (run.events_path, run.supervisor_path):
        for record in tail(path, 64, {"control"}, limit_bytes=1 << 20):
            if record.get("request") != request_id:
                continue
            outcome, reason = str(record.get("outcome")), str(record.get("reason") or "")
            data: dict[str, Any] = {"id": run.id, "request": request_id, "op": op, "outcome": outcome}
            data |= {"reason": reason, "step": record.get("step")}
            if outcome == "refused":
                raise UsageError(
                    f"{run.id} refuses {op}: {reason}",
                    code="control.refused",
                    hint=f"see: llamahome --batch runs show {run.id}",
                    data=data,
                )
            return data
    return None


def request_of(text: str) -> tuple[str, Any]:
    """The request that a word means, and its value. Raises SpecError for a rate that is none, else UsageError."""
    op, equals, number = text.partition("=")
    if op == "lr" and equals:
        rate = control.rate_of(number)
        if rate is not None:
            return "lr", rate
        reason = f"{number[:32]!r} is no learning rate: a number over 0 and under {control.LARGEST_RATE:g}"
        raise SpecError(
            f"lr: {reason}",
            code="control.bad_value",
            hint="as in: llamahome --batch runs control latest lr=1e-4",
            data={"errors": [{"key": "lr", "reason": reason}]},
        )
    if text in _WORDS:
        return text, None
    raise UsageError(
        f"{text[:64]!r} is nothing a run can be asked: {', '.join(_WORDS)}, lr=X",
        hint="as in: llamahome --batch runs control latest save",
        data={"candidates": [*_WORDS, "lr="]},
    )


def _not_live(run: Run, derived: Derived, why: str, hint: str) -> LlamaHomeError:
    return UsageError(
        f"{run.id} is {derived.status.value}: {why}", code="run.not_live", hint=hint, data=ending(run, derived)
    )


def _instead(run: Run, derived: Derived) -> str:
    """What can be done with a run in this state."""
    if not derived.status.ended:
        return f"follow it: llamahome --batch runs watch {run.id}"
    if derived.status is Status.COMPLETED:
        return f"see: llamahome --batch runs show {run.id}"
    if derived.status is Status.PAUSED:
        return f"let it go on first: llamahome --batch runs control {run.id} continue"
    return f"let it go on first: llamahome --batch runs resume {run.id}"


def _not_writable(run: Run, error: OSError) -> ResourceError:
    return ResourceError(
        f"{error.filename or run.dir} can't be written: {error.strerror}",
        code="run.not_writable",
        hint="see what takes space: llamahome --batch cache usage",
    )


def _more(run: Run) -> str:
    """What to do with a run that is completed; where its steps were given, epochs mean nothing."""
    if run.job.get("kind") == "exec":
        return f"run it again: llamahome --batch runs exec --name {run.name} -- COMMAND"
    if run.job.get("kind") == "export":
        return f"see where it is: llamahome --batch runs show {run.id}"
    spec = run.effective_job().get("spec")
    training = spec.get("training") if isinstance(spec, dict) else None
    given = training if isinstance(training, dict) else {}
    key = "max_steps" if given.get("max_steps") else "epochs"
    longer = f"training.{key}={2 * (given.get(key) or 1):g}"
    return f"let it go on for longer: llamahome --batch runs resume {run.id} --set {longer}"


def _at(values: Mapping[str, Any], key: str) -> Any:
    table, _, name = key.rpartition(".")
    return values[table][name] if table else values[name]
