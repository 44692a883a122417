"""Messages of a chat read one by one, in either spelling (role/content or from/value), each with where it stands.

Templates get {role, content, ...}: content as one text, a call's arguments as an object, tools as OpenAI writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llamahome_tui.data.fields import RowError, json_of, list_of, text_of
from llamahome_tui.data.json_values import kind_of

LISTS = ("messages", "conversations", "conversation")
_ROLES = ("system", "developer", "user", "assistant", "tool")
_SPEAKERS = {
    "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "model": "assistant",
    "chatgpt": "assistant", "bot": "assistant", "system": "system", "developer": "developer", "tool": "tool",
    "observation": "tool", "function_response": "tool", "function": "tool", "function_call": "assistant",
    "tool_call": "assistant",
}  # fmt: skip
_CALLING = ("function_call", "tool_call")
_TEXT_PARTS = ("text", "input_text", "output_text")
_PASSED_ON = ("name", "tool_call_id", "reasoning_content", "thinking", "reasoning")
_MEDIA = ("images", "videos", "audios")


@dataclass(slots=True)
class Turn:
    """One message, the path of where it stands in the row, and what its role and text are called there."""

    message: dict[str, Any]
    role: str
    at: str
    role_name: str = ""
    text_name: str = ""

    @property
    def role_at(self) -> str:
        """The path of the role."""
        return f"{self.at}.{self.role_name}" if self.role_name else self.at

    @property
    def text_at(self) -> str:
        """The path of the text."""
        return f"{self.at}.{self.text_name}" if self.text_name else self.at


def said(role: str, text: str, at: str) -> Turn:
    """A message made of one text field."""
    return Turn({"role": role, "content": text}, role, at)


def turns_in(listed: Sequence[Any], field: str) -> list[Turn]:
    """The messages of a list, each in the spelling it has."""
    return [turn_of(one, f"{field}[{at}]") for at, one in enumerate(listed)]


def turn_of(one: Any, at: str) -> Turn:
    """One message. Raises RowError with the path of what is wrong in it."""
    if not isinstance(one, dict):
        raise RowError(at, "is no object with role and content")
    role = one.get("role")
    if len(one) == 2 and role in _ROLES and isinstance(content := one.get("content"), str):
        return Turn({"role": role, "content": content}, role, at, "role", "content")  # nearly all there are
    turn = _sharegpt(one, at) if "from" in one and "role" not in one else _openai(one, at)
    if turn.role == "assistant":
        _take_weight(one, at, turn.message)
    return turn


def system_of(value: Mapping[str, Any], turns: Sequence[Turn] = ()) -> list[Turn]:
    """The column `system` as a first message, if there is one; saying it twice is an error."""
    text = text_of(value, "system", optional=True)
    if not text:
        return []
    if turns and turns[0].role == "system":
        raise RowError(turns[0].role_at, "is a system message, and the column system holds one too")
    return [said("system", text, "system")]


def history_of(value: Mapping[str, Any]) -> list[Turn]:
    """The column `history`: earlier [question, answer] pairs."""
    if not value.get("history"):
        return []
    turns: list[Turn] = []
    for at, pair in enumerate(list_of(value, "history")):
        here = f"history[{at}]"
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(one, str) for one in pair):
            raise RowError(here, "is no [question, answer] pair")
        turns += [said("user", pair[0], f"{here}[0]"), said("assistant", pair[1], f"{here}[1]")]
    return turns


def tools_of(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The functions a model may call, as OpenAI writes them; also bare functions, and either as JSON text."""
    tools = value.get("tools")
    if isinstance(tools, str) and tools.strip():
        tools = json_of(tools, "tools")
    if not tools or isinstance(tools, str):
        return []
    if not isinstance(tools, list):
        raise RowError("tools", f"is no list of functions but {kind_of(tools)}")
    found: list[Mapping[str, Any]] = []
    for at, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise RowError(f"tools[{at}]", f"is no function but {kind_of(tool)}")
        inner = tool.get("function", tool)
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            raise RowError(f"tools[{at}]", "is a function without a name")
        found.append(tool if "function" in tool else {"type": "function", "function": tool})
    return found


def in_order(turns: Sequence[Turn], field: str) -> None:
    """Raises RowError where no chat goes like this: a late system message, an answer to no call, nothing said.

    Two messages of one role in a row are allowed: templates that need alternation refuse them when they render.
    """
    before = ""
    heads: set[str] = set()
    answers = asked = False
    for turn in turns:
        role = turn.role
        if role in ("system", "developer"):
            if before not in ("", "system", "developer"):
                raise RowError(turn.role_at, f"is {role}, and a {role} message must come first")
            if role in heads:
                raise RowError(turn.role_at, f"is {role} a second time")
            heads.add(role)
        elif role == "tool" and before not in ("assistant", "tool"):
            raise RowError(turn.role_at, "is the answer of a tool, and no assistant message stands before it")
        elif role == "assistant":
            answers = True
            if not asked:
                raise RowError(turn.role_at, "is an assistant message, and no user message stands before it")
            if not turn.message.get("tool_calls") and not turn.message["content"].strip():
                raise RowError(turn.text_at, "is an empty assistant message")
        asked = asked or role == "user"
        before = role
    if not answers:
        raise RowError(field, "has no assistant message, so there is nothing to learn from it")


def only_text(value: Mapping[str, Any]) -> None:
    """Raises RowError for a row that comes with pictures, films or sounds."""
    for name in _MEDIA:
        if value.get(name):
            raise RowError(name, f"holds {name}, and only text can be trained on")


def _openai(one: Mapping[str, Any], at: str) -> Turn:
    role_at, text_at = f"{at}.role", f"{at}.content"
    role = text_of(one, "role", at=role_at)
    role = "tool" if role == "function" else role
    if role not in _ROLES:
        raise RowError(role_at, f'is "{role[:40]}", not system, developer, user, assistant or tool')
    message: dict[str, Any] = {"role": role}
    calls = _tool_calls(one, at) if role == "assistant" else []
    if one.get("content") is not None or not calls:
        message["content"] = _content(one.get("content"), text_at)
    if calls:
        message["tool_calls"] = calls
    for name in _PASSED_ON:
        if one.get(name) is not None:
            message[name] = text_of(one, name, at=f"{at}.{name}")
    return Turn(message, role, at, "role", "content")


def _sharegpt(one: Mapping[str, Any], at: str) -> Turn:
    role_at, text_at = f"{at}.from", f"{at}.value"
    speaker = text_of(one, "from", at=role_at)
    role = _SPEAKERS.get(speaker)
    if role is None:
        raise RowError(role_at, f'is "{speaker[:40]}", and nobody is known under that name')
    if speaker in _CALLING:
        message = {"role": role, "tool_calls": _calls(one.get("value"), text_at)}
    else:
        message = {"role": role, "content": _content(one.get("value"), text_at)}
    return Turn(message, role, at, "from", "value")


def _take_weight(one: Mapping[str, Any], at: str, message: dict[str, Any]) -> None:
    for name in ("train", "weight"):
        found = one.get(name)
        if found is None:
            continue
        if not isinstance(found, bool | int | float) or found not in (0, 1):
            raise RowError(f"{at}.{name}", "must be 0 or 1")
        if not found:
            message["train"] = False
        return


def _content(content: Any, at: str) -> str:
    if isinstance(content, str):
        return content
    if content is None:
        raise RowError(at, "is missing")
    if not isinstance(content, list):
        raise RowError(at, f"is no text but {kind_of(content)}")
    parts: list[str] = []
    for number, part in enumerate(content):
        fits = isinstance(part, dict) and part.get("type") in _TEXT_PARTS and isinstance(part.get("text"), str)
        if not fits:
            raise RowError(f"{at}[{number}]", "is no text part, and only text can be trained on")
        parts.append(part["text"])
    return "".join(parts)


def _tool_calls(one: Mapping[str, Any], at: str) -> list[dict[str, Any]]:
    listed = one.get("tool_calls")
    if listed is None:
        older = one.get("function_call")  # OpenAI's spelling before there were tools
        return [] if older is None else [_call(older, f"{at}.function_call")]
    if not isinstance(listed, list):
        raise RowError(f"{at}.tool_calls", f"is no list but {kind_of(listed)}")
    calls: list[dict[str, Any]] = []
    for number, call in enumerate(listed):
        here = f"{at}.tool_calls[{number}]"
        inner = call.get("function") if isinstance(call, dict) else None
        if isinstance(inner, dict):
            made = _call(inner, f"{here}.function")
            calls.append(made | ({"id": call["id"]} if isinstance(call.get("id"), str) else {}))
        else:
            calls.append(_call(call, here))
    return calls


def _calls(value: Any, at: str) -> list[dict[str, Any]]:
    """What a function_call of sharegpt says: one call or a list of them, as JSON text."""
    if value is None:
        raise RowError(at, "is missing")
    try:
        read = json_of(value, at) if isinstance(value, str) else value
    except RowError as broken:
        raise RowError(at, f"holds no function call: it {broken.reason}") from None
    listed = read if isinstance(read, list) else [read]
    if not listed:
        raise RowError(at, "is an empty list of function calls")
    return [_call(call, at) for call in listed]


def _call(call: Any, at: str) -> dict[str, Any]:
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        raise RowError(at, "is no function call with name and arguments")
    arguments = call.get("arguments")
    if isinstance(arguments, str) and arguments.strip():
        arguments = json_of(arguments, f"{at}.arguments")
    if arguments in (None, ""):
        arguments = {}
    if not isinstance(arguments, dict):
        raise RowError(f"{at}.arguments", f"is no object but {kind_of(arguments)}")
    return {"type": "function", "function": {"name": call["name"], "arguments": arguments}}
