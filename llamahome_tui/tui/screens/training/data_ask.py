"""How the data view is opened: on a run's data, or after asking for files (or a spec) and a model."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from llamahome_tui.tui.runner import Task
from llamahome_tui.tui.widgets.prompt import Prompt

if TYPE_CHECKING:
    from llamahome_tui.context import Context
    from llamahome_tui.jobs.store import Run
    from llamahome_tui.tui.app import LlamaHomeApp
    from llamahome_tui.tui.screens.training.data_page import DataPage
    from llamahome_tui.tui.screens.training.data_subject import Subject

_ENDINGS = (".jsonl", ".json", ".parquet", ".csv", ".tsv", ".txt", ".toml", ".gz", ".zst", ".ndjson")
_SHOWN = 6


def open_run(home: LlamaHomeApp, run: Run, pane: str = "rows") -> None:
    """The data of a run."""
    from llamahome_tui.tui.screens.training.data_subject import of_run

    _open(home, lambda: of_run(home.context, run), pane)


def ask_file(home: LlamaHomeApp, *, model: str = "", pane: str = "rows", instead_of: DataPage | None = None) -> None:
    """Ask for files or a spec, then for a model where no spec names one, and open the view."""
    folder = home.context.cwd
    found = [name for name in files_from(folder, "") if not name.endswith("/")][:_SHOWN]
    here = f" Here: {', '.join(found)}" if found else ""
    notes = [
        f"Data files, globs, demo, or one training spec (.toml), from {folder}.{here}",
        "",
        "tab completes. In a shell:  llamahome --batch data inspect FILE --model ID",
    ]

    def check(text: str) -> None:
        from llamahome_tui.tui.screens.training.data_subject import check_words

        check_words(home.context, text)

    def chosen(files: str | None) -> None:
        if not files:
            return
        if files.endswith(".toml") or "demo" in files.split():
            _named(home, files, "", pane, instead_of)
        else:
            ask_model(home, model, lambda name: _named(home, files, name, pane, instead_of), optional=True)

    home.push_screen(
        Prompt(
            "Look at data", placeholder="train.jsonl", notes=notes, check=check,
            value=found[0] if len(found) == 1 else "", suggested=True, complete=lambda typed: files_from(folder, typed),
        ),
        chosen,
    )  # fmt: skip


def ask_model(home: LlamaHomeApp, model: str, then: Callable[[str], None], *, optional: bool = False) -> None:
    """Ask for a model; `then` gets its name, "" where an optional one was left out."""
    known: list[str] = []

    def listed(task: Task[list[str]]) -> None:
        known.extend(task.value or [])

    Task(home, "models", lambda _: _models(home.context), listed)
    notes = ["A Hub id that is here, a folder, a run, or demo.  tab completes."]
    notes += ["Without one rows are shown as they stand, and nothing is counted."] if optional else []

    def answered(name: str | None) -> None:
        if name is not None:
            then(name)

    home.push_screen(
        Prompt(
            "The model that makes tokens of it", value=model, suggested=True, placeholder="demo", notes=notes,
            complete=lambda typed: [name for name in known if name.lower().startswith(typed.lower())],
            optional=optional,
        ),
        answered,
    )  # fmt: skip


def _models(context: Context) -> list[str]:
    from llamahome_tui.models.inventory import list_models

    return ["demo", *sorted(model.id for model in list_models(context.places) if model.id != "demo")]


def _named(home: LlamaHomeApp, files: str, model: str, pane: str, instead_of: DataPage | None) -> None:
    from llamahome_tui.tui.screens.training.data_subject import of_words

    _open(home, lambda: of_words(home.context, files, model), pane, instead_of)


def _open(home: LlamaHomeApp, make: Callable[[], Subject], pane: str, instead_of: DataPage | None = None) -> None:
    """Find files and model in a thread, then show the page, unless something else was opened meanwhile."""
    asked_on = home.screen

    def ended(task: Task[Subject]) -> None:
        from llamahome_tui.tui.screens.training.data_page import DataPage

        if task.error is not None:
            home.report(task.error)
        elif task.value is not None and home.screen is asked_on:
            if instead_of is not None and instead_of.is_current:
                home.pop_screen()
            home.push_screen(DataPage(task.value, pane))

    Task(home, "data", lambda _: make(), ended)


def files_from(folder: Path, typed: str) -> list[str]:
    """Ways to go on from what is typed: its last word as the beginning of a data file, a spec or a folder."""
    before, _, word = typed.rpartition(" ")
    lead = f"{before} " if before else ""
    head, slash, start = word.rpartition("/")
    place = folder / Path(head + slash).expanduser()
    return [f"{lead}{head}{slash}{name}" for name in sorted(_entries(place, start))]


def _entries(place: Path, start: str) -> Iterator[str]:
    try:
        entries = list(os.scandir(place))
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(start) and (start or not entry.name.startswith(".")):
            name = shlex.quote(entry.name) if " " in entry.name else entry.name
            if entry.is_dir():
                yield f"{name}/"
            elif entry.name.endswith(_ENDINGS) and entry.name != "pyproject.toml":
                yield name
