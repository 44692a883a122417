"""From a sample to token ids and a mask of what is learned; pure and in this process, so never for untrusted templates.

`data/pool.py` runs it in children with limits, which is where templates are rendered.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import repeat
from pathlib import Path
from typing import Protocol

from llamahome_tui.data.caller import TRAIN, on
from llamahome_tui.data.masks import JOINED, PARTED, Learned, MaskError, learned, token_mask
from llamahome_tui.data.rows import Bad
from llamahome_tui.data.samples import Chat, Judged, Pair, Sample, Text
from llamahome_tui.data.template import ChatTemplate, RenderError, special_tokens
from llamahome_tui.data.tokens import Tokens
from llamahome_tui.errors import DataError
from llamahome_tui.training.shape import Data

MAX_TEXT = 32 << 20  # characters of one rendered text: a row has at most 16 MiB
_ASKED = 16  # one text of so many has its prompt tokenised alone, to see if it is what a model is asked with
_TOGETHER = 32  # rows that are rendered before they are tokenised: each of both is faster when it is not interrupted


@dataclass(frozen=True, slots=True)
class Encoding:
    """All that decides how samples become tokens. `now` is the date a template may write; None: the clock's.

    `caller` is the command that asks, which hints end in.
    """

    model_dir: Path
    data: Data = field(default_factory=Data)
    now: datetime | None = None
    caller: str = TRAIN


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
    """One text with its tokens. `framed`: a token stands before it that is not in it."""

    found: Learned
    ids: array[int]
    offsets: Sequence[tuple[int, int]]
    mask: bytearray
    framed: bool


class Encoder:
    """Encodes samples for one model and one set of data settings.

    Raises ModelError where the tokenizer is missing or broken, DataError where the template is.
    """

    def __init__(self, encoding: Encoding) -> None:
        data = encoding.data
        self._model_dir = encoding.model_dir
        self._caller = encoding.caller
        self._train_on = data.train_on
        self._options = data.template_options
        self._template = ChatTemplate.load(encoding.model_dir, data.template, encoding.now, encoding.caller)
        self._tokens = Tokens.load(encoding.model_dir, special_tokens(encoding.model_dir))

    def encode(self, samples: Sequence[Sample], watch: Watch | None = None) -> list[Encoded | Bad]:
        """One Encoded or Bad per sample, in order. Raises DataError where no row could be used."""
        found: list[Encoded | Bad] = []
        for start in range(0, len(samples), _TOGETHER):
            part = samples[start : start + _TOGETHER]
            drawn = [self._drawn(sample, number, watch) for number, sample in enumerate(part, start)]
            found += map(self._encoded, part, drawn, range(start, start + len(part)), repeat(watch))
        return found

    def look(self, sample: Sample, watch: Watch | None = None) -> Seen | Bad:
        """The sample with the text and the place of each token."""
        drawn = self._drawn(sample, 0, watch)
        made = drawn if isinstance(drawn, Bad) else self._made(sample, drawn, 0, watch)
        if isinstance(made, Bad):
            return made
        titles = ("chosen", "rejected") if isinstance(sample, Pair) else ("",)
        return Seen(tuple(self._part(title, one) for title, one in zip(titles, made, strict=True)))

    def _encoded(self, sample: Sample, drawn: list[Learned] | Bad, number: int, watch: Watch | None) -> Encoded | Bad:
        made = drawn if isinstance(drawn, Bad) else self._made(sample, drawn, number, watch)
        if isinstance(made, Bad):
            return made
        content = hashlib.blake2b(digest_size=16)
        for one in made:
            content.update(one.found.text.encode())
        return Encoded(
            tuple([Tokenised(one.ids, one.mask) for one in made]),
            content.digest(),
            sample.group,
            sample.file,
            sample.line,
            any(one.found.open_ended for one in made),
            sample.good if isinstance(sample, Judged) else None,
            tuple(dict.fromkeys([doubt for one in made for doubt in one.found.doubts])),
        )

    def _drawn(self, sample: Sample, number: int, watch: Watch | None) -> list[Learned] | Bad:
        """The texts of a sample, and what is learned of them."""
        if isinstance(sample, Text):
            if not self._tokens.end:
                raise self._no_end(sample)
            text = self._tokens.running(sample.text)
            return [Learned(text, ((0, len(text)),))]
        chats = (sample.chosen, sample.rejected) if isinstance(sample, Pair) else (_chat(sample),)
        found = []
        for chat in chats:
            if watch:
                watch.rendering(number)
            try:
                found.append(self._learned(chat, sample))
            except (RenderError, MaskError) as error:
                return Bad(sample.file, sample.line, "", str(error))
            if len(found[-1].text) > MAX_TEXT:
                reason = f"the chat template makes a text of more than {MAX_TEXT >> 20} Mi characters of it"
                return Bad(sample.file, sample.line, "", reason)
        return found

    def _learned(self, chat: Chat, sample: Sample) -> Learned:
        template = self._template
        if template is None:
            if not chat.raw:
                raise self._no_template()
            if not self._tokens.end:
                raise self._no_end(sample)
            return self._tokens.plain(chat, self._train_on)
        found = learned(template, chat, train_on=self._train_on, options=self._options, special=self._tokens.special)
        if found.open_ended and not self._tokens.end:
            raise self._no_end(sample)
        return found

    def _made(self, sample: Sample, drawn: Sequence[Learned], number: int, watch: Watch | None) -> list[_Made] | Bad:
        """The texts of a sample with their tokens."""
        made = []
        for found in drawn:
            if watch:
                watch.tokenising(number, len(found.text))
            row = self._tokens.encode_one(found.text)
            doubts = list(found.doubts)
            ids, framed = row.ids, False
            try:
                mask = (
                    bytearray(b"\1") * len(ids)
                    if isinstance(sample, Text)
                    else token_mask(found.text, row.offsets, found.spans, special=self._tokens.special, doubts=doubts)
                )
            except MaskError as error:
                return Bad(sample.file, sample.line, "", str(error))
            if isinstance(sample, Text) or self._template is None:
                ids, mask = self._tokens.framed(ids, mask)
                framed = len(ids) > len(row.ids)
            else:
                if JOINED not in doubts and number % _ASKED == 0 and self._is_parted(found, row.ids):
                    doubts.append(PARTED)
                found = replace(found, doubts=tuple(doubts)) if doubts else found
            mask[:1] = b"\0" * len(mask[:1])
            made.append(_Made(found, ids, row.offsets, mask, framed))
        return made

    def _is_parted(self, found: Learned, ids: array[int]) -> bool:
        """Whether the prompt of the first answer has other tokens alone: seen in some of the texts, as templates go."""
        start = found.spans[0][0] if found.spans else 0
        if not start:
            return False
        alone = self._tokens.encode_one(found.text[:start]).ids
        return alone != ids[: len(alone)]

    def _part(self, title: str, made: _Made) -> SeenPart:
        text, offsets = made.found.text, tuple(made.offsets)
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
            hint=f"name one: {on(self._caller, 'data.template=FILE')}",
        )

    def _no_end(self, sample: Sample) -> DataError:
        reason = "nothing ends an answer: the tokenizer has no eos_token, so the model could never learn where to stop"
        bad = Bad(sample.file, sample.line, "", reason)
        return DataError(
            str(bad),
            code="tokenizer.no_end",
            hint=f"set eos_token in {self._model_dir / 'tokenizer_config.json'} to a token of tokenizer.json, "
            f"then {on(self._caller)}",
            data={"bad": [bad.as_dict()], "bad_count": 1},
        )


def _chat(sample: Chat | Judged) -> Chat:
    return sample.chat if isinstance(sample, Judged) else sample
