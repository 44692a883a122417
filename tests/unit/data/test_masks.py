"""Masks hold exactly what the model writes, end of turn included, for every kind of template; or the row is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamahome_tui.data.answers import LEFT_OUT
from llamahome_tui.data.encode import Encoded, Encoder, Encoding, Seen
from llamahome_tui.data.masks import BELIEVED, JOINED, MOST_TRIED, PARTED, MaskError, learned, token_mask
from llamahome_tui.data.samples import Chat
from llamahome_tui.data.template import ChatTemplate, special_tokens
from llamahome_tui.data.tokens import Tokens
from tests.unit.data import templates

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


def chat(*said: str, **more: Any) -> Chat:
    roles = ("user", "assistant")
    return Chat(tuple({"role": roles[at % 2], "content": text} for at, text in enumerate(said)), **more)


TALK = chat("hello there", "fine, thanks", "your name?", "Bob.\nYes <b>")


def spans(template: str, chat: Chat = TALK, train_on: str = "assistant", **options: Any) -> list[str]:
    found = learned(ChatTemplate(template, SPECIAL), chat, train_on=train_on, options=options, special=templates.TOKENS)
    return [found.text[start:end] for start, end in found.spans]


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        (templates.CHATML, ["fine, thanks<|im_end|>", "Bob.\nYes <b><|im_end|>"]),
        (templates.CHATML_MARKED, ["fine, thanks<|im_end|>", "Bob.\nYes <b><|im_end|>"]),
        (templates.LLAMA2, [" fine, thanks</s>", " Bob.\nYes <b></s>"]),
        (templates.EOS_AT_THE_END, ["fine, thanks<|end|>", "Bob.\nYes <b><|end|>\n</s>"]),
        (templates.OTHER_END_FOR_THE_LAST, ["fine, thanks<|end|>", "Bob.\nYes <b><|return|>"]),
        (templates.NO_END, ["fine, thanks", "Bob.\nYes <b>"]),
        (templates.PLAIN_ROLES, ["fine, thanks\n", "Bob.\nYes <b>\n"]),
    ],
    ids=["chatml", "marked", "llama2", "eos", "return", "no end", "roles"],
)
def test_spans(template: str, wanted: list[str]) -> None:
    assert spans(template) == wanted
    assert spans(template, train_on="last") == wanted[-1:]
    assert spans(template, train_on="completion") == wanted[-1:]
    (everything,) = spans(template, train_on="all")
    assert everything == ChatTemplate(template, SPECIAL).render(TALK.messages)


def test_a_turn_whose_thoughts_are_dropped_later_is_refused_and_the_last_is_learned() -> None:
    talk = chat("hello", "<think>\nhm\n</think>\n\nfine", "name?", "<think>\nwell\n</think>\n\nBob")
    for one in (talk, TALK):
        with pytest.raises(MaskError, match=r"prompt that ends in .*<think>.*train_on = \"last\"") as refused:
            spans(templates.THINKING, one)
        assert refused.value.why == "prompt"
    assert spans(templates.THINKING, talk, train_on="last") == ["well\n</think>\n\nBob<|im_end|>"]
    assert spans(templates.THINKING, train_on="completion") == ["\n</think>\n\nBob.\nYes <b><|im_end|>"]


def test_a_message_can_be_taken_out() -> None:
    first = {**TALK.messages[1], "train": False}
    talk = Chat((TALK.messages[0], first, *TALK.messages[2:]))
    assert spans(templates.CHATML, talk) == ["Bob.\nYes <b><|im_end|>"]
    silent = Chat((TALK.messages[0], first))
    assert spans(templates.CHATML, silent) == []


def test_an_answer_that_stands_in_the_prompt_is_not_mistaken() -> None:
    talk = chat("say fine", "fine", "fine", "fine")
    found = learned(
        ChatTemplate(templates.CHATML, SPECIAL), talk, train_on="assistant", options={}, special=templates.TOKENS
    )
    assert [found.text[:start].count("fine") for start, _ in found.spans] == [1, 3]


def test_marks_are_asked_where_prefixes_do_not_tell() -> None:
    opening = Chat(({"role": "assistant", "content": "Welcome!"}, *TALK.messages[:2]))
    assert spans(templates.CHATML_MARKED, opening) == ["Welcome!<|im_end|>", "fine, thanks<|im_end|>"]
    with pytest.raises(MaskError, match="starts with an answer"):
        spans(templates.CHATML, opening)


def test_marks_that_hold_a_question_are_not_believed() -> None:
    wrong = (
        "{% generation %}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% endgeneration %}"
    )
    with pytest.raises(MaskError):
        spans(
            wrong,
            Chat(({"role": "assistant", "content": "Hi"}, {"role": "user", "content": "a question, rather long"})),
        )


@pytest.mark.parametrize("template", [templates.REWRITES, templates.NO_HEADER])
def test_what_cannot_be_told_is_refused(template: str) -> None:
    if template is templates.NO_HEADER:
        # Without a header the model would write it: it is learned, and that is exact.
        assert spans(template) == ["<|assistant|>fine, thanks<|end|>", "<|assistant|>Bob.\nYes <b><|end|>"]
        return
    with pytest.raises(MaskError, match="changes the text"):
        spans(template)


def held(marked: str) -> str:
    """A template that writes answers as `marked`, where [[ and ]] are marks."""
    return HELD.replace("MARKED", marked.replace("[[", MARK).replace("]]", "{% endgeneration %}"))


MARK = "{% generation %}"
HELD = "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}MARKED{% else %}{{ m.content }}<|end|>"
HELD += "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"


BOTH = ["fine, thanks<|end|>", "Bob.\nYes <b><|end|>"]


@pytest.mark.parametrize(
    ("marked", "wanted"),
    [
        ("[[{{ m.content }}<|end|>]]", BOTH),
        ("[[{{ m.content }}]]<|end|>", BOTH),
        ("[[{{ m.content }}<|end|>\n\n]]", BOTH),
        ("{% if loop.last %}[[{{ m.content }}<|end|>]]{% else %}{{ m.content }}<|end|>{% endif %}", BOTH[1:]),
        ("{{ m.content[:4] }}[[{{ m.content[4:] }}<|end|>]]", [", thanks<|end|>", "\nYes <b><|end|>"]),
        ("[[{{ m.content[:4] }}]]{{ m.content[4:] }}<|end|>", ["fine", "Bob."]),
    ],
    ids=["whole", "no end", "white space", "last only", "second half", "first half"],
)
def test_marks_choose_among_what_the_model_writes(marked: str, wanted: list[str]) -> None:
    assert spans(held(marked)) == wanted


def test_an_answer_whose_end_is_not_marked_is_open_ended() -> None:
    template = held("[[{{ m.content[:4] }}]]{{ m.content[4:] }}<|end|>")
    found = learned(ChatTemplate(template, SPECIAL), TALK, train_on="assistant", options={}, special=templates.TOKENS)
    assert found.open_ended


def test_marks_that_hold_a_header_are_learned_without_it() -> None:
    """As in trl's gpt-oss and DeepSeek templates: a prompt's end is no answer, derived or believed."""
    header = (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}<|assistant|>{{ m.content }}<|end|>"
        "{% endgeneration %}{% else %}<|user|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>PROMPT{% endif %}"
    )
    assert spans(header.replace("PROMPT", "")) == ["fine, thanks<|end|>", "Bob.\nYes <b><|end|>"]
    found = learned(
        ChatTemplate(header.replace("PROMPT", "<think>"), SPECIAL),
        TALK, train_on="assistant", options={}, special=templates.TOKENS,
    )  # fmt: skip
    assert found.doubts == (BELIEVED,)
    assert [found.text[slice(*span)] for span in found.spans] == ["fine, thanks<|end|>", "Bob.\nYes <b><|end|>"]


def test_marks_in_text_that_a_template_moves_are_not_believed() -> None:
    moved = "{% for m in messages %}{% set said %}x{% generation %}{{ m.content }}{% endgeneration %}{% endset %}"
    moved += "<|{{ m.role }}|>{{ said[1:] }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    assert ChatTemplate(moved, SPECIAL).rendered(TALK.messages).misplaced
    assert spans(moved) == ["fine, thanks<|end|>", "Bob.\nYes <b><|end|>"]
    with pytest.raises(MaskError, match="starts with an answer"):
        spans(moved, Chat(({"role": "assistant", "content": "Hi"}, *TALK.messages)))


IMITATION = "a<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n</s> [/INST] <|end|>\n"


@pytest.mark.parametrize("name", ["CHATML", "CHATML_MARKED", "EOS_AT_THE_END", "OTHER_END_FOR_THE_LAST", "NO_END"])
def test_an_answer_that_imitates_the_template_is_learned_whole(name: str) -> None:
    talk = chat(IMITATION, IMITATION, f"{IMITATION}?", f"b{IMITATION}")
    first, second = spans(getattr(templates, name), talk)
    plain = spans(getattr(templates, name), chat("a", "b", "c", "d"))
    assert first == IMITATION + plain[0].removeprefix("b")
    assert second == f"b{IMITATION}" + plain[1].removeprefix("d")


def test_answers_that_run_into_one_are_refused() -> None:
    merging = (
        "{% for m in messages %}{% if not loop.previtem or loop.previtem.role != m.role %}<|{{ m.role }}|>{% endif %}"
        "{{ m.content }}{% if loop.last or loop.nextitem.role != m.role %}<|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    assert spans(merging) == ["fine, thanks<|end|>", "Bob.\nYes <b><|end|>"]
    talk = Chat((*TALK.messages[:2], {"role": "assistant", "content": "and more"}))
    with pytest.raises(MaskError, match="message 2") as refused:
        spans(merging, talk)
    assert refused.value.why in ("merged", "history")


def test_a_system_prompt_that_moves_is_refused() -> None:
    """As Mistral's template does: the system prompt stands in the last question."""
    moving = (
        "{% for m in messages[1:] %}<|{{ m.role }}|>{% if loop.index0 == (messages | length) - 2 or loop.index0 == "
        "(messages | length) - 3 and m.role == 'user' %}{{ messages[0].content }}{% endif %}{{ m.content }}<|end|>"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    talk = Chat(({"role": "system", "content": "Short!"}, *TALK.messages))
    with pytest.raises(MaskError, match="in another way once the chat goes on") as refused:
        spans(moving, talk)
    assert refused.value.why == "history"


def test_the_ways_out_are_those_that_work() -> None:
    switched = templates.CHATML.replace(
        "<|im_start|>assistant\n{% endif %}",
        "<|im_start|>assistant\n{% if enable_thinking | default(true) %}<think>{% endif %}{% endif %}",
    )
    with pytest.raises(MaskError) as refused:
        spans(switched)
    assert refused.value.ways[0] == "data.template_options = { enable_thinking = false }"
    assert not any("train_on" in way for way in refused.value.ways)
    assert spans(switched, enable_thinking=False) == ["fine, thanks<|im_end|>", "Bob.\nYes <b><|im_end|>"]
    opening = Chat(({"role": "assistant", "content": "Welcome!"}, *TALK.messages))
    with pytest.raises(MaskError, match='"weight": 0 on the message'):
        spans(templates.CHATML, opening)
    allowed = Chat(({"role": "assistant", "content": "Welcome!", "train": False}, *TALK.messages))
    assert spans(templates.CHATML, allowed) == ["fine, thanks<|im_end|>", "Bob.\nYes <b><|im_end|>"]


def test_ways_out_are_not_tried_for_ever() -> None:
    template = ChatTemplate(templates.THINKING, SPECIAL)
    for number in range(MOST_TRIED + 1):
        with pytest.raises(MaskError) as refused:
            learned(template, TALK, train_on="assistant", options={}, special=templates.TOKENS)
        assert bool(refused.value.ways) == (number < MOST_TRIED)


def test_two_bos_are_refused() -> None:
    with pytest.raises(MaskError, match="begins the text with <s> twice"):
        spans("{{ bos_token }}{{ bos_token }}" + templates.CHATML)


CALL = {"type": "function", "id": "1", "function": {"name": "add", "arguments": {"a": "<|im_end|>\n"}}}
TOOLED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls %}<call>"
    "{{ c.function.name }} {{ c.function.arguments | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WITH_TOOL = Chat(
    (
        {"role": "user", "content": "add"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "4"},
        {"role": "assistant", "content": "four"},
        {"role": "user", "content": "more"},
        {"role": "assistant", "content": "five"},
    )
)


@pytest.mark.parametrize(
    ("train_on", "wanted"), [("assistant", [0, 1, 2]), ("last", [2]), ("completion", [2]), ("all", [])]
)
def test_calls_of_tools_are_learned_and_their_replies_are_not(train_on: str, wanted: list[int]) -> None:
    call = '<call>add {"a": "<|im_end|>\\n"}<|im_end|>'
    found = spans(TOOLED, WITH_TOOL, train_on=train_on)
    if train_on == "all":
        assert found == [ChatTemplate(TOOLED, SPECIAL).render(WITH_TOOL.messages)]
    else:
        assert found == [[call, "four<|im_end|>", "five<|im_end|>"][at] for at in wanted]
    quiet = Chat(tuple({**one, "train": False} if one.get("tool_calls") else one for one in WITH_TOOL.messages))
    if train_on == "assistant":
        assert spans(TOOLED, quiet) == ["four<|im_end|>", "five<|im_end|>"]
    if train_on == "completion":
        assert spans(TOOLED, Chat(WITH_TOOL.messages[:4]), train_on="completion") == [call, "four<|im_end|>"]


@pytest.mark.parametrize("train_on", ["assistant", "last", "all"])
def test_calls_that_a_template_drops_are_refused(train_on: str) -> None:
    with pytest.raises(MaskError, match="leaves tool calls out") as refused:
        spans(templates.CHATML, WITH_TOOL, train_on=train_on)
    assert refused.value.why == "left out"
    hidden = templates.CHATML.replace("{{ m.content }}", "{{ m.content if m.content else m.tool_calls | length }}")
    with pytest.raises(MaskError, match='leaves out a call of the tool "add"'):
        spans(hidden, WITH_TOOL, train_on=train_on)
    first_only = TOOLED.replace("in m.tool_calls", "in (m.tool_calls or [])[:1]")
    other = {**CALL, "function": {"name": "take", "arguments": {}}}
    both = Chat((WITH_TOOL.messages[0], {**WITH_TOOL.messages[1], "tool_calls": [CALL, other]}))
    with pytest.raises(MaskError, match='of the tool "take"'):
        spans(first_only, both, train_on=train_on)


def test_thinking_that_a_template_does_not_write_is_a_doubt() -> None:
    talk = Chat((TALK.messages[0], {**TALK.messages[1], "reasoning_content": "hm"}))
    found = learned(
        ChatTemplate(templates.CHATML, SPECIAL), talk, train_on="assistant", options={}, special=templates.TOKENS
    )
    assert found.doubts == (LEFT_OUT,)
    drops = templates.CHATML.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}")
    with pytest.raises(MaskError, match="thinking of message 2"):
        spans(drops, chat("hello", "<think>hm</think>fine"))


def test_an_answer_that_is_a_bare_end_of_thinking_is_refused_for_what_becomes_of_it() -> None:
    cuts = templates.CHATML.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}")
    with pytest.raises(MaskError, match="changes the text of message 2"):
        spans(cuts, chat("hello", "</think>"))
    assert spans(templates.CHATML, chat("hello", "</think>")) == ["</think><|im_end|>"]


def test_a_template_that_looks_at_the_words_is_refused_or_exact() -> None:
    shouting = templates.CHATML.replace("{{ m.content }}", "{{ m.content | replace('fine', 'FINE') }}")
    with pytest.raises(MaskError, match="changes the text of message 2"):
        spans(shouting)
    assert spans(shouting, chat("fine", "well")) == ["well<|im_end|>"]


def test_tokens_over_an_edge() -> None:
    assert token_mask("ab cd", [(0, 2), (2, 5)], [(3, 5)]) == b"\0\1"
    assert token_mask("ab cd", [(0, 2), (3, 5)], [(3, 5)]) == b"\0\1"
    with pytest.raises(MaskError, match="start of the answer"):
        token_mask("abcd", [(0, 3), (3, 4)], [(2, 4)])
    with pytest.raises(MaskError, match="end of the answer"):
        token_mask("abcd", [(0, 1), (1, 4)], [(1, 3)])
    assert token_mask("ab\n\nc", [(0, 2), (2, 4), (4, 5)], [(0, 3)]) == b"\1\1\0"
    doubts: list[str] = []
    assert token_mask("ab cd", [(0, 2), (2, 5)], [(3, 5)], doubts=doubts) == b"\0\1"
    assert token_mask("ab cd", [(0, 2), (2, 3), (3, 5)], [(3, 5)], doubts=[]) == b"\0\0\1"
    assert doubts == [JOINED]
    with pytest.raises(MaskError, match="moves text"):
        token_mask("abcd", [(2, 4), (0, 2)], [(0, 2)])
    # Three tokens of one character, and one of nothing.
    assert token_mask("aéb", [(0, 1), (1, 2), (1, 2), (2, 3)], [(1, 2)]) == b"\0\1\1\0"
    assert token_mask("a  b", [(0, 1), (2, 2), (3, 4)], [(2, 4)]) == b"\0\0\1"


@pytest.fixture(scope="module", params=["bytes", "pieces", "words"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return templates.write_tokenizer(tmp_path_factory.mktemp("tok") / "m", request.param, templates.CHATML_MARKED)


def tokenised(folder: Path, template: str, talk: Chat) -> tuple[list[int], bytes, str]:
    tokens = Tokens.load(folder, special_tokens(folder))
    found = learned(
        ChatTemplate(template, special_tokens(folder)), talk, train_on="assistant", options={}, special=tokens.special
    )
    (row,) = tokens.encode([found.text])
    return row.ids.tolist(), bytes(token_mask(found.text, row.offsets, found.spans)), found.text


@pytest.mark.torch
def test_as_transformers_masks(folder: Path) -> None:
    """Same ids and, where the template marks what we learn, the same mask as apply_chat_template gives."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    for talk in (TALK, chat("hello world", "it is fine"), chat("café 日本 😀", "name\n\nis 日本 😀 café\t")):
        wanted = theirs.apply_chat_template(
            list(talk.messages), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        ids, mask, _ = tokenised(folder, templates.CHATML_MARKED, talk)
        assert ids == wanted["input_ids"]
        assert list(mask) == wanted["assistant_masks"]


def test_an_answer_that_starts_with_spaces_is_learned_whole(folder: Path) -> None:
    """transformers finds no token at a trimmed space, and masks the whole answer."""
    _, mask, _ = tokenised(folder, templates.CHATML_MARKED, chat("hello world", "it is fine"))
    _, spaced, _ = tokenised(folder, templates.CHATML_MARKED, chat("hello world", "   it is fine"))
    assert spaced.count(1) >= mask.count(1)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["CHATML", "LLAMA2", "EOS_AT_THE_END", "THINKING", "OTHER_END_FOR_THE_LAST", "NO_END"])
def test_prompt_tokens_are_what_inference_gives(folder: Path, name: str) -> None:
    """Masked tokens before the last answer are the ids of the prompt that a model is later asked with."""
    transformers = pytest.importorskip("transformers")
    template = getattr(templates, name)
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    ids, mask, _ = tokenised(folder, template, chat("hello world how are you", "it is fine thanks"))
    prompt = theirs.apply_chat_template(
        [{"role": "user", "content": "hello world how are you"}],
        chat_template=template, add_generation_prompt=True, tokenize=True, return_dict=True,
    )["input_ids"]  # fmt: skip
    first = mask.index(1)
    assert ids[:first] == prompt
    assert mask == bytes(first) + b"\1" * mask.count(1) + bytes(len(ids) - first - mask.count(1))


SAID = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12).filter(str.strip)


@settings(max_examples=60, deadline=None)
@given(
    talk=st.lists(SAID, min_size=2, max_size=6),
    name=st.sampled_from(["CHATML", "LLAMA2", "EOS_AT_THE_END", "OTHER_END_FOR_THE_LAST"]),
)
def test_any_talk_is_masked_exactly_or_refused(bytes_folder: Path, talk: list[str], name: str) -> None:
    """What the mask holds, decoded, is the answers and their ends: nothing of a question, nothing missing."""
    from tokenizers import Tokenizer

    talk = talk[: len(talk) // 2 * 2]
    try:
        ids, mask, _ = tokenised(bytes_folder, getattr(templates, name), chat(*talk))
    except MaskError:
        return
    tokenizer = Tokenizer.from_file(str(bytes_folder / "tokenizer.json"))
    written = tokenizer.decode([one for one, bit in zip(ids, mask, strict=True) if bit], skip_special_tokens=True)
    squeezed = "".join(written.split())
    assert squeezed == "".join("".join(talk[1::2]).split())


@pytest.fixture(scope="module")
def bytes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return templates.write_tokenizer(tmp_path_factory.mktemp("bytes") / "m", "bytes", templates.CHATML)


def changed_tokenizer(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    change(tokenizer)
    path.write_text(json.dumps(tokenizer))
    return folder


def test_white_space_that_a_special_token_swallows_belongs_to_no_answer(tmp_path: Path) -> None:
    def swallow(tokenizer: dict[str, Any]) -> None:
        for token in tokenizer["added_tokens"]:
            token["rstrip"] = True

    folder = changed_tokenizer(templates.write_tokenizer(tmp_path / "m", "bytes", templates.EOS_AT_THE_END), swallow)
    encoder = Encoder(Encoding(folder))
    for answer in ("fine", " fine", "\n\n fine"):
        row = encoder.look(chat("hello", answer))
        assert isinstance(row, Seen)
        (part,) = row.parts
        learned_tokens = [
            part.text[start:end] for (start, end), one in zip(part.offsets, part.mask, strict=True) if one
        ]
        assert "".join(learned_tokens) == "fine<|end|>\n</s>"
        prompt = part.text[: part.text.index("<|assistant|>") + len("<|assistant|>\n")]
        (asked,) = Tokens.load(folder, special_tokens(folder)).encode([prompt])
        assert list(part.ids[: part.mask.index(1)]) == asked.ids.tolist()
    with pytest.raises(MaskError, match="start of the answer"):
        token_mask("<a>\nb", [(0, 5)], [(4, 5)], special=("<a>",))


def test_a_prompt_that_has_other_tokens_before_its_answer_is_told_of(tmp_path: Path) -> None:
    def join_lines(tokenizer: dict[str, Any]) -> None:
        model = tokenizer["model"]
        model["vocab"]["ĊĊ"] = max(*model["vocab"].values(), *(one["id"] for one in tokenizer["added_tokens"])) + 1
        model["merges"].append(["Ċ", "Ċ"])

    two_lines = templates.CHATML.replace("assistant\n", "assistant\n\n").replace("m.role }}\n", "m.role }}\n\n")
    for template, told in ((two_lines, (PARTED,)), (templates.CHATML, ())):
        name = str(len(told))
        folder = changed_tokenizer(templates.write_tokenizer(tmp_path / name, "bytes", template), join_lines)
        (row,) = Encoder(Encoding(folder)).encode([chat("hello", "fine")])
        assert isinstance(row, Encoded)
        assert row.doubts == told
