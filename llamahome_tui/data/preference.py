"""Rows that judge answers: pairs of a better and a worse one in their usual shapes, and single answers with a label."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from llamahome_tui.data.chat_formats import Origin, Talk, alpaca, completion, instructed, listed, prompted, untrained
from llamahome_tui.data.fields import RowError, list_of, text_of, yes_or_no
from llamahome_tui.data.samples import Judged, Pair
from llamahome_tui.data.turns import LISTS, Turn, said, turn_of, turns_in

_ASKING = ("system", "developer", "user")


def pair(value: Mapping[str, Any], origin: Origin) -> Pair:
    """The two answers of a row and the prompt they share.

    The prompt stands in `prompt`, in a list of messages, in `instruction`, or is what both answers begin with.
    """
    chosen, rejected = _answer(value, "chosen"), _answer(value, "rejected")
    asked, plain, asked_at = _asked(value)
    if any(turns[0].role in _ASKING for turns in (chosen, rejected)):
        shared = _shared(chosen, rejected)
        if asked and not _same_prompt(asked, shared):
            raise RowError(asked_at, "is not what chosen and rejected begin with")
        asked, chosen, rejected = chosen[: len(shared)], chosen[len(shared) :], rejected[len(shared) :]
    elif not asked:
        raise RowError("prompt", "is missing, and chosen and rejected do not begin with one")
    for turns in (chosen, rejected):
        if turns[0].role != "assistant":
            raise RowError(turns[0].role_at, f"is {turns[0].role}, and an answer begins with the assistant")
    if [turn.message for turn in chosen] == [turn.message for turn in rejected]:
        raise RowError("rejected", "says the same as chosen, so there is nothing to prefer")
    untrained(asked)
    plain = plain and isinstance(value["chosen"], str) and isinstance(value["rejected"], str)
    better = Talk([*asked, *chosen], "chosen", plain).chat(value, origin)
    worse = Talk([*asked, *rejected], "rejected", plain).chat(value, origin)
    return Pair(better, worse, origin.file, origin.line, origin.group)


def judged(value: Mapping[str, Any], origin: Origin) -> Judged:
    """An answer, in any of the forms of a conversation, with `label` (or `kto_tag`) true or false."""
    name = "label" if value.get("label") is not None else "kto_tag"
    if value.get(name) is None:
        raise RowError("label", "is missing")
    good = yes_or_no(value[name], name)
    if any(value.get(one) is not None for one in LISTS):
        talk = listed(value)
    elif "instruction" in value:
        talk = alpaca(value)
    else:
        talk = completion(value)
    last = max((at for at, turn in enumerate(talk.turns) if turn.role == "user"), default=-1)
    if not any(turn.role == "assistant" for turn in talk.turns[last + 1 :]):
        raise RowError(talk.field, "has no answer after its last question, so there is nothing to judge")
    untrained(talk.turns[: last + 1])
    return Judged(talk.chat(value, origin), good, origin.file, origin.line, origin.group)


def _answer(value: Mapping[str, Any], field: str) -> list[Turn]:
    found = value.get(field)
    if isinstance(found, dict):
        return [turn_of(found, field)]
    if isinstance(found, list):
        return turns_in(list_of(value, field), field)
    return [said("assistant", text_of(value, field), field)]


def _asked(value: Mapping[str, Any]) -> tuple[list[Turn], bool, str]:
    """The prompt's messages if the row names any, whether they are plain text, and where they stand."""
    if any(value.get(name) is not None for name in LISTS):
        talk = listed(value)
        return talk.turns, False, talk.field
    if value.get("prompt") is not None:
        return (*prompted(value), "prompt")
    if value.get("instruction") is not None:
        return instructed(value), False, "instruction"
    return [], False, "prompt"


def _shared(chosen: list[Turn], rejected: list[Turn]) -> list[Turn]:
    """What two whole conversations begin with; each keeps at least one message of its own."""
    both = list(takewhile(lambda two: two[0].message == two[1].message, zip(chosen, rejected, strict=False)))
    if len(both) == len(chosen) == len(rejected):
        raise RowError("rejected", "says the same as chosen, so there is nothing to prefer")
    if len(both) in (len(chosen), len(rejected)):
        raise RowError("rejected", "goes on where chosen ends, or the other way round: a pair answers one prompt")
    if chosen[len(both)].role != "assistant" or rejected[len(both)].role != "assistant":
        raise RowError(rejected[len(both)].text_at, "differs from chosen before the answer: a pair answers one prompt")
    return chosen[: len(both)]


def _same_prompt(asked: list[Turn], shared: list[Turn]) -> bool:
    """Whether a prompt is what the answers begin with: all of it, or its last question as a text."""
    one, other = ([(turn.role, turn.message.get("content")) for turn in turns] for turns in (asked, shared))
    return bool(one) and one == other[-len(one) :]
