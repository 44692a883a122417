"""A model's tokenizer without transformers: tokenizer.json through the tokenizers library, one BOS and no more."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamahome_tui.data.masks import Learned
from llamahome_tui.data.samples import Chat
from llamahome_tui.errors import ModelError


@dataclass(frozen=True, slots=True)
class RowTokens:
    """A text's token ids and where in the text each stands."""

    ids: list[int]
    offsets: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokenizer of a model folder. `special` are the texts of its special tokens, `context` 0 where unknown."""

    special: tuple[str, ...]
    named: Mapping[str, str]
    context: int
    digest: str
    version: str
    _tokenizer: Any
    _first: int | None  # the token that stands before plain text, where the model has one

    @classmethod
    def load(cls, model_dir: Path, named: Mapping[str, str]) -> Tokens:
        """Raises ModelError where tokenizer.json is missing or broken."""
        import tokenizers

        path = model_dir / "tokenizer.json"
        if not path.is_file():
            raise ModelError(
                f"{model_dir} has no tokenizer.json",
                code="model.no_tokenizer",
                hint=f"see what is there: llamahome --batch models show {model_dir}",
            )
        raw = path.read_bytes()
        try:
            tokenizer = tokenizers.Tokenizer.from_buffer(raw)
        except Exception as error:  # noqa: BLE001 - the library raises bare Exception and nothing narrower
            raise ModelError(f"{path} is no tokenizer: {str(error)[:200]}", code="model.broken") from None
        tokenizer.no_truncation()
        tokenizer.no_padding()
        added = tokenizer.get_added_tokens_decoder().values()
        special = {token.content for token in added if token.special} | set(named.values())
        framed = tokenizer.encode("", add_special_tokens=True).ids
        first = tokenizer.token_to_id(named.get("bos_token", ""))
        return cls(
            special=tuple(sorted(one for one in special if one)),
            named=named,
            context=_context(model_dir),
            digest=hashlib.sha256(raw).hexdigest(),
            version=f"tokenizers {tokenizers.__version__}",
            _tokenizer=tokenizer,
            _first=first if first is not None and first in framed else None,
        )

    def encode(self, texts: Sequence[str]) -> list[RowTokens]:
        """Tokens of rendered texts; the template wrote the special tokens, so none is added."""
        encoded = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [RowTokens(one.ids, one.offsets) for one in encoded]

    def plain(self, chat: Chat, train_on: str) -> Learned:
        """Prompt, completion and end of text of a row, for a model without a chat template."""
        prompt = "".join(str(message["content"]) for message in chat.prompt)
        text = prompt + chat.answer + self.named.get("eos_token", "")
        start = 0 if train_on == "all" else len(prompt)
        return Learned(text, ((start, len(text)),))

    def framed(self, ids: list[int], mask: bytearray, text: str, *, plain: bool) -> tuple[list[int], bytearray]:
        """`ids` with the token that plain text starts with, where the model has one and it is not there already."""
        if not plain or self._first is None or ids[:1] == [self._first]:
            return ids, mask
        return [self._first, *ids], bytearray(1) + mask


def _context(model_dir: Path) -> int:
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
