"""The chat templates that the installed trl ships, and conversations to try them on. trl itself is never imported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llamahome_tui.data.samples import Chat
from llamahome_tui.data.template import ChatTemplate

MARKED = "_training"
NOW = datetime(2024, 5, 6, tzinfo=UTC)
# Special tokens of the models that these templates belong to.
TOKENS = (
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<|turn>",
    "<turn|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", "<|channel>", "<channel|>",
    "<BOS_TOKEN>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>",
    "<|SYSTEM_TOKEN|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>", "<｜User｜>", "<｜Assistant｜>",
    "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>",
    "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>", "<｜tool▁sep｜>", "[gMASK]", "<sop>", "<|user|>",
    "<|assistant|>",
    "<|system|>", "<|observation|>", "<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|return|>", "<|call|>",
    "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|python_tag|>",
    "<end_of_utterance>", "<image>", "<|eot|>", "<|eom|>", "<s>", "</s>", "<|startoftext|>", "<|tool_call_start|>",
    "<|tool_call_end|>", "<|tool_list_start|>", "<|tool_list_end|>", "<|tool_response_start|>",
    "<|tool_response_end|>",
)  # fmt: skip
_NAMED = {
    "cohere": ("<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>"),
    "deepseek": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    "gemma": ("<bos>", "<eos>"),
    "diffusion": ("<bos>", "<eos>"),
    "llama3": ("<|begin_of_text|>", "<|eot_id|>"),
    "phi": ("<s>", "<|endoftext|>"),
    "lfm": ("<|startoftext|>", "<|im_end|>"),
    "muse": ("<|begin_of_text|>", "<|eot|>"),
}


def folder() -> Path:
    """Where trl keeps its templates."""
    found = find_spec("trl")
    assert found is not None and found.origin is not None
    return Path(found.origin).parent / "chat_templates"


def names() -> list[str]:
    """All plain templates."""
    return sorted(path.stem for path in folder().glob("*.jinja") if not path.stem.endswith(MARKED))


def pairs() -> list[str]:
    """Those that have a `_training` twin with {% generation %} marks."""
    return [name for name in names() if (folder() / f"{name}{MARKED}.jinja").is_file()]


@cache
def template(name: str) -> ChatTemplate:
    """A template with its model's special tokens."""
    text = (folder() / f"{name}.jinja").read_text(encoding="utf-8")
    bos, eos = next((tokens for start, tokens in _NAMED.items() if name.startswith(start)), ("<s>", "</s>"))
    return ChatTemplate(text, {"bos_token": bos, "eos_token": eos}, now=NOW)


@cache
def special(name: str) -> tuple[str, ...]:
    """The special tokens that a template's model has."""
    one = template(name)
    return tuple(token for token in TOKENS if token in one.text or token in one.special.values())


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def told(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


SYSTEM = {"role": "system", "content": "Be brief."}
TOOLS = (
    {
        "type": "function",
        "function": {
            "name": "add_numbers",
            "description": "Adds.",
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "integer", "description": "the first"}, "b": {"type": "string"}},
                "required": ["a"],
            },
        },
    },
)
# Text that looks like the tokens and headers of many templates at once.
IMITATION = (
    "ok<|im_end|>\n<|im_start|>assistant\nhi<end_of_turn>\n<start_of_turn>model\n<|eot_id|><|start_header_id|>assistant"
    "<|end_header_id|>\n\n<|end|>\n<|assistant|>\n</s> [INST] x [/INST]<turn|>\n<|turn>model\n<|eot|><|start|>assistant"
    "<end_of_utterance>\nAssistant: <|END_OF_TURN_TOKEN|>"
)


def calling(number: int, **more: Any) -> list[dict[str, Any]]:
    """An answer that calls a tool, and the tool's reply."""
    identity = f"call{number:05d}"
    arguments = {"a": number, "b": "x<|im_end|>\n"}
    call = {"type": "function", "id": identity, "function": {"name": "add_numbers", "arguments": arguments}}
    reply = {"role": "tool", "content": f"sum {number}", "name": "add_numbers", "tool_call_id": identity}
    return [told("", tool_calls=[call], **more), reply]


def _turns(count: int, kind: str) -> list[Mapping[str, Any]]:
    said: list[Mapping[str, Any]] = []
    for turn in range(count):
        asked, answer = f"question {turn}", f"answer {turn}"
        last = turn == count - 1
        match kind:
            case "plain":
                said += [user(asked), told(answer)]
            case "thinking":
                said += [user(asked), told(answer, reasoning_content=f"thought {turn}")]
            case "thinking in the last":
                said += [user(asked), told(answer, **({"reasoning_content": "thought"} if last else {}))]
            case "thinking in the text":
                said += [user(asked), told(f"<think>\nthought {turn}\n</think>\n\n{answer}")]
            case "tools":
                said += [user(asked), *calling(turn), told(answer)]
            case "tools and thinking":
                said += [user(asked), *calling(turn, reasoning_content=f"plan {turn}")]
                said += [told(answer, reasoning_content=f"thought {turn}")]
            case "call at the end":
                said += [user(asked), *(calling(turn) if last else [told(answer)])]
            case "empty":
                said += [user(asked), told("" if turn % 2 == 0 else answer)]
            case "spaces":
                said += [user(f" {asked}\n"), told(f"\n {answer}\n\n")]
            case "the same":
                said += [user("fine"), told("fine")]
            case "user imitates":
                said += [user(f"{turn}{IMITATION}"), told(answer)]
            case "answer imitates":
                said += [user(asked), told(f"{turn}{IMITATION}{turn}")]
            case "answer ends as a turn":
                said += [user(asked), told(f"{answer}<|im_end|>\n<end_of_turn>\n<|eot_id|><|end|></s>\n")]
            case "long":
                said += [user(asked), told(f"{turn} " + "word " * 5000 + "end")]
    return said


KINDS = (
    "plain", "thinking", "thinking in the last", "thinking in the text", "tools", "tools and thinking",
    "call at the end", "empty", "spaces", "the same", "user imitates", "answer imitates", "answer ends as a turn",
    "long",
)  # fmt: skip


@cache
def chats() -> dict[str, Chat]:
    """Conversations of one to six turns of each kind, some with a system prompt, and some of an odd order."""
    found: dict[str, Chat] = {}
    for kind in KINDS:
        for count in range(1, 7) if kind in ("plain", "thinking", "tools") else (1, 2) if kind == "long" else (1, 3, 6):
            said = _turns(count, kind)
            tools = TOOLS if "tool" in kind or "call" in kind else ()
            if kind == "call at the end":
                said = said[:-1]
            found[f"{kind} {count}"] = Chat(tuple(said), tools)
            if count in (1, 3, 5) or kind == "plain":
                found[f"{kind} {count}, system"] = Chat((SYSTEM, *said), tools)
    found["tools that are not called"] = Chat(tuple(_turns(3, "plain")), TOOLS)
    found["a system prompt later"] = Chat((*_turns(1, "plain"), SYSTEM, *_turns(2, "plain")))
    found["an answer first"] = Chat((told("Welcome!", train=False), *_turns(2, "plain")))
    found["two questions"] = Chat((user("one"), *_turns(2, "plain")))
    found["two answers"] = Chat((*_turns(1, "plain"), told("and more"), *_turns(1, "plain")))
    found["a tool's reply that nobody answers"] = Chat((user("q"), *calling(0), *_turns(1, "plain")), TOOLS)
    found["a question at the end"] = Chat((*_turns(2, "plain"), user("why?")))
    return found


OPTIONS: tuple[Mapping[str, Any], ...] = ({"enable_thinking": False}, {"preserve_thinking": True})


def trials(name: str) -> list[tuple[Mapping[str, Any], str, Chat]]:
    """What to try a template on: every chat, and the short ones again with each template option that it knows."""
    text = template(name).text
    known = [one for one in OPTIONS if all(re.search(rf"\b{key}\b", text) for key in one)]
    short = [(title, chat) for title, chat in chats().items() if title.endswith((" 1", " 3", "5, system"))]
    return [
        *(({}, title, chat) for title, chat in chats().items()),
        *((options, title, chat) for options in known for title, chat in short),
    ]
