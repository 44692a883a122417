"""`generate`: a model or a run writes text, streamed; the parent imports no torch, the child does all that needs it."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamahome_tui.errors import ConfigError, UsageError
from llamahome_tui.models.adapters import run_weights
from llamahome_tui.models.locate import Located, locate
from llamahome_tui.outcome import Note, Outcome, Progress, Result, Text
from llamahome_tui.text import clean
from llamahome_tui.workers.child import ask
from llamahome_tui.workers.prompts import Prompt, chat_of, read_prompts, write_replies
from llamahome_tui.workers.request import GenerateRequest

if TYPE_CHECKING:
    from llamahome_tui.context import Context
    from llamahome_tui.jobs.store import RunStore

_MODULE = "llamahome_tui.workers.generate"
_PIECE = 1_000_000  # characters of one piece; only a hostile one is longer
_USE = 'llamahome --batch generate RUN --prompt "..."'


def generate(
    context: Context,
    model: str,
    adapter: str | None = None,
    prompt: str | None = None,
    input: str | None = None,
    output: str | None = None,
    max_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    system: str | None = None,
    checkpoint: str | None = None,
) -> Iterator[Outcome]:
    """Write with a model, or with a run: its base, and its finished or newest adapter.

    One prompt is streamed; the result holds `text`, `tokens`, `seconds`. A file of prompts is answered in batches; the
    replies go to `output` as JSON lines, or into the result. Close the iterator to stop the child.
    """
    _check_numbers(max_tokens, temperature, top_p)
    if (prompt is None) == (input is None):
        raise UsageError("give either --prompt or --input", hint=_USE)
    if output is not None and input is None:
        raise UsageError("--output goes with --input; the reply to --prompt goes to stdout", hint=_USE)
    target = None if output is None else _target(context, output)
    prompts = _prompts(context, prompt, input, system)

    from llamahome_tui.jobs.store import RunStore

    store = RunStore(context.places)
    located = _located(context, store, model, adapter, checkpoint or "")
    spec = spec_of(store, located.run)
    data = spec.get("data") if isinstance(spec.get("data"), dict) else {}
    python = python_of(context, spec)
    request = GenerateRequest(
        path=str(located.path),
        adapter="" if located.adapter is None else str(located.adapter),
        chats=tuple(one.chat for one in prompts),
        template=str((data or {}).get("template") or ""),
        template_options=(data or {}).get("template_options") or {},
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        stream=input is None,
    )
    about = {"model": located.id, "revision": located.revision, "run": located.run, "adapter": request.adapter or None}
    replies: dict[int, Mapping[str, Any]] = {}
    ended: Mapping[str, Any] = {}
    yield Progress(f"loading {clean(located.id, limit=200)}", 0)
    for record in ask(python, _MODULE, request.to_line(), context.environ):
        match record["type"]:
            case "text":
                yield Text(clean(record["text"], limit=_PIECE, keep_newlines=True))
            case "reply":
                replies[record["index"]] = record
                if not request.stream:
                    yield Progress("writing", len(replies), len(prompts), "prompts")
            case "end":
                ended = record
    if request.stream:
        reply = replies[0]
        yield Text("\n")
        yield Result(about | {key: reply[key] for key in ("text", "tokens", "finish")} | {"seconds": ended["seconds"]})
        return
    rows = [_row(one, replies[index]) for index, one in enumerate(prompts)]
    totals = about | {"rows": len(rows), "tokens": ended["tokens"], "seconds": ended["seconds"]}
    if target is not None:
        write_replies(target, rows)
        yield Note(f"{len(rows)} replies in {clean(str(target), limit=1000)}")
        yield Result(totals | {"output": str(target)}, changed=True)
        return
    for row in rows:
        yield Text(json.dumps(row) + "\n")
    yield Result(totals | {"replies": rows})


def _check_numbers(max_tokens: int, temperature: float, top_p: float) -> None:
    for good, said in (
        (max_tokens >= 1, f"--max-tokens {max_tokens}: give at least 1"),
        (0 <= temperature <= 100, f"--temperature {temperature}: give 0 (likeliest token) or more"),
        (0 < top_p <= 1, f"--top-p {top_p}: give a share above 0, at most 1"),
    ):
        if not good:
            raise UsageError(said, hint=_USE)


def _target(context: Context, output: str) -> Path:
    path = context.path(output)
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"--output {path}: not a file in a folder that is there", hint=_USE)
    if path.exists() and not context.yes:
        raise UsageError(
            f"{path} is there already ({path.stat().st_size} bytes) and would be replaced",
            code="consent.missing",
            hint="say so with --yes, or name another file: llamahome --batch generate RUN --input FILE --output FILE",
            data={"output": str(path)},
        )
    return path


def _prompts(context: Context, prompt: str | None, input: str | None, system: str | None) -> list[Prompt]:
    if input is not None:
        return read_prompts(context.path(input), system)
    text = prompt or ""
    if prompt == "-":
        if context.stdin is None:
            raise UsageError("--prompt -: there is no stdin to read", hint=_USE)
        text = context.stdin.read().rstrip("\n")
    if not text.strip():
        raise UsageError("the prompt is empty", hint=_USE)
    return [Prompt(1, chat_of(text, system), {"prompt": text})]


def _located(context: Context, store: RunStore, model: str, adapter: str | None, checkpoint: str) -> Located:
    """The model, with the adapter of the run it is, or of the run that `adapter` names."""
    if adapter is None:
        located = locate(model, context.places, store, checkpoint=checkpoint, folder=context.cwd)
        if checkpoint and located.run is None:
            raise UsageError(f"--checkpoint goes with a run, and {model} is a model", hint=_USE)
        return located
    located = locate(model, context.places, store, folder=context.cwd)
    run = store.resolve(adapter)
    weights = run_weights(run, checkpoint)
    if not weights.is_adapter:
        raise UsageError(f"run {run.id} trained a whole model, no adapter", hint=f"llamahome --batch generate {run.id}")
    return replace(located, adapter=weights.path, run=run.id)


def spec_of(store: RunStore, run_id: str | None) -> Mapping[str, Any]:
    spec = None if run_id is None else store.resolve(run_id).effective_job().get("spec")
    return spec if isinstance(spec, dict) else {}


def python_of(context: Context, spec: Mapping[str, Any]) -> str:
    """The interpreter for the child: the run's own, the configured one, or this one if torch is installed beside us."""
    launch = spec.get("launch")
    own = launch.get("python") if isinstance(launch, dict) else ""
    named = str(own or context.settings.launch.python or "")
    if named:
        return str(Path(named).expanduser())
    for name in ("torch", "transformers"):
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"writing text needs {name}, which is not installed",
                code="train.missing",
                hint="pip install 'llamahome-tui[train]', or name an interpreter that has it: "
                "llamahome --batch config set launch.python /path/to/python",
                data={"missing": name},
            )
    return sys.executable


def _row(prompt: Prompt, reply: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the output: what the input line said, then the reply."""
    return dict(prompt.written) | {key: reply[key] for key in ("text", "tokens", "finish")} | {"line": prompt.line}
