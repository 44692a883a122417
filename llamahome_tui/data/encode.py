"""From a sample to token ids and a mask of what is learned; pure and in this process, so never for untrusted templates.

`data/pool.py` runs it in children with limits, which is where templates are rendered.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from llamahome_tui.data.masks import Learned, MaskError, learned, token_mask
from llamahome_tui.data.rows import Bad
from llamahome_tui.data.samples import Chat, Judged, Pair, Sample, Text
from llamahome_tui.data.template import ChatTemplate, RenderError, special_tokens
from llamahome_tui.data.tokens import RowTokens, Tokens
from llamahome_tui.errors import DataError
from llamahome_tui.training.shape import Data

MAX_TEXT = 32 << 20  # characters of one rendered text: a row has at most 16 MiB


@dataclass(frozen=True, slots=True)
class Encoding:
    """All that decides how samples become tokens. `now` is the date a template may write; None: the clock's."""

    model_dir: Path
    data: Data = field(default_factory=Data)
    now: datetime | None = None


@dataclass(frozen=True, slots=True)
class Tokenised:
    """Token ids, and a 1 in `mask` for each token that is learned; never the first, which nothing comes before."""

    ids: array[int]
    mask: bytes | bytearray


@dataclass(frozen=True, slots=True)
class Encoded:
    """A sample as tokens: one sequence, or two for a pair (chosen first). `content` is the hash of its text.

    `open_ended`: no token of its own ends the last answer. `good` is the verdict on it, None where there is none.
    `doubts` are sentences a person should read once.
    """

    sequences: tuple[Tokenised, ...]
    content: bytes
    group: str = ""
    file: str = ""
    line: int = 0
    open_ended: bool = False
    good: bool | None = None
    doubts: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens of all its sequences."""
        return sum(len(one.ids) for one in self.sequences)


@dataclass(frozen=True, slots=True)
class SeenPart:
    """One sequence to look at: `offsets` are the tokens' character spans in `text`, `special` marks special tokens."""

    title: str
    text: str
    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    mask: bytes
    special: bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """A sample to look at: one part, or "chosen" and "rejected" of a pair."""

    parts: tuple[SeenPart, ...]


class Watch(Protocol):
    """Is told what begins, so that whoever sets limits knows what they are for."""

    def rendering(self, number: int) -> None: ...
    def tokenising(self, number: int, characters: int) -> None: ...


@dataclass(frozen=True, slots=True)
class _Made:
    """One text on its way: how it was learned, and its tokens in it."""

    text: str
    ids: list[int]
    offsets: Sequence[tuple[int, int]]
    mask: bytearray
    framed: bool  # a token stands before the text that is not in it
    open_ended: bool = False
    doubts: tuple[str, ...] = ()


class Encoder:
    """Encodes samples for one model and one set of data settings.

    Raises ModelError where the tokenizer is missing or broken, DataError where the template is.
    """

    def __init__(self, encoding: Encoding) -> None:
        data = encoding.data
        self._model_dir = encoding.model_dir
        self._train_on = data.train_on
        self._options = data.template_options
        self._template = ChatTemplate.load(encoding.model_dir, data.template, encoding.now)
        self._tokens = Tokens.load(encoding.model_dir, special_tokens(encoding.model_dir))

    def encode(self, samples: Sequence[Sample], watch: Watch | None = None) -> list[Encoded | Bad]:
        """One Encoded or Bad per sample, in order. Raises DataError where no row could be used."""
        return [self._encoded(sample, number, watch) for number, sample in enumerate(samples)]

    def look(self, sample: Sample, watch: Watch | None = None) -> Seen | Bad:
        """The sample with the text and the place of each token."""
        try:
            made = self._made(sample, 0, watch)
        except (RenderError, MaskError) as error:
            return Bad(sample.file, sample.line, "", str(error))
        titles = ("chosen", "rejected") if isinstance(sample, Pair) else ("",)
        return Seen(tuple(self._part(title, one) for title, one in zip(titles, made, strict=True)))

    def _encoded(self, sample: Sample, number: int, watch: Watch | None) -> Encoded | Bad:
        try:
            made = self._made(sample, number, watch)
        except (RenderError, MaskError) as error:
            return Bad(sample.file, sample.line, "", str(error))
        content = hashlib.blake2b(digest_size=16)
        for one in made:
            content.update(one.text.encode())
        return Encoded(
            tuple(Tokenised(array("i", one.ids), one.mask) for one in made),
            content.digest(),
            sample.group,
            sample.file,
            sample.line,
            any(one.open_ended for one in made),
            sample.good if isinstance(sample, Judged) else None,
            tuple(dict.fromkeys(doubt for one in made for doubt in one.doubts)),
        )

    def _made(self, sample: Sample, number: int, watch: Watch | None) -> list[_Made]:
        if isinstance(sample, Text):
            if not self._tokens.end:
                raise self._no_end(sample)
            return [self._running(sample, number, watch)]
        chats = (sample.chosen, sample.rejected) if isinstance(sample, Pair) else (_chat(sample),)
        return [self._answered(chat, sample, number, watch) for chat in chats]

    def _running(self, sample: Text, number: int, watch: Watch | None) -> _Made:
        text = self._tokens.running(sample.text)
        if watch:
            watch.tokenising(number, len(text))
        row = self._tokens.encode_one(text)
        return self._framed(text, row, bytearray(b"\1") * len(row.ids))

    def _answered(self, chat: Chat, sample: Sample, number: int, watch: Watch | None) -> _Made:
        if watch:
            watch.rendering(number)
        found = self._learned(chat, sample)
        if len(found.text) > MAX_TEXT:
            raise RenderError(f"the chat template makes a text of more than {MAX_TEXT >> 20} Mi characters of it")
        if watch:
            watch.tokenising(number, len(found.text))
        row = self._tokens.encode_one(found.text)
        doubts = list(found.doubts)
        mask = token_mask(found.text, row.offsets, found.spans, doubts=doubts)
        if self._template is None:
            return self._framed(found.text, row, mask)
        mask[:1] = b"\0" * len(mask[:1])
        return _Made(found.text, row.ids, row.offsets, mask, False, found.open_ended, tuple(doubts))

    def _learned(self, chat: Chat, sample: Sample) -> Learned:
        template = self._template
        if template is None:
            if not chat.raw:
                raise self._no_template()
            if not self._tokens.end:
                raise self._no_end(sample)
            return self._tokens.plain(chat, self._train_on)
        if not template.knows_tools and any("tool_calls" in message for message in chat.messages):
            raise MaskError("it calls tools, and the chat template leaves tool calls out")
        found = learned(template, chat, train_on=self._train_on, options=self._options, special=self._tokens.special)
        if found.open_ended and not self._tokens.end:
            raise self._no_end(sample)
        return found

    def _framed(self, text: str, row: RowTokens, mask: bytearray) -> _Made:
        """Plain text, with the token that stands before it."""
        framed, mask = self._tokens.framed(row.ids, mask)
        mask[:1] = b"\0" * len(mask[:1])
        return _Made(text, framed, row.offsets, mask, len(framed) > len(row.ids))

    def _part(self, title: str, made: _Made) -> SeenPart:
        text, offsets = made.text, tuple(made.offsets)
        if made.framed:
            before = len(self._tokens.first)
            text = self._tokens.first + text
            offsets = ((0, before), *((start + before, end + before) for start, end in offsets))
        special = bytes(one in self._tokens.special_ids for one in made.ids)
        return SeenPart(title, text, tuple(made.ids), offsets, bytes(made.mask), special)

    def _no_template(self) -> DataError:
        return DataError(
            f"{self._model_dir} has no chat template, and the rows are chats",
            code="template.missing",
            hint="name one: llamahome --batch train start SPEC --set data.template=FILE",
        )

    def _no_end(self, sample: Sample) -> DataError:
        reason = "nothing ends an answer: the tokenizer has no eos_token, so the model could never learn where to stop"
        bad = Bad(sample.file, sample.line, "", reason)
        return DataError(
            str(bad),
            code="tokenizer.no_end",
            hint=f"set eos_token in {self._model_dir / 'tokenizer_config.json'} to a token of tokenizer.json, "
            "then llamahome --batch train start SPEC",
            data={"bad": [bad.as_dict()], "bad_count": 1},
        )


def _chat(sample: Chat | Judged) -> Chat:
    return sample.chat if isinstance(sample, Judged) else sample
