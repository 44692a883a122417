"""Masks hold exactly what the model writes, end of turn included, for every kind of template; or the row is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamahome_tui.data.masks import MaskError, learned, token_mask
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


def test_tokens_over_an_edge() -> None:
    assert token_mask("ab cd", [(0, 2), (2, 5)], [(3, 5)]) == b"\0\1"
    assert token_mask("ab cd", [(0, 2), (3, 5)], [(3, 5)]) == b"\0\1"
    with pytest.raises(MaskError, match="start of the answer"):
        token_mask("abcd", [(0, 3), (3, 4)], [(2, 4)])
    with pytest.raises(MaskError, match="end of the answer"):
        token_mask("abcd", [(0, 1), (1, 4)], [(1, 3)])
    assert token_mask("ab\n\nc", [(0, 2), (2, 4), (4, 5)], [(0, 3)]) == b"\1\1\0"
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
    return row.ids, bytes(token_mask(found.text, row.offsets, found.spans)), found.text


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
