"""Rows with one conversation in them: messages, sharegpt, alpaca, prompt and completion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llamahome_tui.data.fields import RowError, list_of, text_of
from llamahome_tui.data.samples import Chat
from llamahome_tui.data.turns import (
    LISTS,
    Turn,
    history_of,
    in_order,
    only_text,
    said,
    system_of,
    tools_of,
    turns_in,
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a row stands, and what it may not be parted from."""

    file: str = ""
    line: int = 0
    group: str = ""


@dataclass(frozen=True, slots=True)
class Talk:
    """The messages of a row. `field` is where they stand, for what is wrong with all of them."""

    turns: list[Turn]
    field: str
    plain: bool = False  # texts only, usable without a chat template

    def chat(self, value: Mapping[str, Any], origin: Origin) -> Chat:
        """The conversation of the row `value`. Raises RowError where it is none."""
        only_text(value)
        in_order(self.turns, self.field)
        messages = tuple(turn.message for turn in self.turns)
        return Chat(messages, tuple(tools_of(value)), origin.file, origin.line, self.plain, origin.group)


def listed(value: Mapping[str, Any]) -> Talk:
    """Messages in a list, in either spelling, and what stands in the column `system` before them."""
    field = next((name for name in LISTS if value.get(name) is not None), LISTS[0])
    turns = turns_in(list_of(value, field), field)
    return Talk([*system_of(value, turns), *turns], field)


def alpaca(value: Mapping[str, Any]) -> Talk:
    """Instruction, input and output, with history before them."""
    return Talk([*instructed(value), said("assistant", text_of(value, "output"), "output")], "output")


def instructed(value: Mapping[str, Any]) -> list[Turn]:
    """All of an alpaca row that comes before its answer."""
    asked = text_of(value, "instruction")
    more = text_of(value, "input", optional=True)
    question = said("user", f"{asked}\n{more}" if more else asked, "instruction")
    return [*system_of(value), *history_of(value), question]


def completion(value: Mapping[str, Any]) -> Talk:
    """A prompt and what follows it, as texts or as lists of messages; answers within the prompt are not learned."""
    asked, plain = prompted(value)
    if isinstance(value.get("completion"), list):
        told = turns_in(list_of(value, "completion"), "completion")
        if not any(turn.role == "assistant" for turn in told):
            raise RowError("completion", "holds no answer, so there is nothing to learn from it")
        return Talk([*asked, *told], "completion")
    answer = said("assistant", text_of(value, "completion"), "completion")
    return Talk([*asked, answer], "completion", plain)


def prompted(value: Mapping[str, Any]) -> tuple[list[Turn], bool]:
    """The messages of `prompt`, untrained, and whether it is nothing but a text."""
    if not isinstance(value.get("prompt"), list):
        asked = said("user", text_of(value, "prompt"), "prompt")
        system = system_of(value)
        return [*system, asked], not system
    turns = turns_in(list_of(value, "prompt"), "prompt")
    untrained(turns)
    return [*system_of(value, turns), *turns], False


def untrained(turns: list[Turn]) -> None:
    """Take the answers among these messages out of what is learned."""
    for turn in turns:
        if turn.role == "assistant":
            turn.message["train"] = False
