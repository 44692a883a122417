"""What `evaluate` is asked in the terminal application: rows, comparison, scoring and how many; then its page opens."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llamahome_tui.errors import UsageError
from llamahome_tui.tui.widgets.form import Field, Form

if TYPE_CHECKING:
    from llamahome_tui.tui.app import LlamaHomeApp

ROWS = "200"
ALONE, BESIDE = "alone", "beside its base"
_HINT = "llamahome --batch evaluate --help"


def ask(home: LlamaHomeApp, model: str, *, run: bool) -> None:
    """Ask, then evaluate a run, or a model, which has no rows and no base of its own."""
    from llamahome_tui.tui.screens.training.data_ask import files_from

    folder = home.context.cwd
    own = "empty: the rows it holds out" if run else "test.jsonl"
    compare = [Field("compare", "compare", BESIDE, choices=(ALONE, BESIDE))] if run else []
    fields = [
        Field("data", "data files", placeholder=own, complete=lambda typed: files_from(folder, typed)),
        *compare,
        Field("metric", "right if", "exact", choices=("exact", "contains", "regex", "command")),
        Field("by", "regex or command", placeholder="for regex and command"),
        Field("expect", "answer found by", placeholder="a regular expression, as #### *(.+)"),
        Field("rows", "rows at most", ROWS, placeholder="empty: all"),
    ]
    notes = [
        "tab or down goes on, left and right choose, Enter starts, Esc closes.",
        "regex: {expected} in it is the expected answer, literally.",
        "command: gets each row as JSON on stdin, exits 0 (right) or 1 (wrong).",
    ]

    def chosen(values: Mapping[str, str] | None) -> None:
        if values is not None:
            from llamahome_tui.tui.screens.training.evaluate_page import EvaluatePage

            home.push_screen(EvaluatePage(model, arguments_of(model, values, run=run)))

    def check(values: Mapping[str, str]) -> None:
        arguments_of(model, values, run=run)

    home.push_screen(Form(f"Evaluate {model}", fields, notes=notes, check=check), chosen)


def arguments_of(model: str, values: Mapping[str, str], *, run: bool) -> dict[str, Any]:
    """The operation's arguments for what was typed. Raises UsageError."""
    try:
        data = shlex.split(values["data"])
    except ValueError as error:
        raise UsageError(f"data files: a quote is open: {error}", hint=_HINT) from None
    if not data and not run:
        raise UsageError("data files: only a run has rows of its own", hint="name a file, or demo")
    metric, by, rows = values["metric"], values["by"], values["rows"]
    if bool(by) != (metric in ("regex", "command")):
        reason = "is for regex and command only" if by else f"right if {metric} needs it"
        raise UsageError(f"regex or command: {reason}", hint=_HINT)
    if rows and not (rows.isascii() and rows.isdigit()):
        raise UsageError(f"rows at most: {rows} is no number", hint="empty asks all of them")
    found: dict[str, Any] = {"model": model, "data": data, "rows": int(rows or 0)}
    if values.get("compare") == BESIDE:
        found["compare"] = "base"
    if metric != "exact":  # what is done unless it is said, where rows have answers
        found["metric"] = metric
    if by:
        found["pattern" if metric == "regex" else "command"] = by
    return found | ({"expect": values["expect"]} if values["expect"] else {})


def words_of(arguments: Mapping[str, Any]) -> str:
    """The same as a command line."""
    words = [arguments["model"]]
    for name, value in arguments.items():
        if name != "model" and value:
            words += [f"--{name}", *(value if isinstance(value, list) else [str(value)])]
    return "llamahome --batch evaluate " + shlex.join(words)
