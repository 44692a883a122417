"""What the data view looks at: the files and settings of a run, a spec or a few files, and the model they are for."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from llamahome_tui.data.files import eval_file, expand
from llamahome_tui.errors import LlamaHomeError, NotFoundError, UsageError
from llamahome_tui.training.shape import Spec

if TYPE_CHECKING:
    from llamahome_tui.context import Context
    from llamahome_tui.jobs.store import Run


@dataclass(frozen=True, slots=True)
class Subject:
    """Files in the order they are read (held-out ones last), the spec whose [data] reads them, and the model's folder.

    Without a folder rows are shown as they stand; `lacking` says why. `words` name it all for the command line.
    """

    title: str
    files: tuple[Path, ...]
    spec: Spec
    words: str
    model_dir: Path | None = None
    lacking: str = ""

    @property
    def model(self) -> str:
        """The model as it was named, of a folder the last part."""
        return Path(self.spec.model.id).name if self.spec.model.id.startswith("/") else self.spec.model.id


def of_run(context: Context, run: Run) -> Subject:
    """The data of a run, as its spec names it now. Raises UsageError for a wrapped command, NotFoundError for files."""
    job = run.effective_job()
    tables = job.get("spec")
    if job.get("kind") != "train" or not isinstance(tables, dict):
        raise UsageError(
            f"{run.name} is a command of your own: what it reads is not known here",
            hint="look at a file: llamahome --batch data inspect FILE --model ID",
        )
    spec = Spec.from_dict(tables)
    words = " ".join(shlex.quote(str(path)) for path in expand(spec.data.train, Path("/")))
    return _with_model(context, _subject(run.name, spec, f"{words} --model {shlex.quote(spec.model.id)}"))


def of_words(context: Context, files: str, model: str = "") -> Subject:
    """What was typed: files, globs, demo, or one spec (.toml), whose own model counts unless another is given.

    Raises NotFoundError, SpecError or UsageError.
    """
    entries = _split(files)
    if len(entries) == 1 and entries[0].endswith(".toml"):
        from llamahome_tui.training.spec import read_spec_file

        path = context.path(entries[0])
        spec = read_spec_file(path, environ=context.environ)
        title, words = path.name, shlex.quote(str(path))
    else:
        absolute = tuple(_absolute(context, entry) for entry in entries)
        spec = replace(Spec(), data=replace(Spec().data, train=absolute))
        title, words = _titled(entries), " ".join(shlex.quote(entry) for entry in absolute)
        model = model or ("demo" if "demo" in entries else "")
    if model:
        spec = replace(spec, model=replace(spec.model, id=model, revision="main"))
        words += f" --model {shlex.quote(model)}"
    return _with_model(context, _subject(title, spec, words))


def check_words(context: Context, files: str) -> None:
    """Raises what is wrong with files that were typed and quick to see: one that is not there, an open quote."""
    entries = _split(files)
    if len(entries) == 1 and entries[0].endswith(".toml"):
        if not (context.path(entries[0])).is_file():
            raise NotFoundError(f"no file {entries[0]}", hint="make one: llamahome --batch train init > spec.toml")
    else:
        expand([_absolute(context, entry) for entry in entries], Path("/"))


def with_model(context: Context, subject: Subject, model: str) -> Subject:
    """The same files for another model. Raises what `locate` does."""
    spec = replace(subject.spec, model=replace(subject.spec.model, id=model, revision="main"))
    words = subject.words.partition(" --model ")[0] + f" --model {shlex.quote(model)}"
    return replace(subject, spec=spec, words=words, model_dir=_located(context, spec), lacking="")


def _subject(title: str, spec: Spec, words: str) -> Subject:
    files = expand(spec.data.train, Path("/"))
    held = eval_file(spec.data.eval, spec.data.train, Path("/"))
    return Subject(title, tuple(dict.fromkeys([*files, *([held] if held else [])])), spec, words)


def _with_model(context: Context, subject: Subject) -> Subject:
    if not subject.spec.model.id:
        return replace(subject, lacking="no model is named: m names the one that makes tokens of it")
    try:
        return replace(subject, model_dir=_located(context, subject.spec))
    except LlamaHomeError as error:
        return replace(subject, lacking=error.message)


def _located(context: Context, spec: Spec) -> Path:
    from llamahome_tui.jobs.store import RunStore
    from llamahome_tui.models.locate import locate

    model = spec.model
    text = model.id if model.revision == "main" or "@" in model.id else f"{model.id}@{model.revision}"
    return locate(text, context.places, RunStore(context.places), folder=context.cwd).path


def _split(files: str) -> list[str]:
    try:
        return shlex.split(files)
    except ValueError as error:
        raise UsageError(f"a quote is open: {error}") from None


def _absolute(context: Context, entry: str) -> str:
    return entry if entry == "demo" else str(context.path(entry))


def _titled(entries: Sequence[str]) -> str:
    first = Path(entries[0]).name if entries else ""
    return first + (f" and {len(entries) - 1} more" if len(entries) > 1 else "")
