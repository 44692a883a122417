"""The README of an export, as the Hub reads it, and the line that serves it; everything from outside is cleaned."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from llamahome_tui.config.secrets import redact
from llamahome_tui.export.order import ADAPTER, Order
from llamahome_tui.text import clean

VLLM_RANK = 16  # what `vllm serve` takes unless it is told otherwise


def serve_line(order: Order, adapter: Mapping[str, Any]) -> str:
    """The command that serves the export. `adapter` is its adapter_config.json, empty for a whole model."""
    if order.gguf:
        name = re.sub(r"[^a-z0-9._-]+", "-", Path(order.place).name.lower())
        return shlex.join(["ollama", "create", name, "-f", str(Path(order.place) / "Modelfile")])
    if order.form != ADAPTER:
        return shlex.join(["vllm", "serve", order.place])
    patterns = adapter.get("rank_pattern")
    ranks = [adapter.get("r"), *(patterns.values() if isinstance(patterns, Mapping) else ())]
    rank = max([one for one in ranks if isinstance(one, int)], default=VLLM_RANK)
    fits = next((one for one in (8, 16, 32, 64, 128, 256, 320, 512) if one >= rank), rank)
    name = Path(order.place).name
    words = ["vllm", "serve", order.base_name, "--enable-lora", "--lora-modules", f"{name}={order.place}"]
    return shlex.join([*words, "--max-lora-rank", str(fits)])


def refused_by_servers(adapter: Mapping[str, Any]) -> list[str]:
    """What vLLM does not take of an adapter, each a clause; a merged model has none of it."""
    found = []
    if adapter.get("use_dora"):
        found.append("DoRA")
    if adapter.get("modules_to_save"):
        found.append("modules that are saved whole")
    if adapter.get("target_parameters"):
        found.append("adapted expert parameters")
    return found


def card(
    order: Order, spec: Mapping[str, Any], data: Mapping[str, str], proof: Mapping[str, Any], adapter: Mapping[str, Any]
) -> str:
    """The text of README.md: it goes to others with the export, so that no path of this machine stands in it.

    `data` are the run's files with their sha256, `proof` as `Proof.to_dict` gives it, `adapter` as for `serve_line`.
    """
    front: dict[str, Any] = {
        "base_model": _base(order),
        "library_name": "gguf" if order.gguf else "peft" if order.form == ADAPTER else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["llamahome", *(["lora"] if order.form == ADAPTER else []), *_words(spec.get("tags"))],
    }
    if names := [Path(name).name for name in data]:
        front["datasets"] = names
    lines = ["---", *(f"{key}: {json.dumps(_clean(value), ensure_ascii=False)}" for key, value in front.items()), "---"]
    lines += ["", f"# {_text(Path(order.place).name)}", "", *_body(order, spec, data, proof, adapter)]
    return "\n".join(lines) + "\n"


def _body(
    order: Order, spec: Mapping[str, Any], data: Mapping[str, str], proof: Mapping[str, Any], adapter: Mapping[str, Any]
) -> Iterator[str]:
    what = {ADAPTER: "A LoRA adapter", "merged": "A base with a LoRA adapter merged into it"}
    yield f"{what.get(order.form, 'A fully fine-tuned model')}, exported by LlamaHome from run `{_text(order.run)}`."
    yield ""
    yield "| | |"
    yield "| --- | --- |"
    yield f"| base | {_cell(_base(order))} |"
    if order.gguf:
        yield f"| format | GGUF, {order.gguf} |"
    yield f"| revision | {_cell(order.revision) or 'a folder, see its hashes in llamahome.json'} |"
    yield f"| checkpoint | {'the finished run' if order.step is None else f'step {order.step}'} |"
    if order.quantization != "none":
        yield f"| base quantised while training | {order.quantization}; merged into the dequantised base |"
    yield ""
    yield "## Held-out loss"
    yield ""
    rows = {"held_out": "rows that the run held out", "random": "rows of drawn tokens: it held out none"}
    yield f"On {proof['rows']} {rows[proof['kind']]}, {proof['tokens']} tokens that count:"
    yield ""
    yield "| as trained | this export | relative difference | allowed |"
    yield "| --- | --- | --- | --- |"
    yield f"| {proof['trained']:.6f} | {proof['exported']:.6f} | {proof['difference']:.2e} | {proof['tolerance']:g} |"
    yield ""
    yield "## Data"
    yield ""
    yield "| file | sha256 |"
    yield "| --- | --- |"
    for name, digest in data.items():
        yield f"| {_cell(Path(name).name)} | {_cell(digest)} |"
    yield ""
    yield "## Serve it"
    yield ""
    yield "```"
    yield _text(serve_line(replace(order, place=Path(order.place).name, base_name=_base(order)), adapter))
    yield "```"
    yield ""
    yield "## Spec"
    yield ""
    yield "```json"
    told = json.dumps(_without_places(spec), indent=1, ensure_ascii=False)
    yield from (_text(line) for line in redact(told).splitlines())
    yield "```"


def _base(order: Order) -> str:
    """The Hub id, or the last part of a folder's path: where it lies is nobody's business."""
    return Path(order.base_name).name if Path(order.base_name).is_absolute() else order.base_name


def _without_places(value: Any) -> Any:
    """The same with the last part of every absolute path alone."""
    if isinstance(value, Mapping):
        return {key: _without_places(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_places(one) for one in value]
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value


def _words(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list | tuple) else []


def _clean(value: Any) -> Any:
    return [_text(one) for one in value] if isinstance(value, list) else _text(str(value))


def _text(value: str) -> str:
    return clean(value, limit=2000).replace("```", "'''")


def _cell(value: str) -> str:
    return _text(value).replace("|", "\\|")
