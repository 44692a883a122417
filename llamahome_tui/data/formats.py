"""Rows of the known formats made into chats; a row that does not fit says which field and why."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llamahome_tui.data.rows import Row
from llamahome_tui.data.samples import Chat, Sample

FORMATS = ("messages", "sharegpt", "alpaca", "completion")
_LOOKED_AT = 50  # rows that a format is told from
_NAMES = {
    "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "model": "assistant",
    "chatgpt": "assistant", "bot": "assistant", "system": "system", "developer": "developer", "tool": "tool",
    "observation": "tool", "function_response": "tool", "function": "tool", "function_call": "assistant",
    "tool_call": "assistant",
}  # fmt: skip
_PASSED_ON = ("name", "tool_calls", "tool_call_id", "reasoning_content", "thinking", "reasoning")


class RowError(Exception):
    """Why a row is no chat."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason


def renamed(value: Mapping[str, Any], columns: Mapping[str, str]) -> Mapping[str, Any]:
    """A row under our names: `columns` maps our field to their column."""
    if not columns:
        return value
    return {**value, **{ours: value[theirs] for ours, theirs in columns.items() if theirs in value}}


def detect(rows: Sequence[Row], columns: Mapping[str, str] | None = None) -> str:
    """The format that most of the first rows have, or "" where none is known."""
    votes = [_format_of(renamed(row.value, columns or {})) for row in rows[:_LOOKED_AT]]
    known = [vote for vote in votes if vote]
    return max(FORMATS, key=known.count) if known else ""


def unknown_format(rows: Sequence[Row]) -> str:
    """A sentence for rows whose format nobody knows, with the likeliest way out."""
    names = list(rows[0].value) if rows else []
    if "chosen" in names or "rejected" in names:
        return "the rows are preference pairs (chosen, rejected), and this version trains on answers only"
    shown = ", ".join(str(name)[:40] for name in names[:8]) or "none"
    asked = next((name for name in ("question", "input", "query", "instruction", "text") if name in names), None)
    told = next((name for name in ("answer", "output", "response", "solution", "target") if name in names), None)
    way = f'; try data.columns = {{ prompt = "{asked}", completion = "{told}" }}' if asked and told else ""
    return f"the format of the rows is not known: their columns are {shown}{way}"


def to_sample(row: Row, format: str, columns: Mapping[str, str] | None = None, group: str = "") -> Sample:
    """The row as a sample. Raises RowError with the field (in their names) and the reason."""
    columns = columns or {}
    value = renamed(row.value, columns)
    try:
        messages, tools, raw = _READERS[format](value)
        _check(messages)
    except RowError as problem:
        head, _, rest = problem.field.partition("[")
        theirs = columns.get(head, head) + (f"[{rest}" if rest else "")
        raise RowError(theirs, problem.reason) from None
    if group and group not in row.value:
        raise RowError(group, "is missing, and data.group names it")
    key = json.dumps(row.value[group], sort_keys=True) if group else ""
    return Chat(tuple(messages), tuple(tools), row.file, row.line, raw, key)


_Parts = tuple[list[dict[str, Any]], list[Mapping[str, Any]], bool]


def _format_of(value: Mapping[str, Any]) -> str:
    listed = value.get("messages", value.get("conversations", value.get("conversation")))
    if isinstance(listed, list) and listed and isinstance(listed[0], Mapping) and not _is_preference(value):
        return "sharegpt" if "from" in listed[0] else "messages" if "role" in listed[0] else ""
    if "instruction" in value and "output" in value:
        return "alpaca"
    return "completion" if "prompt" in value and "completion" in value else ""


def _is_preference(value: Mapping[str, Any]) -> bool:
    return "chosen" in value and "rejected" in value


def _messages(value: Mapping[str, Any]) -> _Parts:
    field = next((name for name in ("messages", "conversations", "conversation") if name in value), "messages")
    listed = _list(value, field)
    return [_message(one, f"{field}[{at}]") for at, one in enumerate(listed)], _tools(value), False


def _message(one: Any, field: str) -> dict[str, Any]:
    if not isinstance(one, Mapping):
        raise RowError(field, "is no object with role and content")
    role = one.get("role")
    if not isinstance(role, str):
        raise RowError(f"{field}.role", "is missing" if role is None else "is no text")
    if role not in ("system", "developer", "user", "assistant", "tool", "function"):
        raise RowError(f"{field}.role", f'is "{role[:40]}", not system, developer, user, assistant or tool')
    message: dict[str, Any] = {"role": "tool" if role == "function" else role}
    if one.get("content") is not None or not one.get("tool_calls"):
        message["content"] = _content(one.get("content"), f"{field}.content")
    message |= {name: one[name] for name in _PASSED_ON if one.get(name) is not None}
    if role == "assistant":
        trained = one.get("train", one.get("weight", True))
        if not isinstance(trained, bool | int | float) or trained not in (0, 1):
            raise RowError(f"{field}.weight", "must be 0 or 1")
        if not trained:
            message["train"] = False
    return message


def _content(content: Any, field: str) -> str:
    if isinstance(content, str):
        return content
    if content is None:
        raise RowError(field, "is missing")
    if not isinstance(content, list):
        raise RowError(field, "is no text")
    parts: list[str] = []
    for at, part in enumerate(content):
        if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise RowError(f"{field}[{at}]", "is no text part, and only text can be trained on")
        parts.append(part["text"])
    return "".join(parts)


def _sharegpt(value: Mapping[str, Any]) -> _Parts:
    field = next((name for name in ("conversations", "conversation", "messages") if name in value), "conversations")
    messages: list[dict[str, Any]] = []
    if isinstance(value.get("system"), str) and value["system"]:
        messages.append({"role": "system", "content": value["system"]})
    for at, one in enumerate(_list(value, field)):
        here = f"{field}[{at}]"
        if not isinstance(one, Mapping):
            raise RowError(here, "is no object with from and value")
        speaker = one.get("from")
        if not isinstance(speaker, str):
            raise RowError(f"{here}.from", "is missing" if speaker is None else "is no text")
        role = _NAMES.get(speaker)
        if role is None:
            raise RowError(f"{here}.from", f'is "{speaker[:40]}", and nobody is known under that name')
        said = _content(one.get("value"), f"{here}.value")
        if speaker in ("function_call", "tool_call"):
            messages.append({"role": "assistant", "tool_calls": _calls(said, f"{here}.value")})
        else:
            messages.append({"role": role, "content": said})
        if role == "assistant" and one.get("train", one.get("weight", True)) in (False, 0):
            messages[-1]["train"] = False
    return messages, _tools(value), False


def _calls(text: str, field: str) -> list[dict[str, Any]]:
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        raise RowError(field, "is no JSON function call") from None
    calls = read if isinstance(read, list) else [read]
    for call in calls:
        if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
            raise RowError(field, "is no function call with name and arguments")
    return [
        {"type": "function", "function": {"name": call["name"], "arguments": call.get("arguments", {})}}
        for call in calls
    ]


def _alpaca(value: Mapping[str, Any]) -> _Parts:
    messages: list[dict[str, Any]] = []
    system = _text(value, "system", optional=True)
    if system:
        messages.append({"role": "system", "content": system})
    history = value.get("history") or []
    if not isinstance(history, list):
        raise RowError("history", "is no list of [question, answer] pairs")
    for at, turn in enumerate(history):
        if not isinstance(turn, list | tuple) or len(turn) != 2 or not all(isinstance(said, str) for said in turn):
            raise RowError(f"history[{at}]", "is no [question, answer] pair")
        messages += [{"role": "user", "content": turn[0]}, {"role": "assistant", "content": turn[1]}]
    asked = _text(value, "instruction")
    more = _text(value, "input", optional=True)
    messages.append({"role": "user", "content": f"{asked}\n{more}" if more else asked})
    messages.append({"role": "assistant", "content": _text(value, "output")})
    return messages, _tools(value), False


def _completion(value: Mapping[str, Any]) -> _Parts:
    messages: list[dict[str, Any]] = []
    system = _text(value, "system", optional=True)
    if system:
        messages.append({"role": "system", "content": system})
    plain = True
    for field, role in (("prompt", "user"), ("completion", "assistant")):
        if isinstance(value.get(field), list):
            plain = False
            messages += [_message(one, f"{field}[{at}]") for at, one in enumerate(value[field])]
        else:
            messages.append({"role": role, "content": _text(value, field)})
    return messages, _tools(value), plain and not system


_READERS: dict[str, Callable[[Mapping[str, Any]], _Parts]] = {
    "messages": _messages,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "completion": _completion,
}


def _check(messages: Sequence[Mapping[str, Any]]) -> None:
    answers = [message for message in messages if message["role"] == "assistant"]
    if not answers:
        raise RowError("", "has no assistant message, so there is nothing to learn from it")
    for message in answers:
        if not message.get("tool_calls") and not str(message.get("content", "")).strip():
            raise RowError("", "has an empty assistant message")


def _text(value: Mapping[str, Any], field: str, *, optional: bool = False) -> str:
    found = value.get(field)
    if found is None and optional:
        return ""
    if not isinstance(found, str):
        raise RowError(field, "is missing" if field not in value else "is no text")
    return found


def _list(value: Mapping[str, Any], field: str) -> list[Any]:
    found = value.get(field)
    if not isinstance(found, list):
        raise RowError(field, "is missing" if field not in value else "is no list")
    if not found:
        raise RowError(field, "is empty")
    return found


def _tools(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    tools = value.get("tools")
    if not tools:
        return []
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except (ValueError, RecursionError):
            raise RowError("tools", "is no JSON") from None
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise RowError("tools", "is no list of functions")
    return [tool if "function" in tool else {"type": "function", "function": tool} for tool in tools]
