"""Ways out of a refusal: each setting is tried on the chat that was refused, and offered only if it works there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llamahome_tui.data.answers import MaskError, Script
from llamahome_tui.data.dialect import REASONING
from llamahome_tui.data.samples import Chat
from llamahome_tui.data.template import ChatTemplate, RenderError

# Switches by which templates keep thinking, or do without it.
_SWITCHES = (
    {"enable_thinking": False},
    {"preserve_thinking": True},
    {"truncate_history_thinking": False},
    {"clear_thinking": False},
    {"enable_thinking": True},
    {"thinking": True},
    {"enable_thinking": False, "truncate_history_thinking": False},
    {"enable_thinking": False, "preserve_thinking": True},
    {"enable_thinking": True, "preserve_thinking": True},
)
MARKS = "data.template = a file whose {% generation %} marks hold the answers"
OTHER = "data.template = a file that writes them"
EARLIER = "rows without the thinking of their earlier answers"


def ways_out(
    template: ChatTemplate,
    chat: Chat,
    turns: Sequence[int],
    options: Mapping[str, Any],
    special: Sequence[str],
    refused: MaskError,
) -> tuple[str, ...]:
    """What would make this chat usable, in the words of a spec."""
    found: list[str] = []
    if refused.why == "left out":
        return (OTHER,)
    if refused.why == "opening":
        found.append('"weight": 0 on the message that opens the chat')
    else:
        works = next((one for one in _SWITCHES if _tried(template, chat, turns, options, special, one)), None)
        if works is not None:
            said = ", ".join(f"{name} = {str(value).lower()}" for name, value in works.items())
            found.append(f"data.template_options = {{ {said} }}")
    if len(turns) > 1 and _works(template, chat, turns[-1:], options, special):
        found.append('data.train_on = "last"')
    if (quiet := _without_thoughts(chat, turns)) != chat and _works(template, quiet, turns, options, special):
        found.append(EARLIER)
    return (*found, MARKS)


def _tried(
    template: ChatTemplate,
    chat: Chat,
    turns: Sequence[int],
    options: Mapping[str, Any],
    special: Sequence[str],
    switch: Mapping[str, bool],
) -> bool:
    text = template.tool_text if chat.tools and template.tool_text else template.text
    changed = {**options, **switch}
    return (
        all(name in text for name in switch) and changed != options and _works(template, chat, turns, changed, special)
    )


def _without_thoughts(chat: Chat, turns: Sequence[int]) -> Chat:
    last = max(turns, default=0)
    return replace(
        chat,
        messages=tuple(
            {key: value for key, value in message.items() if at >= last or key not in REASONING}
            for at, message in enumerate(chat.messages)
        ),
    )


def _works(
    template: ChatTemplate, chat: Chat, turns: Sequence[int], options: Mapping[str, Any], special: Sequence[str]
) -> bool:
    try:
        script = Script(template, chat, options, special)
        script.refuse_lost_calls()
        for turn in turns:
            script.answer(turn)
    except (MaskError, RenderError):
        return False
    return True
