"""Which tokens of a chat are learned: exactly what the model would write, end of turn included; in doubt, refused.

docs/masks.md tells how, what is checked, and what is refused.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from llamahome_tui.data import marks
from llamahome_tui.data.answers import Answer, MaskError, Script
from llamahome_tui.data.samples import Chat
from llamahome_tui.data.template import ChatTemplate, RenderError
from llamahome_tui.data.ways import MARKS, OTHER, ways_out
from llamahome_tui.data.words import Spans

__all__ = ["Learned", "MaskError", "RenderError", "learned", "token_mask", "wanted_turns"]

BELIEVED = "the chat template's own marks are believed where its finished chats are not what a model is asked to go on"

JOINED = "white space at an answer's start shares a token with its prompt's end: a model is asked with another token"

PARTED = "a prompt's last tokens are others once its answer follows: a model is asked with those of the prompt alone"

MOST_TRIED = 200  # refused chats of one template whose ways out are tried


@dataclass(frozen=True, slots=True)
class Learned:
    """A chat's text and the spans [start, end) of it that are learned, in order.

    `open_ended`: the last answer has no token that ends it, so that a model may not learn where to stop. `doubts`:
    what a person should be told of this chat, though it can be used.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    open_ended: bool = False
    doubts: tuple[str, ...] = ()


def learned(
    template: ChatTemplate, chat: Chat, *, train_on: str, options: Mapping[str, Any], special: Sequence[str]
) -> Learned:
    """Render a chat and find what is learned of it. `special` are the tokens that can end a turn.

    Raises RenderError where the template refuses the messages, MaskError where a span cannot be told exactly.
    """
    ending = special if isinstance(special, tuple) else tuple(special)
    if not template.knows_tools and any(message.get("tool_calls") for message in chat.messages):
        raise MaskError("it calls tools, and the chat template leaves tool calls out", (OTHER,), "left out")
    try:
        script = Script(template, chat, options, ending)
    except RenderError as error:
        raise RenderError(f"the chat template refuses the chat: {error}") from None
    _refuse_second_bos(script.text, template.special.get("bos_token", ""))
    turns = wanted_turns(chat, train_on)
    try:
        script.refuse_lost_calls()
        if train_on == "all":
            return Learned(script.text, ((0, len(script.text)),))
        answers = [script.answer(turn) for turn in turns]
        spans = [part for answer in answers for part in marks.within(script, answer, ending)]
        doubts = script.doubts
    except MaskError as refused:
        believed = None if refused.why == "left out" else marks.believed(script, template, options, turns, ending)
        if believed is None:
            refusals = template.known["refusals"] = template.known.get("refusals", 0) + 1
            # Trying ways takes many renderings, and nobody reads those of the thousandth row.
            ways = ways_out(template, chat, turns, options, ending, refused) if refusals <= MOST_TRIED else ()
            raise MaskError(refused.reason, ways, refused.why) from None
        answers, doubts = believed, [BELIEVED]
        spans = [(answer.start, answer.end) for answer in answers]
    return Learned(script.text, _in_order(spans), _is_open(answers, spans), tuple(dict.fromkeys(doubts)))


def wanted_turns(chat: Chat, train_on: str) -> list[int]:
    """Indices of the assistant messages that are learned; a row may take single ones out (`weight` 0)."""
    turns = [at for at, message in enumerate(chat.messages) if message["role"] == "assistant"]
    if train_on == "last":
        turns = turns[-1:]
    elif train_on == "completion":
        asked = max((at for at, message in enumerate(chat.messages) if message["role"] == "user"), default=-1)
        turns = [turn for turn in turns if turn > asked]
    return [turn for turn in turns if chat.messages[turn].get("train", True)]


def token_mask(
    text: str,
    offsets: Sequence[tuple[int, int]],
    spans: Sequence[tuple[int, int]],
    *,
    special: tuple[str, ...] = (),
    doubts: list[str] | None = None,
) -> bytearray:
    """1 for each token inside a span. `offsets` are the tokens' character spans in `text`, in order.

    A token may reach over a span's edge by white space only (" Hi" after "assistant: "); anything else raises
    MaskError, as part of the token would be learned that the model never writes. A prompt's last `special` token may
    swallow white space of the answer, which no token says then. `doubts` is told of a prompt whose last token is
    another one when a model is asked, because white space of the answer joins it.
    """
    mask = bytearray(len(offsets))
    if isinstance(offsets, Spans):
        ends = offsets.ends
    elif (ends := [end for _, end in offsets]) != sorted(ends):
        raise MaskError("the tokenizer moves text around, so that tokens cannot be told apart")
    for start, end in spans:
        first, last = bisect_right(ends, start), bisect_right(ends, end)
        if first < len(offsets) and offsets[first][0] < start:
            asked = text[offsets[first][0] : start].strip()
            if asked and (asked not in special or text[start : ends[first]].strip()):
                raise MaskError("a token holds the end of the prompt and the start of the answer")
            if asked:
                first += 1
            elif doubts is not None and JOINED not in doubts:
                doubts.append(JOINED)
        if last < len(offsets) and offsets[last][0] < end:
            if text[end : ends[last]].strip():
                raise MaskError("a token holds the end of the answer and the start of what follows")
            last += 1
        mask[first:last] = b"\1" * (last - first)
    return mask


def _refuse_second_bos(text: str, bos: str) -> None:
    """The tokenizer adds none to a rendered chat, so two of them are the template's."""
    if bos and text.startswith(bos + bos):
        raise MaskError(f"the chat template begins the text with {bos} twice", (MARKS,), "bos")


def _in_order(spans: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    for before, after in pairwise(spans):
        if after[0] < before[1]:
            raise MaskError("the answers of the chat overlap", (MARKS,), "merged")
    return tuple(spans)


def _is_open(answers: Sequence[Answer], spans: Sequence[tuple[int, int]]) -> bool:
    """Whether the last span holds no end of turn."""
    return bool(spans) and not (answers[-1].ended and spans[-1][1] == answers[-1].end)
