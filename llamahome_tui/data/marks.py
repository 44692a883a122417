"""A template's own {% generation %} marks: whose they are, whether they can be believed, and what of them is learned.

They follow no one rule (some hold the role's header, some the next turn's first token, some no end of turn), so they
choose among what the model writes; where that cannot be told, they are believed if no other message is in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llamahome_tui.data.answers import Answer, MaskError, Script, shared
from llamahome_tui.data.holes import emptied
from llamahome_tui.data.template import ChatTemplate, RenderError

Span = tuple[int, int]


def within(script: Script, answer: Answer, special: tuple[str, ...]) -> list[Span]:
    """The marked parts of an answer, its end of turn with the last of them; none where the template marks none of it.

    Answers that are marked whole, or in a template without marks, are one part.
    """
    marks = [mark for mark in script.whole.marked if mark[1] > mark[0]]
    if not marks or script.whole.misplaced:
        return [(answer.start, answer.end)]
    text = script.text
    parts: list[Span] = []
    for start, end in marks:
        start, end = max(start, answer.start), min(end, answer.end)
        if start >= end:
            continue
        if parts and not text[parts[-1][1] : start].strip():
            parts[-1] = (parts[-1][0], end)
        else:
            parts.append((start, end))
    if not parts:
        return []
    if not text[answer.start : parts[0][0]].strip():
        parts[0] = (answer.start, parts[0][1])
    if not _without(text[parts[-1][1] : answer.end], special):
        parts[-1] = (parts[-1][0], answer.end)
    return parts


def believed(
    script: Script, template: ChatTemplate, options: Mapping[str, Any], turns: Sequence[int], special: tuple[str, ...]
) -> list[Answer] | None:
    """The marked spans of `turns`, if each has marks of its own that hold its words and no other message's."""
    whole = script.whole
    if not whole.marked or whole.misplaced:
        return None
    owned = _owners(script)
    if owned is None or not all(owned.get(turn) for turn in turns) or not _sound(script, template, options, owned):
        return None
    found: list[Answer] = []
    for turn in turns:
        for at, number in enumerate(owned[turn]):
            start, end = whole.marked[number]
            if at == 0 and turn:
                start = min(max(start, _prompted(script, turn, start)), end)
            end = _without_space(script.text, start, end, special)
            if end > start:
                found.append(Answer(start, end, script.text[start:end].endswith(special)))
    return found


def _prompted(script: Script, turn: int, start: int) -> int:
    """Where the prompt of an answer ends that is marked from `start` on: what it ends in is no part of the answer.

    Of a prompt that the finished chat does not hold (it ends in <think>) only the role's header is, where it is marked.
    """
    prompt = script.prompt(turn).text
    same = shared(prompt, script.text)
    return same if same == len(prompt) or start <= script.header(turn) else start


def _owners(script: Script) -> dict[int, list[int]] | None:
    """Which marks belong to which answer: a prompt has the marks of all answers before it."""
    messages = script.chat.messages
    answers = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
    counts = [0] * len(answers)
    for at, turn in enumerate(answers):
        if turn:
            try:
                counts[at] = len(script.prompt(turn).marked)
            except MaskError:
                return None
    counts.append(len(script.whole.marked))
    if counts != sorted(counts) or counts[0]:
        return None
    marks = script.whole.marked
    return {
        turn: [number for number in range(first, last) if marks[number][1] > marks[number][0]]
        for turn, first, last in zip(answers, counts, counts[1:], strict=False)
    }


def _sound(
    script: Script, template: ChatTemplate, options: Mapping[str, Any], owned: Mapping[int, Sequence[int]]
) -> bool:
    """Whether marks hold the words of their own answers and of nobody else: seen with other words in all messages."""
    filled, stand_ins = [], []
    avoid = script.text
    for message in script.chat.messages:
        changed, holes = emptied(message, avoid)
        avoid += "".join(hole.stand_in for hole in holes)
        filled.append(changed)
        stand_ins.append([hole.stand_in for hole in holes if hole.kind == "text"])
    try:
        rendered = template.rendered(filled, tools=script.chat.tools, **options)
    except RenderError:
        return False
    if len(rendered.marked) != len(script.whole.marked) or rendered.misplaced:
        return False
    for turn, numbers in owned.items():
        marked = "".join(rendered.text[slice(*rendered.marked[number])] for number in numbers)
        others = [one for at, words in enumerate(stand_ins) if at != turn for one in words]
        if any(one in marked for one in others) or not all(one in marked for one in stand_ins[turn]):
            return False
    return True


def _without(text: str, special: tuple[str, ...]) -> str:
    """What is left of a text once special tokens and white space are taken from its end."""
    text = text.rstrip()
    while text.endswith(special) and special:
        text = text[: -max(len(one) for one in special if text.endswith(one))].rstrip()
    return text


def _without_space(text: str, start: int, end: int, special: tuple[str, ...]) -> int:
    """`end` without white space after a special token: the model stops there and never writes it."""
    stripped = len(text[start:end].rstrip()) + start
    return stripped if text[start:stripped].endswith(special) and special else end
