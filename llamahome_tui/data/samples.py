"""What a row of a data set is once its format is read: text, a chat, a pair of chats, or a chat with a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Text:
    """Running text: every token of it is learned."""

    text: str
    file: str = ""
    line: int = 0
    group: str = ""


@dataclass(frozen=True, slots=True)
class Chat:
    """One conversation as templates know it: {role, content, ...}; `train` False on an assistant message masks it."""

    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    file: str = ""
    line: int = 0
    raw: bool = False  # prompt and completion as plain text: usable without a chat template
    group: str = ""

    @property
    def prompt(self) -> tuple[Mapping[str, Any], ...]:
        """All before the last assistant message: what a model is asked."""
        return self.messages[: self._last()]

    @property
    def answer(self) -> str:
        """The last assistant message: what a model should say."""
        return str(self.messages[self._last()].get("content") or "")

    def _last(self) -> int:
        return max(index for index, message in enumerate(self.messages) if message["role"] == "assistant")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt. Both chats begin with the same messages, whose answers have `train` False."""

    chosen: Chat
    rejected: Chat
    file: str = ""
    line: int = 0
    group: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer that somebody found good or not. The answers of its prompt have `train` False."""

    chat: Chat
    good: bool
    file: str = ""
    line: int = 0
    group: str = ""


Sample: TypeAlias = Text | Chat | Pair | Judged


def chats_of(sample: Sample) -> tuple[Chat, ...]:
    """The chats in a sample: two in a pair (chosen first), none in a text."""
    if isinstance(sample, Pair):
        return sample.chosen, sample.rejected
    if isinstance(sample, Judged):
        return (sample.chat,)
    return (sample,) if isinstance(sample, Chat) else ()
