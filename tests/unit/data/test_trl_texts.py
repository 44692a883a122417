"""Every template that trl ships renders to the very text that transformers makes of it, marks included."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from llamahome_tui.data.dialect import REASONING
from llamahome_tui.data.samples import Chat
from llamahome_tui.data.template import ChatTemplate, RenderError
from tests.unit.data import trl_chats

IN_PARTS = ("idefics3", "llava_next", "smolvlm")  # templates that show content only where it is a list of parts
AS_TEXT = ("deepseek_r1_distill", "deepseekv3")  # that want a call's arguments as JSON text
EVERY = [*trl_chats.names(), *(name + trl_chats.MARKED for name in trl_chats.pairs())]


def handed_over(name: str, chat: Chat) -> list[dict[str, Any]]:
    """Messages as one who knows the model hands them to transformers."""
    messages = [{key: value for key, value in message.items() if key != "train"} for message in chat.messages]
    for message in messages:
        if name.removesuffix(trl_chats.MARKED) in IN_PARTS:
            message["content"] = [{"type": "text", "text": message["content"]}]
        if name in AS_TEXT and "tool_calls" in message:
            message["tool_calls"] = [_with_text(call) for call in message["tool_calls"]]
        if "reasoning_content" in message:
            message |= dict.fromkeys(REASONING[:2], message["reasoning_content"])
    return messages


def _with_text(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {**call, "function": {**function, "arguments": json.dumps(function["arguments"], ensure_ascii=False)}}


@pytest.mark.torch
@pytest.mark.parametrize("name", EVERY)
def test_as_transformers_renders(name: str) -> None:
    pytest.importorskip("transformers")
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    one = trl_chats.template(name)
    template = ChatTemplate(one.text, one.special)  # with the clock, as transformers has it
    options: Sequence[Mapping[str, Any]] = ({}, {"enable_thinking": False} if "enable_thinking" in one.text else {})
    for title, chat in trl_chats.chats().items():
        if "long" in title or title[-1] == "6":
            continue
        for prompt, option in zip((False, True), options, strict=True):
            try:
                (theirs,), (marks,) = render_jinja_template(
                    [handed_over(name, chat)],
                    tools=list(chat.tools) or None,
                    chat_template=one.text,
                    return_assistant_tokens_mask=True,
                    add_generation_prompt=prompt,
                    **option,
                    **one.special,
                )
            except (TemplateError, TypeError):
                with pytest.raises(RenderError):
                    template.render(chat.messages, tools=chat.tools, add_generation_prompt=prompt, **option)
                continue
            ours = template.rendered(chat.messages, tools=chat.tools, add_generation_prompt=prompt, **option)
            assert ours.text == theirs, title
            assert list(ours.marked) == marks, title
