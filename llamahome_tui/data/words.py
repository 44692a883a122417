"""Tokens of text by its words, remembered: for tokenizers of which it is certain that a text may be cut between words.

Byte-level BPE first cuts a text by a pattern and then merges within each part, so where the pattern always cuts, the
parts can be tokenised one by one, and most words of a text have been met before. That holds for the patterns named
here, for ASCII, before a single space between a printable character and a letter, and around special tokens. Any other
tokenizer has no `Words`, and the first texts are compared with what the library says of the whole.
"""

from __future__ import annotations

import json
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Any, TypeAlias, overload

# What cl100k, Llama 3 and Qwen cut by; {digits} is a digit or up to three. GPT-2's stands in the library itself.
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PATTERNS = frozenset(_PATTERN.format(digits=digits) for digits in (r"\p{N}", r"\p{N}{1,3}"))
_BETWEEN = re.compile("(?<=[!-~]) (?=[A-Za-z])")
_AFTER_LINE = re.compile("[!-~]\n[A-Za-z]")
_HEADER = 32  # characters of a first line that may be cut from what follows: a role
_LONGEST = 32  # characters of a word that is remembered
_MOST = 1 << 16  # words
_COMPARED = 32  # texts

Entry: TypeAlias = tuple[bytes, bytes]  # ids as C ints, and the length of each token


class Spans(Sequence[tuple[int, int]]):
    """The spans of tokens that follow one another without a gap, made from their ends when they are asked for."""

    __slots__ = ("ends",)

    def __init__(self, ends: list[int]) -> None:
        self.ends = ends

    def __len__(self) -> int:
        return len(self.ends)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(chain((0,), self.ends), self.ends, strict=False)

    @overload
    def __getitem__(self, index: int) -> tuple[int, int]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[int, int]]: ...
    def __getitem__(self, index: int | slice) -> tuple[int, int] | list[tuple[int, int]]:
        if isinstance(index, slice):
            return list(self)[index]
        at = range(len(self.ends))[index]
        return self.ends[at - 1] if at else 0, self.ends[at]


@dataclass(slots=True)
class Words:
    """Remembers the tokens of words. `_special` cuts a text at its special tokens."""

    _tokenizer: Any
    _special: re.Pattern[str] | None
    _added: dict[str, Entry]
    _first: dict[str, Entry] = field(default_factory=dict)
    _spaced: dict[str, Entry] = field(default_factory=dict)  # of words after a space
    _compared: int = 0
    _wrong: bool = False

    @classmethod
    def of(cls, tokenizer: Any) -> Words | None:
        """For a tokenizer without a post-processor; None where it is not certain that its texts may be cut."""
        if not _cuts_at_words(tokenizer):
            return None
        added = tokenizer.get_added_tokens_decoder()
        if any(one.lstrip or one.rstrip or one.single_word or one.normalized for one in added.values()):
            return None
        texts = sorted((one.content for one in added.values()), key=len, reverse=True)
        special = re.compile(f"({'|'.join(map(re.escape, texts))})") if texts else None
        try:
            return cls(
                tokenizer, special, {one.content: _entry([number], [len(one.content)]) for number, one in added.items()}
            )
        except _LongTokenError:
            return None

    def encode(self, text: str) -> tuple[array[int], Spans] | None:
        """Ids of an ASCII text and the tokens' spans in it; None where they are not known after all."""
        if self._wrong:
            return None
        entries: list[Entry | None] = []
        new: list[str] = []
        try:
            for at, part in enumerate(self._special.split(text) if self._special else (text,)):
                if at % 2:
                    entries.append(self._added[part])
                elif part:
                    self._add_part(part, entries, new)
            learned = iter(self._learn(new) if new else ())
        except _LongTokenError:
            return None
        found = [known or next(learned) for known in entries] if new else entries
        said, lengths = zip(*found, strict=True) if found else ((), ())
        ids, ends = array("i", b"".join(said)), list(accumulate(b"".join(lengths)))
        if self._compared < _COMPARED:
            self._compared += 1
            whole = self._tokenizer.encode(text, add_special_tokens=False)
            if whole.ids != ids.tolist() or [end for _, end in whole.offsets] != ends:
                self._wrong = True
                return None
        return ids, Spans(ends)

    def _add_part(self, part: str, entries: list[Entry | None], new: list[str]) -> None:
        """The tokens of a text without special ones; None for words after a space that are met for the first time."""
        line = part.find("\n", 1, _HEADER)
        if line > 0 and _AFTER_LINE.match(part, line - 1):
            head = part[: line + 1]
            entries.append(self._first.get(head) or self._met(self._first, head, ""))
            part = part[line + 1 :]
        first, *words = part.split(" ") if part.isprintable() else ("",)
        found = list(map(self._spaced.get, words))
        unknown = [word for word, known in zip(words, found, strict=True) if known is None] if None in found else []
        if not first or not all(word[:1].isalpha() for word in unknown):
            # A space stands beside something else than printable characters and letters: it is cut in fewer places.
            first, *words = _BETWEEN.split(part)
            found = list(map(self._spaced.get, words))
            unknown = [word for word, known in zip(words, found, strict=True) if known is None]
        entries.append(self._first.get(first) or self._met(self._first, first, ""))
        entries += found
        new += unknown

    def _learn(self, words: list[str]) -> list[Entry]:
        """The tokens of words after a space, all asked for at once: put together they are cut as they were."""
        if not all("!" <= word[-1] <= "~" for word in words[:-1]):
            return [self._met(self._spaced, word, " ") for word in words]
        one = self._tokenizer.encode(" " + " ".join(words), add_special_tokens=False)
        ids, ends = one.ids, [end for _, end in one.offsets]
        lengths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        token = at = 0
        entries: list[Entry] = []
        for word in words:
            first, at = token, at + 1 + len(word)
            token = bisect_left(ends, at, token) + 1
            entries.append(_entry(ids[first:token], lengths[first:token]))
            if len(word) <= _LONGEST and len(self._spaced) < _MOST:
                self._spaced[word] = entries[-1]
        return entries

    def _met(self, known: dict[str, Entry], word: str, before: str) -> Entry:
        one = self._tokenizer.encode(before + word, add_special_tokens=False)
        entry = _entry(one.ids, [end - start for start, end in one.offsets])
        if len(word) <= _LONGEST and len(known) < _MOST:
            known[word] = entry
        return entry


class _LongTokenError(Exception):
    """A token of more characters than a byte can say."""


def _entry(ids: list[int], lengths: list[int]) -> Entry:
    if max(lengths, default=0) > 255:
        raise _LongTokenError
    return array("i", ids).tobytes(), bytes(lengths)


def _cuts_at_words(tokenizer: Any) -> bool:
    model, normalizer = tokenizer.model, _said(tokenizer.normalizer)
    if type(model).__name__ != "BPE" or model.dropout or (normalizer and normalizer != {"type": "NFC"}):
        return False
    if model.continuing_subword_prefix or model.end_of_word_suffix:
        return False
    outer = _said(tokenizer.pre_tokenizer)
    *cuts, level = outer.get("pretokenizers") or [outer]
    if level.get("type") != "ByteLevel" or level.get("add_prefix_space") is not False:
        return False
    if level.get("use_regex", True):
        return all(cut.get("type") == "Digits" for cut in cuts)
    return len(cuts) == 1 and _is_known(cuts[0])


def _said(step: Any) -> dict[str, Any]:
    """A part of a tokenizer as tokenizer.json has it; nothing where there is none."""
    said: dict[str, Any] = json.loads(step.__getstate__()) if step is not None else {}
    return said


def _is_known(cut: dict[str, Any]) -> bool:
    return (
        cut.get("type") == "Split"
        and cut.get("pattern", {}).get("Regex") in _PATTERNS
        and cut.get("behavior") == "Isolated"
        and cut.get("invert") is False
    )
