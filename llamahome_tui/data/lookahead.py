"""Which part of a text a template wrote before it could know of a later message: that part no later one can change.

A template is a program that reads a list of messages. What it has written when it asks for message k for the first
time, at the end of its loop's body, is therefore what it would have written of the messages before k alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class Tape:
    """What happens while a template writes: characters written, marked parts, and where messages begin.

    `starts[k]` is there only if all text before it was written without knowing whether there is a message k.
    """

    __slots__ = ("_closed", "_foreseen", "_next", "at", "marks", "starts")

    def __init__(self) -> None:
        self.at = 0
        self.marks: list[tuple[int, str]] = []
        self.starts: dict[int, int] = {}
        self._foreseen = -1  # the highest number of a message of which anything is known
        self._next: int | None = None  # asked for by a loop, which may be the one over the messages
        self._closed = False

    def saw(self, message: int) -> None:
        """The template learned something of a message, or that there is none of that number."""
        if message > self._foreseen:
            self._foreseen = message
            self._next = None

    def asked(self, message: int, *, first: bool) -> None:
        """A loop asks for its next message."""
        self._next = message if message > self._foreseen and (self._closed or first) else None
        self._foreseen = max(self._foreseen, message)
        self._closed = False

    def opened(self) -> None:
        """The body of the loop over the messages begins."""
        self._closed = False
        if self._next is not None:
            self.starts[self._next] = self.at
            self._next = None

    def closed(self) -> None:
        """It ends. A loop that looked ahead (`loop.last`) asked for the next message before."""
        self._closed = True


class Unread:
    """Messages as a template gets them: a list, as far as it may be read; all reading goes onto the tape.

    What cannot be followed raises TypeError, and the chat is rendered with a plain list instead.
    """

    __slots__ = ("_first", "_messages", "_tape")

    def __init__(self, tape: Tape, messages: Sequence[Mapping[str, Any]], first: int = 0) -> None:
        self._tape = tape
        self._messages = messages
        self._first = min(first, len(messages))

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        for at in range(self._first, len(self._messages)):
            self._tape.asked(at, first=at == self._first)
            yield self._messages[at]
        self._tape.saw(len(self._messages))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            if key.stop is None and key.step in (None, 1) and isinstance(key.start, int) and key.start >= 0:
                return Unread(self._tape, self._messages, self._first + key.start)
            self._tape.saw(len(self._messages))
            return list(self._messages[self._first :])[key]
        if not isinstance(key, int):
            raise TypeError("messages have numbers")
        self._tape.saw(self._first + key if 0 <= key < len(self._messages) - self._first else len(self._messages))
        return self._messages[self._first :][key]

    def __len__(self) -> int:
        self._tape.saw(len(self._messages))
        return len(self._messages) - self._first

    def __bool__(self) -> bool:
        self._tape.saw(self._first)
        return len(self._messages) > self._first

    def __contains__(self, one: object) -> bool:
        self._tape.saw(len(self._messages))
        return one in self._messages[self._first :]

    def __repr__(self) -> str:
        raise TypeError("messages are not followed into a text")

    def __eq__(self, other: object) -> bool:
        raise TypeError("messages are not followed into a comparison")

    __hash__ = None  # type: ignore[assignment]
