"""A model's tokenizer without transformers: tokenizer.json through the tokenizers library, one BOS and no more."""

from __future__ import annotations

import hashlib
import json
import shlex
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamahome_tui.data.masks import Learned
from llamahome_tui.data.samples import Chat
from llamahome_tui.data.words import Words
from llamahome_tui.errors import ModelError


@dataclass(frozen=True, slots=True)
class RowTokens:
    """A text's token ids and where in the text each stands."""

    ids: array[int]
    offsets: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokenizer of a model folder. `special` are the texts of its special tokens, `special_ids` their numbers.

    `first` is the text of the token that stands before plain text, and `end` of the one that ends it; "" where the
    model has none.
    """

    special: tuple[str, ...]
    special_ids: frozenset[int]
    named: Mapping[str, str]
    first: str
    end: str
    _tokenizer: Any
    _first_id: int | None
    _words: Words | None

    @classmethod
    def load(cls, model_dir: Path, named: Mapping[str, str]) -> Tokens:
        """Raises ModelError where tokenizer.json is missing or broken."""
        import tokenizers

        path = tokenizer_file(model_dir)
        try:
            tokenizer = tokenizers.Tokenizer.from_buffer(path.read_bytes())
        except Exception as error:  # noqa: BLE001 - the library raises bare Exception and nothing narrower
            raise ModelError(
                f"{path} is no tokenizer: {str(error)[:200]}", code="model.broken", hint=_look_at(model_dir)
            ) from None
        tokenizer.no_truncation()
        tokenizer.no_padding()
        added = tokenizer.get_added_tokens_decoder()
        special = {token.content for token in added.values() if token.special} | set(named.values())
        framed = tokenizer.encode("", add_special_tokens=True).ids
        first = tokenizer.token_to_id(named.get("bos_token", ""))
        starts = first is not None and first in framed
        end = named.get("eos_token", "")
        # It would add special tokens, which nobody asks for here, and take white space out of the tokens' spans.
        tokenizer.post_processor = None
        return cls(
            special=tuple(sorted(one for one in special if one)),
            special_ids=frozenset(number for number, token in added.items() if token.special),
            named=named,
            first=named["bos_token"] if starts else "",
            end=end if tokenizer.token_to_id(end) is not None else "",
            _tokenizer=tokenizer,
            _first_id=first if starts else None,
            _words=Words.of(tokenizer),
        )

    def encode(self, texts: Sequence[str]) -> list[RowTokens]:
        """Tokens of rendered texts; the template wrote the special tokens, so none is added."""
        encoded = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [RowTokens(array("i", one.ids), one.offsets) for one in encoded]

    def encode_one(self, text: str) -> RowTokens:
        """As `encode`, for one text, and faster where its words are known."""
        if self._words is not None and text.isascii() and (found := self._words.encode(text)):
            return RowTokens(*found)
        return self.encode([text])[0]

    def plain(self, chat: Chat, train_on: str) -> Learned:
        """Prompt, completion and end of text of a row, for a model without a chat template."""
        prompt = "".join(str(message["content"]) for message in chat.prompt)
        text = prompt + chat.answer + self.end
        start = 0 if train_on == "all" else len(prompt)
        return Learned(text, ((start, len(text)),))

    def running(self, text: str) -> str:
        """Running text with the token that ends it, once."""
        return text if self.end and text.endswith(self.end) else text + self.end

    def framed(self, ids: array[int], mask: bytearray) -> tuple[array[int], bytearray]:
        """Plain text's `ids` with the token that it starts with, where the model has one and it is not there yet."""
        if self._first_id is None or (ids and ids[0] == self._first_id):
            return ids, mask
        return array("i", [self._first_id]) + ids, bytearray(1) + mask


def tokenizer_file(model_dir: Path) -> Path:
    """Where the tokenizer lies. Raises ModelError where it does not."""
    path = model_dir / "tokenizer.json"
    if not path.is_file():
        raise ModelError(
            f"{model_dir} has no tokenizer.json",
            code="model.no_tokenizer",
            hint=_look_at(model_dir),
        )
    return path


def _look_at(model_dir: Path) -> str:
    return f"see what is there: llamahome --batch models show {shlex.quote(str(model_dir))}"


def tokenizer_digest(model_dir: Path) -> str:
    """The hash of the tokenizer's file. Raises ModelError where there is none."""
    with tokenizer_file(model_dir).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def context_of(model_dir: Path) -> int:
    """The longest text the model was made for, in tokens, as config.json tells it; 0 where it does not."""
    try:
        config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return 0
    if not isinstance(config, dict):
        return 0
    inner = config.get("text_config")
    for values in (config, inner if isinstance(inner, dict) else {}):
        for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
            if isinstance(values.get(name), int) and values[name] > 0:
                return int(values[name])
    return 0
