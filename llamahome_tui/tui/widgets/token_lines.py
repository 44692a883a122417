"""Tokens laid out in lines: nothing of a token is invisible, and a row of a million tokens is laid out bit by bit."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, chop_cells

from llamahome_tui.data.inspect import Part
from llamahome_tui.text import clean

TITLE = -1  # in place of a token's number: a part's title, or nothing
Bit = tuple[str, int]  # a text on one line and the token it belongs to

_SIGNS = {"\n": "⏎", "\t": "⇥"}
_PLAIN_SIGNS = {"\n": "\\n", "\t": "\\t"}
_NAMES = {"\r": "\\r", "\0": "\\0"}


def visible(piece: str, *, ascii_only: bool = False) -> str:
    """A piece of text with a sign for each character that would not show; a newline follows its own sign.

    A piece without any character of its own (the second half of an emoji) is a middle dot.
    """
    if not piece:
        return "." if ascii_only else "·"
    if piece.isascii() and piece.isprintable():
        return piece
    signs = _PLAIN_SIGNS if ascii_only else _SIGNS
    shown = clean(piece, limit=len(piece) + 1, keep_newlines=True)
    if shown != piece or not cell_len(shown):
        shown = "".join(one if one in signs or _shows(one) else _NAMES.get(one) or _escaped(one) for one in piece)
    if ascii_only:
        shown = "".join(one if one.isascii() else _escaped(one) for one in shown)
    for character, sign in signs.items():
        shown = shown.replace(character, sign + "\n" if character == "\n" else sign)
    return shown


def _shows(character: str) -> bool:
    return bool(cell_len(character)) and clean(character) == character


def _escaped(character: str) -> str:
    return f"\\u{{{ord(character):x}}}"


class Layout:
    """The lines of some parts at one width. `more` lays out further; `lines` are those that are ready.

    Tokens are numbered through all parts. `edge` stands between two tokens of one line.
    """

    def __init__(self, parts: Sequence[Part], width: int, *, ascii_only: bool = False, edge: str = "") -> None:
        self._parts = parts
        self._width = max(4, width)
        self._ascii = ascii_only
        self._edge = edge
        self._part = self._token = self._number = 0
        self._line: list[Bit] = []
        self._used = 0
        self.lines: list[tuple[Bit, ...]] = []
        self.starts: list[int] = []  # the line on which each token begins

    @property
    def done(self) -> bool:
        """Whether all of it is laid out."""
        return self._part >= len(self._parts)

    def more(self, tokens: int) -> bool:
        """Lay out so many tokens more; True when that was all."""
        while tokens > 0 and not self.done:
            part = self._parts[self._part]
            if self._token == 0:
                self._begin(part)
            until = min(len(part.pieces), self._token + tokens)
            tokens -= until - self._token
            for index in range(self._token, until):
                self._add(part.pieces[index])
            self._token = until
            if until == len(part.pieces):
                self._close(always=False)
                self._part, self._token = self._part + 1, 0
        return self.done

    def _begin(self, part: Part) -> None:
        if part.title:
            if self.lines:
                self.lines.append(())
            self.lines.append(((f"{part.title}: {part.trained_tokens:,} of {len(part.ids):,} tokens learned", TITLE),))

    def _add(self, piece: str) -> None:
        number, shown = self._number, visible(piece, ascii_only=self._ascii)
        self._number += 1
        if self._edge and self._line:
            self._put(self._edge, TITLE)
        first, *rest = shown.split("\n")
        if self._used and self._used + cell_len(first) > self._width:
            self._close()
        self.starts.append(len(self.lines))
        self._put(first, number)
        for text in rest:
            self._close()
            self._put(text, number)

    def _put(self, text: str, number: int) -> None:
        room = self._width - self._used
        if cell_len(text) <= room:
            if text:
                self._line.append((text, number))
                self._used += cell_len(text)
            return
        for index, chunk in enumerate(chop_cells(text, self._width)):
            if index or self._used:
                self._close()
            self._line.append((chunk, number))
            self._used = cell_len(chunk)

    def _close(self, *, always: bool = True) -> None:
        if self._line or always:
            self.lines.append(tuple(self._line))
        self._line, self._used = [], 0
