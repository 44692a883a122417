"""One row as the model sees it, token by token; the pieces of a part, joined, are its text, whatever the tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Part:
    """A sequence of a row. `mask` and `special` have one byte per token: 1 where it is learned, where it is special.

    `title` is "" or, for a pair, "chosen" and "rejected". A token that brings no whole character of its own (the second
    half of an emoji) has the piece "".
    """

    title: str
    text: str
    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    mask: bytes
    special: bytes

    @property
    def trained_tokens(self) -> int:
        """How many tokens of it are learned."""
        return self.mask.count(1)

    def as_dict(self) -> dict[str, Any]:
        """This part as `data inspect` prints it (CONTRACT)."""
        return {
            "text": self.text,
            "ids": list(self.ids),
            "pieces": list(self.pieces),
            "mask": list(self.mask),
            "special": list(self.special),
            "trained_tokens": self.trained_tokens,
        }


@dataclass(frozen=True, slots=True)
class Look:
    """A row that was looked at; `row` counts from 1 over all files."""

    row: int
    file: str
    line: int
    format: str
    parts: tuple[Part, ...]

    def as_dict(self) -> dict[str, Any]:
        """The result of `data inspect`: the first part at the top, the parts of a pair under their titles as well."""
        where = {"row": self.row, "file": self.file, "line": self.line, "format": self.format}
        titled = {part.title: part.as_dict() for part in self.parts if part.title}
        return {**where, **self.parts[0].as_dict(), **titled}


def pieces(text: str, offsets: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    """The text of each token: from where the last one ended to where it ends; what is left belongs to the last.

    `offsets` are the tokens' character spans. Of several tokens that make one character the first has it; white space
    that a tokenizer leaves out stands with the token after it.
    """
    found: list[str] = []
    at = 0
    for _, end in offsets:
        found.append(text[at:end])
        at = max(at, end)
    if found and at < len(text):
        found[-1] += text[at:]
    return tuple(found)
