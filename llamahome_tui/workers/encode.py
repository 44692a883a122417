"""Chats to token ids and back, for the generating child: the model's tokenizer and its chat template, within limits.

Needs no torch, so that a prompt that cannot work is refused before anything heavy is loaded.
"""

from __future__ import annotations

import contextlib
import math
import resource
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llamahome_tui.data.template import ChatTemplate, RenderError, special_tokens
from llamahome_tui.errors import DataError, ModelError
from llamahome_tui.models.folder import read_json
from llamahome_tui.workers.request import Chat, GenerateRequest

CPU_S = 10  # for rendering all chats of a request; honest templates render a thousand in one
MEMORY_BYTES = 1 << 30  # beyond what the process has when it begins to render
_CHAT_HINT = "leave --system out, or use another model: llamahome --batch models list"


class Encoder:
    """One model's way of reading and writing text. Raises ModelError for a tokenizer or template that does not load."""

    def __init__(self, request: GenerateRequest) -> None:
        from tokenizers import Tokenizer

        folder = Path(request.path)
        self._options = dict(request.template_options)
        self._template = ChatTemplate.load(folder, request.template)
        self._tokenizer: Any = _tokenizer(Tokenizer, folder / "tokenizer.json")
        self._eos = special_tokens(folder).get("eos_token", "")
        self.context = _context(folder)

    def encode(self, chats: Sequence[Chat]) -> list[list[int]]:
        """Token ids of each chat up to where the reply begins; plain text for a model without a chat template.

        Raises DataError, with the chat's `index`, for one that the template refuses or that leaves no room for a reply.
        """
        with _limited():
            texts = [self._text(index, chat) for index, chat in enumerate(chats)]
        found = []
        for index, text in enumerate(texts):
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=self._template is None).ids
            if not ids:
                raise DataError("the prompt is empty", code="generate.empty", data={"index": index})
            if self.context is not None and len(ids) >= self.context:
                raise DataError(
                    f"the prompt has {len(ids)} tokens and the model reads at most {self.context}",
                    code="generate.too_long",
                    hint="shorten it; the limit of a model: llamahome --batch models show ID",
                    data={"tokens": len(ids), "context": self.context, "index": index},
                )
            found.append(ids)
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without special tokens."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def turn_ends(self) -> set[int]:
        """Tokens that end a reply: the tokenizer's, and the special one that the template puts after a reply."""
        ends = {self._tokenizer.token_to_id(self._eos)} - {None}
        if self._template is None:
            return ends
        chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "llamahome"}]
        try:
            with _limited():
                tail = self._template.render(chat, **self._options).rpartition("llamahome")[2]
        except RenderError:
            return ends
        special = {i for i, token in self._tokenizer.get_added_tokens_decoder().items() if token.special}
        return ends | (set(self._tokenizer.encode(tail.lstrip(), add_special_tokens=False).ids[:1]) & special)

    def _text(self, index: int, chat: Chat) -> str:
        if self._template is None:
            return "\n\n".join(message["content"] for message in chat)
        try:
            return self._template.render(chat, add_generation_prompt=True, **self._options)
        except RenderError as error:
            raise DataError(
                f"the model's chat template refuses this chat: {error}",
                code="template.refused",
                hint=_CHAT_HINT,
                data={"index": index},
            ) from None


class _OutOfTimeError(BaseException):
    """Raised in the middle of a template's loop; no `except` in between may hold it up."""


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Bound the processor time and the memory of what runs inside: the sandbox stops code, but no endless loop."""

    def out_of_time(*_: object) -> None:
        raise _OutOfTimeError

    spent = resource.getrusage(resource.RUSAGE_SELF)
    earlier = signal.signal(signal.SIGXCPU, out_of_time)
    limits = (
        (resource.RLIMIT_CPU, math.ceil(spent.ru_utime + spent.ru_stime) + CPU_S),
        (resource.RLIMIT_AS, _mapped() + MEMORY_BYTES),
    )
    before = [(which, resource.getrlimit(which)) for which, _ in limits]
    try:
        for which, most in limits:
            hard = resource.getrlimit(which)[1]
            resource.setrlimit(which, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
        yield
    except _OutOfTimeError:
        raise _unbounded(f"is not done within {CPU_S} s") from None
    except MemoryError:
        raise _unbounded(f"wants more than {MEMORY_BYTES >> 20} MiB of memory") from None
    finally:
        for which, both in before:
            resource.setrlimit(which, both)
        signal.signal(signal.SIGXCPU, earlier)


def _mapped() -> int:
    """Bytes of address space that this process has now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def _unbounded(how: str) -> DataError:
    return DataError(
        f"the model's chat template {how}, so it is broken or hostile", code="template.unbounded", hint=_CHAT_HINT
    )


def _tokenizer(kind: Any, file: Path) -> Any:
    try:
        tokenizer = kind.from_file(str(file))
    except Exception as error:  # noqa: BLE001 - the library raises bare Exception for a file it cannot read
        raise ModelError(
            f"{file} is no tokenizer: {str(error)[:300]}",
            code="model.broken",
            hint="what is here: llamahome --batch models list",
            data={"file": str(file)},
        ) from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _context(folder: Path) -> int | None:
    config = read_json(folder / "config.json")
    inner = config.get("text_config")
    for table in (inner if isinstance(inner, dict) else {}, config):
        value = table.get("max_position_embeddings")
        if isinstance(value, int) and value > 0:
            return value
    return None
