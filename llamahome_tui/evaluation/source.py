"""Which rows are asked: those of files, or those that a run or a spec holds out, by its own split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamahome_tui.errors import DataError, UsageError

if TYPE_CHECKING:
    from llamahome_tui.context import Context
    from llamahome_tui.jobs.store import Run
    from llamahome_tui.training.shape import Data
    from llamahome_tui.training.spec import Spec

USE = "llamahome --batch evaluate RUN --data FILE --compare base"
_NAME_THEM = "name a file of rows: llamahome --batch evaluate RUN --data FILE"
_KEPT = ("format", "columns", "template", "template_options", "train_on")  # of a run: how it was given its rows


@dataclass(frozen=True, slots=True)
class Split:
    """A spec that holds rows of its training files out, and the model whose tokens it counts them in."""

    spec: Spec
    model_dir: Path


@dataclass(frozen=True, slots=True)
class Source:
    """Files, how they are read, and where only a part of their rows is meant, which `split` that is.

    `now` is the date that a template may write; `recorded` what a run has noted of its data.
    """

    data: Data
    paths: tuple[Path, ...]
    held_out: bool = False
    split: Split | None = None
    now: datetime | None = None
    recorded: Mapping[str, Any] | None = None


def of_files(context: Context, spec: Mapping[str, Any], files: Sequence[str], overrides: Sequence[str]) -> Source:
    """The rows of files, read as the run of `spec` read its own; of a spec file those that it holds out."""
    from llamahome_tui.data.files import eval_file, expand
    from llamahome_tui.jobs.store import RunStore
    from llamahome_tui.models.locate import at_revision, locate
    from llamahome_tui.training.spec import read_spec_file

    if any(name.endswith(".toml") for name in files):
        if len(files) > 1:
            raise UsageError("give one training spec, or data files, not both", hint=USE)
        path = context.path(files[0])
        read = read_spec_file(path, environ=context.environ, overrides=overrides)
        _refuse_none(read.data, files[0])
        held = eval_file(read.data.eval, read.data.train, Path("/"))
        if held is not None:
            return Source(_answers(read.data), (held,), held_out=True)
        model = at_revision(read.model.id, read.model.revision)
        found = locate(model, context.places, RunStore(context.places), folder=context.cwd)
        return Source(_answers(read.data), (), held_out=True, split=Split(read, found.path))
    named = [name if name == "demo" else str(context.path(name)) for name in files]
    demo = eval_file("demo", (), Path("/"))
    paths = [demo if name == "demo" and demo else path for name in named for path in expand([name], Path("/"))]
    return Source(_read_as(context, spec, named, overrides), tuple(dict.fromkeys(paths)))


def of_run(context: Context, run: Run, model_dir: Path, overrides: Sequence[str]) -> Source:
    """The rows that a run of ours holds out."""
    from llamahome_tui.data.files import eval_file
    from llamahome_tui.jobs.reader import read
    from llamahome_tui.training.spec import Spec

    job = run.effective_job()
    spec = Spec.from_dict(job["spec"])
    _refuse_none(spec.data, f"run {run.id}")
    recorded: Mapping[str, Any] = {}
    for record in read(run.events_path):
        if record["type"] == "phase" and isinstance(record.get("data"), dict):
            recorded = record["data"]
    held = eval_file(spec.data.eval, spec.data.train, Path("/"))
    return Source(
        _read_as(context, job["spec"], spec.data.train, overrides),
        () if held is None else (held,),
        held_out=True,
        split=None if held is not None else Split(spec, model_dir),
        now=datetime.fromisoformat(job["created_at"]).astimezone(),
        recorded=recorded,
    )


def drawn(source: Source, progress: Callable[[int, int], None]) -> tuple[tuple[Path, ...], frozenset[int] | None]:
    """The files to read, and which of their rows are meant (by number over all of them; None: all).

    Raises DataError where a file is not what the run has read.
    """
    from llamahome_tui.data.files import sha256_of
    from llamahome_tui.data.prepare import held_out

    noted = (source.recorded or {}).get("files")
    hashes: Mapping[str, str] = noted if isinstance(noted, dict) else {}
    if source.split is None:
        for path in source.paths:
            _refuse_changed(path, hashes, sha256_of(path) if str(path) in hashes else "")
        return source.paths, None
    split = source.split
    found = held_out(split.spec, split.model_dir, lambda done, total, _: progress(done, total), now=source.now)
    for name, digest in found.hashes.items():
        _refuse_changed(Path(name), hashes, digest)
    rows = (source.recorded or {}).get("eval_rows")
    if isinstance(rows, int) and rows != len(found.rows) and split.spec.data.long in ("drop", "error"):
        raise DataError(
            f"{found.files[0]}: {len(found.rows)} rows would be held out of it now, and the run has held out {rows}: "
            "the model's tokenizer or template has changed",
            code="data.changed",
            hint=_NAME_THEM,
        )
    return found.files, frozenset(found.rows)


def _refuse_changed(path: Path, before: Mapping[str, str], now: str) -> None:
    if before.get(str(path), now) != now:
        raise DataError(
            f"{path}: has changed since the run read it, so its held-out rows are not the same any more",
            code="data.changed",
            hint=_NAME_THEM,
        )


def _refuse_none(data: Data, whose: str) -> None:
    if not isinstance(data.eval, str) and not data.eval:
        raise DataError(
            f"{whose}: data.eval: is 0, so no row is held out",
            code="evaluate.no_rows",
            hint=_NAME_THEM,
        )


def _read_as(context: Context, spec: Mapping[str, Any], files: Sequence[str], overrides: Sequence[str]) -> Data:
    from llamahome_tui.training.spec import make_spec

    kept = spec.get("data")
    known = {name: kept[name] for name in _KEPT if name in kept} if isinstance(kept, dict) else {}
    document = {"model": {"id": "demo"}, "data": {**known, "train": list(files), "eval": 0}}
    made = make_spec(document, source="<command line>", folder=context.cwd, environ=context.environ,
                     overrides=overrides)  # fmt: skip
    return _answers(made.data)


def _answers(data: Data) -> Data:
    """Of chats the answers count, whatever was learned of them: what is asked must end before they begin."""
    return replace(data, train_on="assistant") if data.train_on == "all" else data
