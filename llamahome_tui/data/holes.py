"""Where the words of a message stand in what a template makes of it: found by rendering other words in their place.

The words themselves are never searched for: an answer may hold a template's own tokens, or stand in the prompt as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

from llamahome_tui.data.dialect import REASONING

Kind = Literal["text", "thinking", "call"]
_THOUGHT = re.compile(r"(\s*<think>\s*|\s*)(.*?)(\s*</think>\s*)(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Hole:
    """One piece of a message that a template writes: what stands there, and what was put in its place."""

    kind: Kind
    value: str
    stand_in: str

    def forms(self) -> tuple[str, ...]:
        """What a template may make of it: the same, or without white space at its ends."""
        value = self.value
        if self.kind == "call" or value == value.strip():
            return (value,)
        lines = value.strip("\n"), value.lstrip("\n"), value.rstrip("\n")
        return tuple(dict.fromkeys((value, value.strip(), value.lstrip(), value.rstrip(), *lines)))


@dataclass(frozen=True, slots=True)
class Shape:
    """What a template writes around the words of a message: `pieces[0]` word `pieces[1]` word ... `pieces[-1]`.

    `words` are numbers of the message's holes, in the order in which they are written.
    """

    pieces: tuple[str, ...]
    words: tuple[int, ...]

    @property
    def tail(self) -> str:
        """What follows the last word; all, where there are no words."""
        return self.pieces[-1]

    def fits(self, holes: Sequence[Hole], written: str) -> bool:
        """Whether `written` is exactly this with the words of `holes`."""
        if self.words and max(self.words) >= len(holes):
            return False
        ends = {0}
        for piece, word in zip(self.pieces, (*self.words, None), strict=True):
            ends = {end + len(piece) for end in ends if written.startswith(piece, end)}
            if word is None:
                return len(written) in ends
            forms = holes[word].forms()
            ends = {end + len(form) for end in ends for form in forms if written.startswith(form, end)}
        return False


def plain_words(message: Mapping[str, Any]) -> str | None:
    """The text of a message that is nothing but text, or None: what most messages are, told at once."""
    content = message.get("content")
    if not isinstance(content, str) or "</think>" in content or not content or content.isspace():
        return None
    if message.get("tool_calls") or any(name in message for name in REASONING):
        return None
    return content


def emptied(message: Mapping[str, Any], avoid: str) -> tuple[dict[str, Any], tuple[Hole, ...]]:
    """The message with stand-ins for its words, and the holes that they fill. No stand-in stands in `avoid`."""
    holes: list[Hole] = []

    def hole(kind: Kind, value: str) -> str:
        tried = (f"zq{number}qz" for number in count(len(holes)))
        stand_in = next(one for one in tried if one not in avoid and all(one != hole.stand_in for hole in holes))
        holes.append(Hole(kind, value, stand_in))
        return stand_in

    changed = dict(message)
    content = message.get("content")
    if isinstance(content, str) and content.strip():
        changed["content"] = "".join(
            hole(kind, words) if kind and words.strip() else words for kind, words in _parts(content)
        )
    elif isinstance(content, str) and not message.get("tool_calls"):
        changed["content"] = hole("text", content)
    thought = next((message[name] for name in REASONING if message.get(name) is not None), None)
    if isinstance(thought, str) and thought.strip():
        stand_in = hole("thinking", thought)
        changed |= {name: stand_in for name in REASONING if message.get(name) is not None}
    if isinstance(calls := message.get("tool_calls"), Sequence) and not isinstance(calls, str):
        changed["tool_calls"] = [_renamed(call, hole) for call in calls]
    return changed, tuple(holes)


def shape_of(rest: str, holes: Sequence[Hole]) -> Shape:
    """The shape of a message from how it is written with its stand-ins. Holes that are not written have no number."""
    if not holes:
        return Shape((rest,), ())
    numbers = {one.stand_in: at for at, one in enumerate(holes)}
    parts = re.split("(" + "|".join(map(re.escape, numbers)) + ")", rest)
    return Shape(tuple(parts[::2]), tuple(numbers[part] for part in parts[1::2]))


def _parts(content: str) -> list[tuple[Kind | None, str]]:
    """A content's thinking and text, where it holds both as models write them."""
    found = _THOUGHT.fullmatch(content) if content.count("</think>") == 1 and content.count("<think>") <= 1 else None
    if found is None:
        return [("text", content)]
    before, thought, between, text = found.groups()
    bare = not any(one.strip() for one in (before, thought, text)) and "<think>" not in content
    if bare or "<think>" in thought or "<think>" in text:
        return [("text", content)]
    return [(None, before), ("thinking", thought), (None, between), ("text", text)]


def _renamed(call: Any, hole: Any) -> Any:
    """A tool call under another name; its arguments stay."""
    if not isinstance(call, Mapping):
        return call
    inner = call.get("function")
    if isinstance(inner, Mapping):
        return {**call, "function": _renamed(inner, hole)}
    return {**call, "name": hole("call", call["name"])} if isinstance(call.get("name"), str) else call
