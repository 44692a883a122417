"""What `runs export` is asked in the terminal application: form, checkpoint and place; then it is a job like others."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from llamahome_tui.errors import UsageError
from llamahome_tui.export.gguf.families import TYPES
from llamahome_tui.jobs.view import RunView
from llamahome_tui.outcome import Result
from llamahome_tui.tui.runner import run_operation
from llamahome_tui.tui.widgets.form import Field, Form

if TYPE_CHECKING:
    from llamahome_tui.tui.app import LlamaHomeApp

ADAPTER, MERGED, GGUF = "adapter", "merged", "gguf"
_HINT = "llamahome --batch runs export --help"


def ask(home: LlamaHomeApp, view: RunView, opened: Callable[[str], None]) -> None:
    """Ask, then start the export; `opened` gets the job's id. Only for runs that train."""
    if view.kind != "train":
        home.toast("only a run that trains has something to export")
        return
    fields = [
        Field("form", "form", ADAPTER, choices=(ADAPTER, MERGED, GGUF)),
        Field("type", "gguf numbers", TYPES[0], choices=TYPES),
        Field("checkpoint", "checkpoint", placeholder="empty: the finished run; best, last, or a step"),
        Field("to", "folder", placeholder="empty: among the exports, under the run's name"),
        Field("tolerance", "loss may differ by", placeholder="empty: as the form needs, see docs/export.md"),
    ]
    notes = [
        "tab or down goes on, left and right choose, Enter starts, Esc closes.",
        "adapter: a PEFT folder. merged: the base with the adapter in it.",
        "gguf: merged into one file for llama.cpp and Ollama; q4_k_m needs llama-quantize.",
        "What was fully fine-tuned is exported whole either way.",
        "Its held-out loss is compared before it gets its name.",
    ]

    def started(result: Result) -> None:
        data = result.data if isinstance(result.data, dict) else {}
        if data.get("id"):
            opened(str(data["id"]))
        else:
            home.toast(f"exported already: {data.get('path')}")

    def chosen(values: Mapping[str, str] | None) -> None:
        if values is not None:
            home.toast("checking base, weights and room")
            arguments = arguments_of(view.id, values) | {"detach": True}
            run_operation(home, "runs export", arguments, on_result=started, on_error=home.report)

    def check(values: Mapping[str, str]) -> None:
        arguments_of(view.id, values)

    home.push_screen(Form(f"Export {view.name}", fields, notes=notes, check=check), chosen)


def arguments_of(run: str, values: Mapping[str, str]) -> dict[str, Any]:
    """The operation's arguments for what was typed. Raises UsageError."""
    found: dict[str, Any] = {"id": run, "merge": values["form"] == MERGED}
    if values["form"] == GGUF:
        found |= {"format": "gguf", "type": values["type"]}
    if checkpoint := values["checkpoint"]:
        if not re.fullmatch(r"best|last|(step-)?\d{1,12}", checkpoint):
            raise UsageError(f"checkpoint: {checkpoint} is neither best, last, nor a step", hint=_HINT)
        found["checkpoint"] = checkpoint
    if values["to"]:
        found["to"] = values["to"]
    if said := values["tolerance"]:
        try:
            found["tolerance"] = float(said)
        except ValueError:
            raise UsageError(f"loss may differ by: {said} is no number", hint=_HINT) from None
        if not 0 <= found["tolerance"] < 1:
            raise UsageError(f"loss may differ by: {said}: give a share from 0 to below 1", hint=_HINT)
    return found
