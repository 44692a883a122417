"""The formats of rows: their names and rules, how one is told from the columns, and a row made into a sample."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llamahome_tui.data import plugged
from llamahome_tui.data.chat_formats import Origin, alpaca, completion, listed
from llamahome_tui.data.fields import RowError, text_of
from llamahome_tui.data.preference import judged, pair
from llamahome_tui.data.rows import Row
from llamahome_tui.data.samples import Sample, Text
from llamahome_tui.data.turns import LISTS
from llamahome_tui.text import clean

__all__ = [
    "FIELDS",
    "FORMATS",
    "RULES",
    "RowError",
    "Rule",
    "most_voted",
    "rules",
    "shape_of",
    "to_sample",
    "unknown_format",
]


@dataclass(frozen=True, slots=True)
class Rule:
    """A format in words: how it is told, a row of it as JSON, and what is learned of it."""

    name: str
    rule: str
    example: str
    learned: str


RULES = (
    Rule(
        "text",
        "a column text, and none of the columns of another format",
        '{"text": "Once upon a time ..."}',
        "every token: continued pretraining",
    ),
    Rule(
        "completion",
        "prompt and completion, as texts or as lists of messages; also system, tools",
        '{"prompt": "2 + 2 =", "completion": " 4"}',
        "the completion",
    ),
    Rule(
        "alpaca",
        "instruction and output; also input (on a line of its own after the instruction), system, history, tools",
        '{"instruction": "Add the numbers.", "input": "2, 2", "output": "4"}',
        "the output, and the answers in history",
    ),
    Rule(
        "sharegpt",
        "a list conversations (or conversation, messages) of from and value; also system, tools, function_call and "
        "observation",
        '{"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]}',
        "what gpt says and the functions it calls",
    ),
    Rule(
        "messages",
        "a list messages (or conversations, conversation) of role and content, as OpenAI has it; also tools, "
        "tool_calls, text parts, and weight or train (0 or 1) on assistant messages",
        '{"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}',
        "assistant messages with their tool calls, but those of weight 0",
    ),
    Rule(
        "preference",
        "chosen and rejected: texts, messages, or lists of messages; the prompt in prompt, messages, conversations or "
        "instruction, or as what both begin with",
        '{"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}',
        "that chosen is better than rejected",
    ),
    Rule(
        "labels",
        "label (or kto_tag) true or false beside prompt and completion, a list of messages, or instruction and output",
        '{"prompt": "2 + 2?", "completion": "5", "label": false}',
        "that the last answer is good or not",
    ),
)
FORMATS = tuple(rule.name for rule in RULES)

_INNER = ("role", "content", "from", "value")
# What `columns` may map: a column of a format, or a key of its messages.
FIELDS = (
    "text", "prompt", "completion", "instruction", "input", "output", "system", "history", *LISTS, "tools", "chosen",
    "rejected", "label", "kto_tag", *_INNER,
)  # fmt: skip
_WITH_MESSAGES = (*LISTS, "prompt", "completion", "chosen", "rejected")
_NAME = re.compile(r"[^.\[\]]+")


def to_sample(row: Row, format: str, columns: Mapping[str, str] | None = None, group: str = "") -> Sample:
    """The row as a sample. Raises RowError with the field (in their names) and the reason."""
    columns = columns or {}
    if group and group not in row.value:
        raise RowError(group, "is missing, and data.group names it")
    key = json.dumps(row.value[group], sort_keys=True, default=str) if group else ""
    try:
        known, value = format, renamed(row.value, columns)
        if format not in _READERS:
            known, value = _plugged(format, value)
        return _READERS[known](value, Origin(row.file, row.line, key))
    except RowError as problem:
        raise RowError(_theirs(problem.field, columns), problem.reason) from None


def most_voted(shapes: Sequence[str]) -> str:
    """The format that stands most often among the shapes of rows, or "" where none does."""
    known = [shape for shape in shapes if shape]
    return max([*FORMATS, *sorted({*known} - {*FORMATS})], key=known.count) if known else ""


def shape_of(value: Mapping[str, Any], columns: Mapping[str, str] | None = None) -> str:
    """The format whose columns a row has, or ""."""
    value = renamed(value, columns or {})
    if "chosen" in value and "rejected" in value:
        return "preference"
    shape = _conversation(value)
    if shape and _has_label(value):
        return "labels"
    return shape or ("text" if isinstance(value.get("text"), str) else plugged.told(value, FORMATS))


def rules() -> tuple[Rule, ...]:
    """Every format, those of plug-ins that load included."""
    brought = plugged.sound(FORMATS).items()
    return (*RULES, *(Rule(name, clean(one.rule), clean(one.example), clean(one.learned)) for name, one in brought))


def _plugged(format: str, value: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    try:
        return plugged.written(format, value, FORMATS)
    except ValueError as problem:
        raise RowError("", str(problem)) from None


def unknown_format(rows: Sequence[Row]) -> str:
    """A sentence for rows whose format nobody knows, with the likeliest way out."""
    value = rows[0].value if rows else {}
    names = list(value)
    shown = ", ".join(str(name)[:40] for name in names[:8]) or "none"
    shown += f" and {len(names) - 8} more" if len(names) > 8 else ""
    if len(names) == 1 and isinstance(value[names[0]], list) and isinstance((value[names[0]] or [0])[0], Mapping):
        return f"the rows stand in a list under {names[0][:40]}: write them one per line (jq -c '.{names[0][:40]}[]')"
    asked = next((name for name in ("question", "input", "query", "instruction", "prompt") if name in names), None)
    told = next((name for name in ("answer", "output", "response", "solution", "target") if name in names), None)
    running = next((name for name in ("content", "body", "document", "raw_content") if name in names), None)
    way = ""
    if asked and told:
        way = f'; try data.columns = {{ prompt = "{asked}", completion = "{told}" }}'
    elif running:
        way = f'; try data.columns = {{ text = "{running}" }}'
    else:
        way = "; name them in data.columns, as llamahome --batch data formats has them"
    return f"the format of the rows is not known: their columns are {shown}{way}"


def renamed(value: Mapping[str, Any], columns: Mapping[str, str]) -> Mapping[str, Any]:
    """A row under our names: `columns` maps our field to their column, which then goes by no other name.

    A field that is mapped is never taken from a column that happens to have its name.
    """
    if not columns:
        return value
    taken = {theirs for ours, theirs in columns.items() if ours not in _INNER}
    made = {name: one for name, one in value.items() if name not in taken and name not in columns}
    made |= {ours: value[theirs] for ours, theirs in columns.items() if theirs in value and ours not in _INNER}
    inner = {theirs: ours for ours, theirs in columns.items() if ours in _INNER}
    if inner:
        for name in _WITH_MESSAGES:
            if name in made:
                made[name] = _inside(made[name], inner)
    return made


def _inside(found: Any, inner: Mapping[str, str]) -> Any:
    if isinstance(found, list):
        return [_inside(one, inner) if isinstance(one, dict) else one for one in found]
    if isinstance(found, dict):
        ours = set(inner.values())
        return {inner.get(key, key): one for key, one in found.items() if key in inner or key not in ours}
    return found


def _theirs(field: str, columns: Mapping[str, str]) -> str:
    """A path such as conversations[3].value in the words of the row."""
    if not columns:
        return field
    head, dot, rest = field.partition(".")
    first = _NAME.sub(lambda name: columns.get(name[0], name[0]), head, count=1)
    return first + dot + _NAME.sub(lambda name: columns.get(name[0], name[0]) if name[0] in _INNER else name[0], rest)


def _conversation(value: Mapping[str, Any]) -> str:
    messages = next((value[name] for name in LISTS if value.get(name) is not None), None)
    if isinstance(messages, list) and messages and isinstance(messages[0], dict):
        return "sharegpt" if "from" in messages[0] else "messages" if "role" in messages[0] else ""
    if isinstance(messages, str) and messages.lstrip()[:1] == "[":  # as CSV has to write it
        return "sharegpt" if '"from"' in messages[:200] else "messages"
    if "instruction" in value and "output" in value:
        return "alpaca"
    return "completion" if "prompt" in value and "completion" in value else ""


def _has_label(value: Mapping[str, Any]) -> bool:
    """A label counts if it can be nothing but a verdict. 0 and 1 do: taking bad answers for good ones does harm."""
    if value.get("kto_tag") is not None:
        return True
    label = value.get("label")
    return label.strip().lower() in ("true", "false") if isinstance(label, str) else label in (0, 1)


def _text(value: Mapping[str, Any], origin: Origin) -> Text:
    text = text_of(value, "text")
    if not text.strip():
        raise RowError("text", "is empty")
    return Text(text, origin.file, origin.line, origin.group)


_READERS: dict[str, Callable[[Mapping[str, Any], Origin], Sample]] = {
    "text": _text,
    "completion": lambda value, origin: completion(value).chat(value, origin),
    "alpaca": lambda value, origin: alpaca(value).chat(value, origin),
    "sharegpt": lambda value, origin: listed(value).chat(value, origin),
    "messages": lambda value, origin: listed(value).chat(value, origin),
    "preference": pair,
    "labels": judged,
}
