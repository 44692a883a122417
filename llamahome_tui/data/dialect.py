"""How a template wants its messages: as transformers hands them over, or in another form that it shows by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llamahome_tui.data.sandbox import to_json

if TYPE_CHECKING:
    from jinja2 import Template

REASONING = ("reasoning_content", "thinking", "reasoning")  # names of what a model thought; the first one counts
# The template's own expressions fail in any of these ways on messages it was not written for.
FAULTS = (TypeError, ValueError, KeyError, AttributeError, IndexError, ArithmeticError, RecursionError)


@dataclass(frozen=True, slots=True)
class Reads:
    """`parts`: content as a list of parts; `text_calls`: a tool call's arguments as JSON text."""

    parts: bool = False
    text_calls: bool = False


def handed_over(message: Mapping[str, Any], reads: Reads) -> dict[str, Any]:
    """A message as transformers hands it over: no empty keys, and reasoning under each of its names."""
    kept = {key: value for key, value in message.items() if value is not None and key != "train"}
    reasoning = next((kept[key] for key in REASONING if key in kept), None)
    if reasoning is not None:
        kept = {"thinking": reasoning, **kept, "reasoning_content": reasoning}
    if reads.parts and isinstance(kept.get("content"), str):
        kept["content"] = [{"type": "text", "text": kept["content"]}]
    if reads.text_calls and isinstance(kept.get("tool_calls"), list):
        kept["tool_calls"] = [_with_text(call) for call in kept["tool_calls"]]
    return kept


def _with_text(call: Any) -> Any:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or isinstance(function.get("arguments"), str | None):
        return call
    return {**call, "function": {**function, "arguments": to_json(function["arguments"])}}


def reads_of(template: Template, special: Mapping[str, str]) -> Reads:
    """How a template wants messages: seen by handing it some.

    One that leaves out a content that is a text, and shows one in parts, is a template of a model of images. Those who
    run such models hand them parts, so that is what they are trained on. One that fails on a call's arguments, and
    shows them as JSON text, gets that.
    """
    said = "llamahome"

    def shows(*messages: Mapping[str, Any]) -> bool:
        values = {
            **special,
            "messages": list(messages),
            "tools": None,
            "documents": None,
            "add_generation_prompt": False,
        }
        try:
            return said in template.render(values)
        except (jinja2.TemplateError, *FAULTS):
            return False

    import jinja2

    parts = [{"type": "text", "text": said}]
    if not shows({"role": "user", "content": said}):
        return Reads(parts=shows({"role": "user", "content": parts}))
    asked = {"role": "user", "content": "a"}
    calls = [
        {"type": "function", "id": "000000000", "function": {"name": "b", "arguments": arguments}}
        for arguments in ({"c": said}, to_json({"c": said}))
    ]
    shown = [shows(asked, {"role": "assistant", "content": "", "tool_calls": [call]}) for call in calls]
    return Reads(text_calls=shown == [False, True])
