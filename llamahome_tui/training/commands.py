"""`train start`: everything is checked before the run exists, so that nothing is left half done."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from llamahome_tui.errors import BusyError, SpecError, UsageError
from llamahome_tui.hub.names import is_hub, repo_of
from llamahome_tui.jobs import spawn
from llamahome_tui.jobs.commands.changing import go_on
from llamahome_tui.jobs.commands.following import ending, environ_of_jobs, stay_with
from llamahome_tui.jobs.status import Status, derive
from llamahome_tui.jobs.store import Run, RunStore
from llamahome_tui.jobs.submit import submit
from llamahome_tui.outcome import Accepted, Level, Note, Outcome, Result
from llamahome_tui.training import checks
from llamahome_tui.training.before_start import as_job, look_ahead, said
from llamahome_tui.training.mirror import Copy, copies
from llamahome_tui.training.spec import SCHEMA, STDIN, Spec, make_spec, read_spec, read_spec_file

if TYPE_CHECKING:
    from llamahome_tui.context import Context

_WORDS: Final = "<command line>"
_LARGEST: Final = 1 << 20  # characters of a spec on stdin
_RECENT: Final = 20
_LENGTH: Final = frozenset({"training.max_steps", "training.epochs"})
# The same line means the same run only while these agree; `runs resume --set` may change more of them, said aloud.
_SAME: Final = ("model.", "data.", "method.", "lora.")
_SAME_KEYS: Final = frozenset({"training.optimizer", "training.precision", "training.seed"})
# Pinned when the run began, or a label of its own by now.
_PINNED: Final = frozenset({"model.id", "model.revision", "tags"})


def start(
    context: Context,
    spec: str | None = None,
    set: Sequence[str] = (),
    model: str | None = None,
    data: Sequence[str] = (),
    name: str | None = None,
    detach: bool = False,
    foreground: bool = False,
    or_resume: bool = False,
    no_queue: bool = False,
) -> Iterator[Outcome]:
    """Start a run and follow it, unless `detach`. Raises SpecError, what `checks.check` and `submit` raise, and
    TrainingError when the run it follows fails."""
    if foreground:
        from llamahome_tui.jobs.commands.foreground import allowed

        allowed(context)
        if detach:
            raise UsageError("--detach and --foreground exclude each other", hint=_see("start"))
    wanted = read_words(context, spec, set, model, data, name)
    if or_resume:
        earlier = next((run for run in RunStore(context.places).list() if run.name == wanted.name), None)
        if earlier is not None:
            yield from _again(context, earlier, wanted, detach=detach, foreground=foreground, may_wait=not no_queue)
            return
    copy = copy_of(context, wanted) if or_resume else None
    try:
        run = begin(context, wanted, may_wait=not no_queue, copy=copy)
    except BusyError as error:
        if not or_resume or error.error_code != "run.name_busy":
            raise
        # Somebody else ran the same line a moment ago.
        yield from _join(context, RunStore(context.places).resolve(error.data["id"]), detach=detach)
        return
    yield Accepted(run.id)
    yield from said(run.job.get("forecast"))
    if copy is not None:
        yield Note(f"goes on from step {copy.step} of {copy.run}, if its copy in the mirror is whole")
    if foreground:
        from llamahome_tui.jobs.commands.foreground import stay_in_foreground

        yield from stay_in_foreground(context, run)
        return
    spawn.launch(run, environ_of_jobs(context))
    if detach:
        after = (f"llamahome --batch runs watch {run.id}",)
        yield Result(ending(run, derive(run)), changed=True, next=after)
        return
    yield from stay_with(context, run, "start", changed=True)


def copy_of(context: Context, spec: Spec) -> Copy | None:
    """The checkpoint that the spec's mirror holds of a run of that name, where no such run is here.

    Raises ConfigError without a token, AuthError or HubError where the mirror is on the Hub and that does not answer:
    whether to go on or to begin can't be told then.
    """
    place = spec.checkpoint.mirror
    if is_hub(place):
        from llamahome_tui.training.hub_mirror import newest

        checks.has_mirror(context, spec)
        return newest(repo_of(place), spec.name, context.environ)
    return next(copies(Path(place), spec.name), None) if place else None


def begin(
    context: Context,
    spec: Spec,
    *,
    may_wait: bool = True,
    copy: Copy | None = None,
    also: Mapping[str, Any] | None = None,
) -> Run:
    """Check everything and make the run; it waits in the queue, and whoever called launches its supervisor.

    With a `copy` it goes on from what its mirror holds; `also` goes into its job as it is.

    Raises what `checks.check`, `look_ahead` and `submit` raise; no run is left then.
    """
    asked = {"id": spec.model.id, "revision": spec.model.revision}
    checked = checks.check(context, spec)
    spec = checked.spec
    foresight = look_ahead(context, checked)
    notify = context.settings.notify
    job = {
        "name": spec.name,
        "kind": "train",
        "cwd": str(context.cwd),
        "spec": spec.to_dict(),
        "asked_model": asked,
        "spec_hash": spec.digest(),
        "devices": checks.plain_devices(spec),
        "launch": {"python": checks.python_of(context, spec)},
        "notify": {"on_end": notify.on_end, "on_fail": notify.on_fail},
        "tags": list(spec.tags),
    }
    if copy is not None:
        job["mirror"] = spec.checkpoint.mirror
    if foresight is not None:
        job["forecast"] = as_job(foresight)
    return submit(context, job | dict(also or {}), may_wait=may_wait)


def read_words(
    context: Context,
    spec: str | None,
    overrides: Sequence[str],
    model: str | None,
    data: Sequence[str],
    name: str | None,
) -> Spec:
    """The spec that the words mean: a file, stdin, or a model and its data."""
    if name is not None:
        overrides = [*overrides, f"name={json.dumps(name)}"]
    if spec is not None:
        if model is not None or data:
            raise UsageError("give a spec, or --model and --data, not both", hint=_see("start"))
        if spec != "-":
            path = context.path(spec)
            return read_spec_file(path, environ=context.environ, overrides=overrides)
        if context.stdin is None:
            raise UsageError("there is no stdin to read a spec from", hint=_see("start"))
        text = context.stdin.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise SpecError("the spec on stdin is longer than 1 MiB", hint=_see("init"))
        return read_spec(text, source=STDIN, folder=context.cwd, environ=context.environ, overrides=overrides)
    if model is None or not data:
        raise UsageError(
            "give a spec, or --model and --data",
            hint="as in: llamahome --batch train start --model demo --data demo",
        )
    document: dict[str, Any] = {"model": {"id": model}, "data": {"train": list(data)}}
    return make_spec(document, source=_WORDS, folder=context.cwd, environ=context.environ, overrides=overrides)


def _again(
    context: Context, run: Run, wanted: Spec, *, detach: bool, foreground: bool, may_wait: bool
) -> Iterator[Outcome]:
    """`--or-resume` where a run of that name is there: follow it, resume it, or say that it is done."""
    derived = derive(run)
    changes = _differences(run, wanted)
    if not derived.status.ended:
        if changes:
            said = f"{run.id} goes on as it began; this spec differs in {', '.join(changes)}"
            yield Note(said, Level.WARNING)
        yield from _join(context, run, detach=detach)
        return
    if derived.status is Status.COMPLETED and not _LENGTH & changes.keys():
        yield Accepted(run.id)
        yield Result(ending(run, derived), next=(f"llamahome --batch runs show {run.id}",))
        return
    checks.check_changes(context, wanted, changes)
    yield from go_on(context, run, changes, detach=detach, foreground=foreground, may_wait=may_wait)


def _join(context: Context, run: Run, *, detach: bool) -> Iterator[Outcome]:
    yield Accepted(run.id)
    if detach:
        yield Result(ending(run, derive(run)), next=(f"llamahome --batch runs watch {run.id}",))
        return
    yield from stay_with(context, run, _RECENT)


def _differences(run: Run, wanted: Spec) -> dict[str, Any]:
    """What the spec says now that it did not say then. Raises UsageError for what a run cannot change any more."""
    old = run.effective_job().get("spec")
    before = Spec.from_dict(old if isinstance(old, dict) else {})
    new = wanted.to_dict()
    changes: dict[str, Any] = {}
    for key in SCHEMA:
        if key not in _PINNED and before.get(key) != wanted.get(key):
            table, _, last = key.rpartition(".")
            changes[key] = new[table][last] if table else new[last]
    asked = run.job.get("asked_model")
    if isinstance(asked, dict) and asked != {"id": wanted.model.id, "revision": wanted.model.revision}:
        changes["model.id"] = wanted.model.id
    fixed = [key for key in changes if key in _SAME_KEYS or key.startswith(_SAME)]
    if fixed:
        raise UsageError(
            f"{run.id} has that name and was started from another spec: {', '.join(fixed)} differ",
            code="run.other_spec",
            hint="give this one another name: llamahome --batch train start SPEC --name NAME",
            data={"id": run.id, "keys": fixed},
        )
    return changes


def _see(verb: str) -> str:
    return f"see: llamahome --batch train {verb} --help"
