"""One row in a line: its place, the first words of question and answer, and why it cannot be used where it cannot."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llamahome_tui.data.check import sample_of
from llamahome_tui.data.formats import unknown_format
from llamahome_tui.data.rows import Bad, Row
from llamahome_tui.data.samples import Chat, Judged, Sample, Text, chats_of
from llamahome_tui.training.shape import Data

_SHOWN = 400  # characters of a text that one line could ever show
_PIECES = re.compile(r'"([^"]*)"|(\S+)')


@dataclass(frozen=True, slots=True)
class RowLine:
    """A row of the browser. `number` counts from 0 over all files; `fault` is "" for a row that can be used."""

    number: int
    file: str
    line: int
    format: str
    prompt: str = ""
    answer: str = ""
    fault: str = ""
    sample: Sample | None = field(default=None, compare=False, repr=False)
    value: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    @property
    def place(self) -> str:
        """`train.jsonl:17`; the folder is left out."""
        return f"{Path(self.file).name}:{self.line}" if self.line else Path(self.file).name


def line_of(read: Row | Bad, number: int, format: str, data: Data) -> RowLine:
    """The line of a row that was read as `format`; "" where the format of its file is not known.

    What is bad here is what `data validate` calls bad, for the same reason.
    """
    if isinstance(read, Bad):
        return RowLine(number, read.file, read.line, format, fault=fault_of(read))
    if not format:
        return RowLine(number, read.file, read.line, "", fault=unknown_format([read]), value=read.value)
    sample = sample_of(read, format, data.columns, data.group, strict=data.format == "auto")
    if isinstance(sample, Bad):
        return RowLine(number, read.file, read.line, format, fault=fault_of(sample), value=read.value)
    prompt, answer = words_of(sample)
    return RowLine(number, read.file, read.line, format, prompt, answer, sample=sample, value=read.value)


def fault_of(bad: Bad) -> str:
    """What is wrong with a row, without its place, which stands beside it."""
    return f"{bad.field}: {bad.reason}" if bad.field else bad.reason


def words_of(sample: Sample) -> tuple[str, str]:
    """The beginnings of what is asked and of what is answered; of running text only the first."""
    if isinstance(sample, Text):
        return sample.text[:_SHOWN], ""
    chat = chats_of(sample)[0]
    answer = _answer(chat)
    if isinstance(sample, Judged):
        answer = ("good: " if sample.good else "not good: ") + answer
    return _asked(chat), answer


def roles_of(sample: Sample) -> str:
    """`system, user, assistant x2`: who speaks, in the order of the first time."""
    chats = chats_of(sample)
    if not chats:
        return "text"
    counts: dict[str, int] = {}
    for message in chats[0].messages:
        role = str(message.get("role"))
        counts[role] = counts.get(role, 0) + 1
    tools = [f"{len(chats[0].tools)} tools"] if chats[0].tools else []
    return ", ".join([role if count == 1 else f"{role} x{count}" for role, count in counts.items()] + tools)


def _asked(chat: Chat) -> str:
    for message in reversed(chat.prompt):
        if message.get("role") == "user":
            return str(message.get("content") or "")[:_SHOWN]
    return str(chat.prompt[-1].get("content") or "")[:_SHOWN] if chat.prompt else ""


def _answer(chat: Chat) -> str:
    if chat.answer.strip():
        return chat.answer[:_SHOWN]
    calls = chat.messages[len(chat.prompt)].get("tool_calls") or ()
    names = [str(call.get("function", {}).get("name", "")) for call in calls if isinstance(call, Mapping)]
    return f"calls {', '.join(names)}" if names else ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A filter: all of its words must be in a row. `bad`, `file:x` and `format:x` look at what the row is; a text in
    quotes is looked for as it stands."""

    bad: bool = False
    files: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()

    @classmethod
    def of(cls, typed: str) -> Wanted:
        """The filter that was typed."""
        texts: list[str] = []
        found: dict[str, list[str]] = {"file": [], "format": []}
        bad = False
        for quoted, word in _PIECES.findall(typed.lower()):
            name, colon, value = word.partition(":")
            if word == "bad":
                bad = True
            elif colon and name in found:
                found[name] += [value] if value else []
            elif quoted or word:
                texts.append(quoted or word)
        return cls(bad, tuple(found["file"]), tuple(found["format"]), tuple(texts))

    @property
    def everything(self) -> bool:
        """Whether it lets every row pass."""
        return self == Wanted()

    def may_match(self, row: Row | Bad) -> bool:
        """Whether the row might pass, as far as its texts alone tell; one that has yet to be found bad always may."""
        if not self.texts or self.bad or isinstance(row, Bad):
            return True
        text = "\n".join(texts_in(row.value)).lower()
        return all(part in text for part in self.texts)

    def matches(self, line: RowLine) -> bool:
        """Whether the row passes."""
        if self.bad and not line.fault:
            return False
        if any(part not in line.file.lower() for part in self.files):
            return False
        if any(not line.format.startswith(part) for part in self.formats):
            return False
        if not self.texts:
            return True
        text = "\n".join([*texts_in(line.value), line.fault]).lower()
        return all(part in text for part in self.texts)


def texts_in(value: object) -> Iterator[str]:
    """Every text and number in a row, however deep, and its columns' names."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, one in value.items():
            yield str(name)
            yield from texts_in(one)
    elif isinstance(value, Sequence):
        for one in value:
            yield from texts_in(one)
    elif value is not None:
        yield str(value)
