"""Which tokens of a chat are learned: exactly what the model would write, end of turn included; in doubt, refused.

The spans come from rendering prefixes of the chat: what the template adds to a prompt with its generation header is
what the model writes. A template's own {% generation %} marks follow no one rule (some hold the role's header, some
the next turn's first token), so they are asked only where prefixes do not tell, and are checked against the messages.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llamahome_tui.data.samples import Chat
from llamahome_tui.data.template import ChatTemplate, RenderError

_NO_THOUGHT = re.compile(r"\s*(?:</think>)?\s*")


class MaskError(Exception):
    """The learned part of a chat cannot be told exactly."""


@dataclass(frozen=True, slots=True)
class Learned:
    """A chat's text and the spans [start, end) of it that are learned, in order.

    `open_ended`: the last span has no token that ends it, so that a model may not learn where to stop.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    open_ended: bool = False


def learned(
    template: ChatTemplate, chat: Chat, *, train_on: str, options: Mapping[str, Any], special: Sequence[str]
) -> Learned:
    """Render a chat and find what is learned of it. `special` are the tokens that can end a turn.

    Raises RenderError where the template refuses the messages, MaskError where a span cannot be told exactly.
    """
    whole = template.rendered(chat.messages, tools=chat.tools, **options)
    if train_on == "all":
        return Learned(whole.text, ((0, len(whole.text)),))
    turns = wanted_turns(chat, train_on)
    spans: list[tuple[int, int]] = []
    try:
        for turn in turns:
            start = _start(template, chat, turn, whole.text, options)
            end = _end(template, chat, turn, whole.text, start, options, special)
            if spans and start < spans[-1][1]:
                raise MaskError(f"message {turn + 1} of the chat overlaps the one before it")
            _check_content(chat.messages[turn], whole.text[start:end], turn)
            spans.append((start, _without_tail(whole.text, start, end, special)))
    except (MaskError, RenderError) as doubt:
        marked = _from_marks(chat, whole.text, whole.marked, turns)
        if marked is None:
            raise MaskError(str(doubt)) from None
        spans = [(start, _without_tail(whole.text, start, end, special)) for start, end in marked]
    open_ended = bool(spans) and not whole.text[slice(*spans[-1])].endswith(tuple(special))
    return Learned(whole.text, tuple(spans), open_ended)


def wanted_turns(chat: Chat, train_on: str) -> list[int]:
    """Indices of the assistant messages that are learned; a row may take single ones out (`weight` 0)."""
    turns = [at for at, message in enumerate(chat.messages) if message["role"] == "assistant"]
    if train_on == "last":
        turns = turns[-1:]
    elif train_on == "completion":
        asked = max((at for at, message in enumerate(chat.messages) if message["role"] == "user"), default=-1)
        turns = [turn for turn in turns if turn > asked]
    return [turn for turn in turns if chat.messages[turn].get("train", True)]


def token_mask(text: str, offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> bytearray:
    """1 for each token inside a span. `offsets` are the tokens' character spans in `text`, in order.

    A token may reach over a span's edge by white space only (" Hi" after "assistant: "); anything else raises
    MaskError, as part of the token would be learned that the model never writes.
    """
    mask = bytearray(len(offsets))
    ends = [end for _, end in offsets]
    if ends != sorted(ends):
        raise MaskError("the tokenizer moves text around, so that tokens cannot be told apart")
    for start, end in spans:
        first, last = bisect_right(ends, start), bisect_right(ends, end)
        if first < len(offsets) and offsets[first][0] < start and text[offsets[first][0] : start].strip():
            raise MaskError("a token holds the end of the prompt and the start of the answer")
        if last < len(offsets) and offsets[last][0] < end:
            if text[end : ends[last]].strip():
                raise MaskError("a token holds the end of the answer and the start of what follows")
            last += 1
        mask[first:last] = b"\1" * (last - first)
    return mask


def _start(template: ChatTemplate, chat: Chat, turn: int, whole: str, options: Mapping[str, Any]) -> int:
    """Where the model begins to write message `turn`: after the prompt with its generation header."""
    if turn == 0:
        raise MaskError("the chat starts with an answer")
    prompt = template.render(chat.messages[:turn], add_generation_prompt=True, tools=chat.tools, **options)
    if whole.startswith(prompt):
        return len(prompt)
    # A header may go on for a model that thinks ("<think>"), where the finished turn has not thought: then it is as
    # long as both agree, if the message follows there at once.
    shared = _shared(prompt, whole)
    before = template.render(chat.messages[:turn], tools=chat.tools, **options)
    content = _spoken(chat.messages[turn])
    follows = _NO_THOUGHT.sub("", whole[shared:], count=1)
    if shared > len(before) and whole.startswith(before) and content and follows.startswith(content):
        return shared
    raise MaskError(f"the template writes the prompt of message {turn + 1} in another way than the finished chat")


def _shared(one: str, other: str) -> int:
    """How many characters two texts have in common at their start."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _end(
    template: ChatTemplate,
    chat: Chat,
    turn: int,
    whole: str,
    start: int,
    options: Mapping[str, Any],
    special: Sequence[str],
) -> int:
    """Where message `turn` ends, with all the template puts after it before the next message."""
    if turn == len(chat.messages) - 1:
        return len(whole)
    until = template.render(chat.messages[: turn + 1], tools=chat.tools, **options)
    if len(until) > start and whole.startswith(until):
        return len(until)
    # Templates that write a turn in another way once it is not the last (thinking left out, another end of turn):
    # find the message, and after it what ends it.
    content = _spoken(chat.messages[turn])
    tail = until.rpartition(content)[2] if content and content in until else None
    at = whole.find(content, start) if tail is not None else -1
    while tail is not None and at >= 0:
        end = at + len(content)
        if tail and whole.startswith(tail, end):
            return end + len(tail)
        rest = whole[end:].lstrip()
        token = max((one for one in special if rest.startswith(one)), key=len, default="")
        if token and not tail.strip():
            return end
        if token and tail.lstrip().startswith(tuple(special)):
            return len(whole) - len(rest) + len(token)
        at = whole.find(content, at + 1)
    raise MaskError(f"the end of message {turn + 1} is not found in the finished chat")


def _without_tail(text: str, start: int, end: int, special: Sequence[str]) -> int:
    """`end` without white space after the token that ends the turn: the model stops there and never writes it."""
    last = max((at + len(token) for token in special if (at := text.rfind(token, start, end)) >= 0), default=end)
    return end if text[last:end].strip() else last


def _check_content(message: Mapping[str, Any], span: str, turn: int) -> None:
    content = _spoken(message)
    if content and content not in span:
        raise MaskError(f"the template changes the text of message {turn + 1}")


def _spoken(message: Mapping[str, Any]) -> str:
    """What a message says once it has thought: templates keep or drop the thinking as they like."""
    return str(message.get("content") or "").rpartition("</think>")[2].strip()


def _from_marks(
    chat: Chat, text: str, marked: Sequence[tuple[int, int]], turns: Sequence[int]
) -> list[tuple[int, int]] | None:
    """The template's own marks for `turns`, if each answer has one that holds it and no question."""
    answers = [at for at, message in enumerate(chat.messages) if message["role"] == "assistant"]
    marks = [(start, end) for start, end in marked if end > start]
    if len(marks) != len(answers):
        return None
    others = [str(one.get("content") or "").strip() for one in chat.messages if one["role"] != "assistant"]
    for at, (start, end) in zip(answers, marks, strict=True):
        content = _spoken(chat.messages[at])
        span = text[start:end]
        if (content and content not in span) or any(len(other) > 20 and other in span for other in others):
            return None
    return [mark for at, mark in zip(answers, marks, strict=True) if at in turns]
