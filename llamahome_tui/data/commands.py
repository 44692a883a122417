"""`data formats`, `inspect`, `validate` and `stats`: nothing is changed, no model is loaded.

What is looked at is told by data files or by a training spec; either way the settings are those of a spec's `[data]`.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from llamahome_tui.errors import UsageError
from llamahome_tui.outcome import Outcome, Result
from llamahome_tui.telling import told
from llamahome_tui.training.methods import data_of

if TYPE_CHECKING:
    from llamahome_tui.context import Context
    from llamahome_tui.training.spec import Spec

_WORDS: Final = "<command line>"
_FEW: Final = 8  # files that a command is said again with


def formats(context: Context) -> Iterator[Outcome]:
    """Every format of rows: how it is told, an example, and what is learned of it."""
    from llamahome_tui.data.formats import rules

    yield Result([dataclasses.asdict(rule) for rule in rules()])


def inspect(
    context: Context, file: Sequence[str], model: str | None = None, row: int = 1, set: Sequence[str] = ()
) -> Iterator[Outcome]:
    """One row, token by token. Raises DataError for a row that cannot be used, NotFoundError past the last one."""
    from llamahome_tui.data.inspect import inspect as look

    spec, folder = _with_model(context, file, model, set, "inspect")
    again = _again("inspect", file, ("--model", model), ("--row", str(row)), *(("--set", one) for one in set))
    found = look(data_of(spec), folder, row, again=again)
    yield Result(found.as_dict())


def validate(context: Context, file: Sequence[str], set: Sequence[str] = ()) -> Iterator[Outcome]:
    """Read every row. Raises DataError with all of the result as its data where one is bad."""
    from llamahome_tui.data.check import bad_rows
    from llamahome_tui.data.check import validate as read
    from llamahome_tui.data.files import eval_file, expand

    data = _spec(context, file, None, set).data
    held = eval_file(data.eval, data.train, Path("/"))
    paths = [*expand(data.train, Path("/")), *([held] if held else [])]
    found = yield from told(
        lambda progress: read(paths, data.format, data.columns, data.group, progress), "reading rows"
    )
    if found.bad_count:
        error = bad_rows(found.bad, found.bad_count, _again("validate", file, *(("--set", one) for one in set)))
        error.data |= found.as_dict()
        raise error
    yield Result(found.as_dict())


def stats(
    context: Context,
    file: Sequence[str],
    model: str | None = None,
    eval: str | None = None,
    set: Sequence[str] = (),
) -> Iterator[Outcome]:
    """Numbers of all rows. Raises DataError, with the numbers of the others as its data, where a row is bad."""
    from llamahome_tui.data.check import bad_rows
    from llamahome_tui.data.pool import workers_of
    from llamahome_tui.data.stats import stats as count

    if eval is not None:
        place = eval if eval == "demo" else str(context.path(eval))
        overrides = (*set, f"data.eval={json.dumps(place)}")
    else:
        overrides = tuple(set)
    spec, folder = _with_model(context, file, model, overrides, "stats")
    training = spec.training
    again = _again("stats", file, ("--model", model), ("--eval", eval), *(("--set", one) for one in set))
    found = yield from told(
        lambda progress: count(
            data_of(spec),
            folder,
            progress,
            global_batch=training.global_batch,
            batch_size=training.batch_size,
            seed=training.seed,
            workers=workers_of(training.max_workers),
            caller=again or "data stats SPEC",
        ),
        "counting tokens",
    )
    if found.bad_count:
        error = bad_rows(found.bad, found.bad_count, again)
        error.data |= found.as_dict()
        raise error
    yield Result(found.as_dict())


def _again(verb: str, files: Sequence[str], *options: tuple[str, str | None]) -> str:
    """The command as it was given: what was bad under its settings need not be under others. "" for a long one."""
    given = [word for name, value in options if value is not None for word in (name, value)]
    return shlex.join(["data", verb, *files, *given]) if len(files) <= _FEW else ""


def _spec(context: Context, files: Sequence[str], model: str | None, overrides: Sequence[str]) -> Spec:
    """The spec that the words mean: a file that ends in .toml, or data files under the defaults."""
    from llamahome_tui.training.spec import make_spec, read_spec_file

    if model is not None:
        place = context.path(model)  # not the spec's folder, where paths of a spec start
        model = str(place) if model != "demo" and place.is_dir() else model
        overrides = [*overrides, f"model.id={json.dumps(model)}", 'model.revision="main"']
    if not any(name.endswith(".toml") for name in files):
        document: dict[str, Any] = {"model": {"id": "demo"}, "data": {"train": list(files)}}
        return make_spec(document, source=_WORDS, folder=context.cwd, environ=context.environ, overrides=overrides)
    if len(files) > 1:
        raise UsageError(
            "give one training spec, or data files, not both",
            hint="the spec names its files: llamahome --batch data validate SPEC",
        )
    path = context.path(files[0])
    return read_spec_file(path, environ=context.environ, overrides=overrides)


def _with_model(
    context: Context, files: Sequence[str], model: str | None, overrides: Sequence[str], verb: str
) -> tuple[Spec, Path]:
    """The spec, and the folder of its model; a folder with a tokenizer is enough, as no weights are loaded."""

    if model is None and not any(name.endswith(".toml") or name == "demo" for name in files):
        raise UsageError(
            f"data {verb} needs a model, as its tokenizer and chat template make the tokens",
            hint=f"name one: llamahome --batch data {verb} {files[0]} --model demo",
        )
    spec = _spec(context, files, model, overrides)
    named = Path(spec.model.id)
    if named.is_absolute() and any((named / name).is_file() for name in ("tokenizer.json", "config.json")):
        return spec, named
    from llamahome_tui.jobs.store import RunStore
    from llamahome_tui.training.checks import locate_model

    return spec, locate_model(context, spec, RunStore(context.places)).path
