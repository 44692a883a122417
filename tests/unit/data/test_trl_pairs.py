"""On every template that trl ships: what is derived from the plain one is what its marked twin says, or is refused.

trl's marks follow no one rule, so both are compared without role headers, generation prompts and white space at their
edges, and with the token that ends a turn. What is refused, and why, stands in the table here and in docs/masks.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.data.masks import BELIEVED, Learned, MaskError, learned, token_mask, wanted_turns
from llamahome_tui.data.samples import Chat
from llamahome_tui.data.template import ChatTemplate, Rendered, RenderError, special_tokens
from llamahome_tui.data.tokens import Tokens
from tests.unit.data import templates, trl_chats

Span = tuple[int, int]
DOCS = Path(__file__).parents[3] / "docs" / "masks.md"
ROLES = "roles"  # the template itself refuses the chat


@dataclass(frozen=True)
class Row:
    """What is known of a template. `differs`: its twin renders some chats to other text, so that marks tell nothing
    of those. `proven`: there are chats on which derived and marked masks were compared."""

    refused: tuple[str, ...] = ()
    differs: bool = False
    open_ended: bool = False
    marks: bool = False
    proven: bool = True
    why: str = ""


_CALLS = "It does not write tool calls."
_ALTERNATE = "Questions and answers must alternate, so that tools cannot reply."
_EARLIER = "Earlier thinking is dropped."
_EMPTY = "An earlier answer has no `<think>` block, and the twin writes one everywhere."
_GENERATED = (
    "Its prompts end in `<think>` or, with `enable_thinking = false`, in `<think></think>`; the other is refused."
)
_ASKS = "Its prompts end in `<think>`, which no finished chat of it holds; the twin marks answers after another prompt."
_OWN = "It has marks of its own, believed where earlier thinking is dropped."
TABLE = {
    "cohere": Row(("left out", "roles"), why=f"{_ALTERNATE} {_CALLS}"),
    "cohere2": Row(
        ("history", "left out", "roles"), differs=True, why=f"{_ALTERNATE} {_CALLS} A later system prompt moves up."
    ),
    "deepseek_r1_distill": Row(
        ("history", "left out", "prompt"), differs=True, proven=False, why=f"{_ASKS} It drops all thinking."
    ),
    "deepseekv3": Row(("history", "prompt"), proven=False, why=_ASKS),
    "diffusion_gemma": Row(
        ("merged", "thinking"), why=f"{_EARLIER} Answers that follow one another are one turn. A call ends in a token "
        "that the twin does not mark, a reply to a tool begins with a header that no prompt has, and the end of turn "
        "after a tool's reply that nobody answers is marked and not learned."
    ),
    "gemma": Row(("left out", "roles"), why=f"It knows no system prompt. {_ALTERNATE} {_CALLS}"),
    "gemma3": Row(("left out", "roles"), why=f"{_ALTERNATE} {_CALLS}"),
    "gemma4": Row(("prompt", "thinking"), why=_EARLIER),
    "gemma4_v2": Row(),
    "gemma4_v3": Row(("prompt", "thinking"), why=_EARLIER),
    "gemma4_v4": Row(("prompt", "thinking"), why=_EARLIER),
    "gemma4_v5": Row(("merged", "thinking"), why=f"{_EARLIER} Answers that follow one another are one turn."),
    "glm4moe": Row(
        ("prompt", "thinking"), differs=True, open_ended=True,
        why=f"{_EARLIER} It ends an answer with nothing, which is warned of; the twin marks the next role's token.",
    ),
    "gptoss": Row(
        ("thinking",), why=f"{_EARLIER} Its marks hold the role's header. Earlier answers end in `<|end|>`, the last "
        "in `<|return|>`; both are learned, as in the twin."
    ),
    "idefics3": Row(("left out",), why=_CALLS),
    "lfm2": Row(("left out",), why=_CALLS),
    "lfm2_2_5": Row(marks=True, why=_OWN),
    "lfm2_2_5_v2": Row(marks=True, why=_OWN),
    "lfm2_2_5_vl": Row(marks=True, why=_OWN),
    "lfm2_v2": Row(),
    "llama3": Row(("left out",), why=_CALLS),
    "llama3_1": Row(),
    "llama3_2": Row(),
    "llava_next": Row(("left out",), why=_CALLS),
    "muse_glimmer": Row(
        ("history",),
        why="Its marks hold the role's header. It writes a system prompt of its own unless one comes, early or late.",
    ),
    "nemotron_3_5_lightning": Row(("prompt", "thinking"), why=f"{_EARLIER} {_GENERATED}"),
    "nemotron_3_nano": Row(("prompt", "thinking"), why=f"{_EARLIER} {_GENERATED}"),
    "nemotron_3_super": Row(("prompt", "thinking"), why=f"{_EARLIER} {_GENERATED}"),
    "nemotron_3_ultra": Row(("prompt", "thinking"), why=f"{_EARLIER} {_GENERATED}"),
    "phi3": Row(("left out",), why=_CALLS),
    "phi3_5": Row(("left out",), why=_CALLS),
    "qwen2_5": Row(),
    "qwen2_5_vl": Row(("left out",), why=_CALLS),
    "qwen3": Row(("prompt", "thinking"), differs=True, why=f"{_EARLIER} {_EMPTY}"),
    "qwen3_5_nothink": Row(("prompt", "roles"), differs=True, why=f"{_EARLIER} {_EMPTY}"),
    "qwen3_5_think": Row(("prompt", "roles"), differs=True, why=f"{_EARLIER} {_EMPTY}"),
    "qwen3_6": Row(
        ("prompt", "roles"), differs=True, why=f"{_EARLIER} {_EMPTY} With `preserve_thinking = true` all are equal."
    ),
    "qwen3_8": Row(("prompt", "roles"), why="Thinking with `enable_thinking = false` is not what its prompts ask for."),
    "qwen3_instruct_2507": Row(),
    "qwen3_vl": Row(),
    "smolvlm": Row(("left out",), why=_CALLS),
}  # fmt: skip


def documented() -> str:
    """The table as docs/masks.md has it."""
    lines = ["| template | marked twin | refused | remarks |", "| --- | --- | --- | --- |"]
    for name, row in TABLE.items():
        if name not in trl_chats.pairs():
            twin = "none"
        elif not row.proven:
            twin = "differs" if row.differs else "not comparable"
        else:
            twin = "equal where the text is the same" if row.differs else "equal"
        lines.append(f"| `{name}` | {twin} | {', '.join(row.refused) or 'nothing'} | {row.why} |")
    return "\n".join(lines) + "\n"


def test_the_documented_table_is_this_one() -> None:
    assert documented() in DOCS.read_text(encoding="utf-8")


@dataclass(frozen=True)
class Outcome:
    """What becomes of one chat: `refused` is the kind of refusal or "". `same`: the twin renders the same text."""

    chat: str
    options: Mapping[str, Any]
    refused: str
    same: bool | None
    found: Learned | None
    twin: Rendered | None
    error: str = ""


@cache
def outcomes(name: str) -> list[Outcome]:
    plain, special = trl_chats.template(name), trl_chats.special(name)
    marked = trl_chats.template(name + trl_chats.MARKED) if name in trl_chats.pairs() else None
    found = []
    for options, title, chat in trl_chats.trials(name):
        whole, twin = _rendered(plain, chat, options), _rendered(marked, chat, options) if marked else None
        same = (whole and whole.text) == (twin and twin.text) if marked else None
        try:
            one = learned(plain, chat, train_on="assistant", options=options, special=special)
            found.append(Outcome(title, options, "", same, one, twin))
        except RenderError as error:
            found.append(Outcome(title, options, ROLES, same, None, twin, str(error)))
        except MaskError as error:
            found.append(Outcome(title, options, error.why, same, None, twin, str(error)))
    return found


def _rendered(template: ChatTemplate, chat: Chat, options: Mapping[str, Any]) -> Rendered | None:
    try:
        return template.rendered(chat.messages, tools=chat.tools, **options)
    except RenderError:
        return None


@cache
def header(name: str, options: tuple[tuple[str, Any], ...]) -> str:
    """The role header and generation prompt of a template: what asking for an answer adds to a question."""
    asked = [trl_chats.user("q")]
    template = trl_chats.template(name)
    before, after = (template.render(asked, add_generation_prompt=prompt, **dict(options)) for prompt in (False, True))
    shared = next((at for at, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(before))
    return after[shared:]


def trimmed(text: str, spans: list[Span] | tuple[Span, ...], head: str) -> list[Span]:
    """Spans without the header they begin with and without white space at their edges; those that touch are one."""
    found: list[Span] = []
    for start, end in spans:
        if not text[:start].endswith(head):
            start += next((at for at in range(1, len(head) + 1) if text[: start + at].endswith(head)), 0)
        start += len(text[start:end]) - len(text[start:end].lstrip())
        end -= len(text[start:end]) - len(text[start:end].rstrip())
        if start >= end:
            continue
        if found and not text[found[-1][1] : start].strip():
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def ended(text: str, ours: list[Span], theirs: list[Span], special: tuple[str, ...]) -> list[Span]:
    """Marks with the one token that ends a turn where trl leaves it out (after a tool call)."""
    ends = [
        (start, one[1] if one[0] == start and text[end : one[1]] in special else end)
        for (start, end), one in zip(theirs, ours, strict=False)
    ]
    return ends + theirs[len(ends) :]


def without_next_role(text: str, spans: list[Span], special: tuple[str, ...]) -> list[Span]:
    """GLM-4-MoE's marks without the next role's token that each ends with."""
    return [
        (start, end - max((len(token) for token in special if text[start:end].endswith(token)), default=0))
        for start, end in spans
    ]


@pytest.mark.parametrize("name", trl_chats.pairs())
def test_derived_masks_equal_the_marks(name: str) -> None:
    special = trl_chats.special(name)
    compared = 0
    for one in outcomes(name):
        if not one.same or one.found is None or one.twin is None:
            continue
        assert one.found.doubts != (BELIEVED,)
        if (name, one.chat) == ("diffusion_gemma", "a tool's reply that nobody answers"):
            continue
        head = header(name, tuple(one.options.items()))
        ours = trimmed(one.found.text, one.found.spans, head)
        theirs = trimmed(one.found.text, one.twin.marked, head)
        if name == "glm4moe":
            theirs = without_next_role(one.found.text, theirs, special)
        if not trl_chats.chats()[one.chat].messages[0].get("train", True):
            theirs = theirs[1:]  # marks know nothing of answers that are left out
        theirs = ended(one.found.text, ours, theirs, special)
        assert [one.found.text[slice(*span)] for span in ours] == [one.found.text[slice(*span)] for span in theirs], one
        assert ours == theirs
        compared += 1
    assert bool(compared) == TABLE[name].proven


@pytest.mark.parametrize("name", trl_chats.pairs())
def test_a_marked_twin_gives_its_marks(name: str) -> None:
    """As `data.template` it decides what is learned, also where its prompts end in something that it lacks later."""
    twin, special = trl_chats.template(name + trl_chats.MARKED), trl_chats.special(name)
    for title in ("plain 3", "plain 3, system", "thinking 3", "tools 2", "answer imitates 3", "user imitates 1"):
        chat = trl_chats.chats()[title]
        rendered = _rendered(twin, chat, {})
        if rendered is None or (chat.tools and not twin.knows_tools):
            continue
        if chat.tools and name.startswith("deepseek"):
            continue  # its prompts end in another way after a tool's reply
        found = learned(twin, chat, train_on="assistant", options={}, special=special)
        whole = header(name + trl_chats.MARKED, ())
        for head in (whole, whole.partition("<think>")[0]):
            ours, theirs = (trimmed(found.text, spans, head) for spans in (found.spans, rendered.marked))
            if ours == ended(found.text, ours, theirs, special):
                break
        else:
            raise AssertionError((title, found.spans, rendered.marked))


@pytest.mark.parametrize("name", trl_chats.names())
def test_what_is_derived_is_what_the_model_writes(name: str) -> None:
    """Told without the code under test: prompts are rendered again, and every answer has words of its own."""
    template, special = trl_chats.template(name), trl_chats.special(name)
    for one in outcomes(name):
        if one.found is None or BELIEVED in one.found.doubts:
            continue
        chat = trl_chats.chats()[one.chat]
        turns = wanted_turns(chat, "assistant")
        text = one.found.text
        assert len(one.found.spans) == len(turns)
        for turn, (start, end) in zip(turns, one.found.spans, strict=True):
            prompt = template.render(chat.messages[:turn], tools=chat.tools, add_generation_prompt=True, **one.options)
            assert text[:start] == prompt, (one.chat, turn)
            answer = str(chat.messages[turn]["content"]).rpartition("</think>")[2].strip()
            assert answer in text[start:end], (one.chat, turn)
            assert one.found.open_ended or text[start:end].endswith(special), (one.chat, turn)
            for other, message in enumerate(chat.messages):
                words = str(message["content"]).strip()
                if other != turn and words and words not in answer and len(words) > 4:
                    assert words not in text[start:end], (one.chat, turn, other)


@pytest.mark.parametrize("name", trl_chats.names())
def test_what_is_known_without_rendering_is_what_rendering_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamahome_tui.data.template.TRIES", 0)
    one = trl_chats.template(name)
    unfollowed, special = ChatTemplate(one.text, one.special, now=trl_chats.NOW), trl_chats.special(name)
    for known in outcomes(name):
        if known.found is None or not known.chat.endswith((" 3", " 3, system", "first", "questions", "answers", "end")):
            continue
        chat = trl_chats.chats()[known.chat]
        assert learned(unfollowed, chat, train_on="assistant", options=known.options, special=special) == known.found


@pytest.mark.parametrize("name", trl_chats.names())
def test_refusals_stand_in_the_table(name: str) -> None:
    found = outcomes(name)
    row = TABLE[name]
    assert list(row.refused) == sorted({one.refused for one in found if one.refused})
    assert row.open_ended == any(one.found.open_ended for one in found if one.found)
    assert row.marks == any(BELIEVED in one.found.doubts for one in found if one.found)
    if name in trl_chats.pairs():
        assert row.differs == any(one.same is False for one in found)
    for one in found:
        if one.refused not in ("", ROLES):
            assert "ways out: " in one.error, one


def test_the_table_is_all_that_is_installed() -> None:
    assert sorted(TABLE) == trl_chats.names()
    assert len(trl_chats.pairs()) >= 31


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    made = templates.write_tokenizer(tmp_path_factory.mktemp("trl") / "m", "bytes", tokens=trl_chats.TOKENS)
    return Tokens.load(made, special_tokens(made))


@pytest.mark.parametrize("name", trl_chats.names())
def test_tokens_of_prompts_are_those_inference_sends(name: str, tokens: Tokens) -> None:
    wanted = ("plain 3", "tools 2", "thinking in the last 3", "answer imitates 1", "thinking 1")
    for one in outcomes(name):
        if one.found is None or one.chat not in wanted:
            continue
        row = tokens.encode_one(one.found.text)
        doubts: list[str] = []
        mask = token_mask(one.found.text, row.offsets, one.found.spans, doubts=doubts)
        assert not doubts
        for start, end in one.found.spans:
            prompt = tokens.encode_one(one.found.text[:start]).ids
            answer = tokens.encode_one(one.found.text[start:end]).ids
            first = len(prompt)
            assert row.ids[:first] == prompt
            assert row.ids[first : first + len(answer)] == answer
            assert mask[first : first + len(answer)] == b"\1" * len(answer)
            assert not mask[first + len(answer) : first + len(answer) + 1].count(1)
