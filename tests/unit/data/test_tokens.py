"""A tokenizer without transformers: the quick way to tokens gives what the library gives, or is not taken."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers

from llamahome_tui.data import words
from llamahome_tui.data.template import special_tokens
from llamahome_tui.data.tokens import Tokens
from tests.unit.data import templates

LLAMA3, QWEN = sorted(words._PATTERNS, key=len, reverse=True)
TRAINED = (
    "hello world how are you? I'm fine, it's 12 or 345. The answer\nis four (4)! user assistant\nThe end \n\n  of it"
)


def changed(folder: Path, kind: str) -> Tokens:
    """One of many kinds of byte-level tokenizers, trained so that words merge."""
    model = templates.write_tokenizer(folder / kind, "bytes")
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made = {
        "llama3": [pre_tokenizers.Split(Regex(LLAMA3), "isolated"), level],
        "qwen": [pre_tokenizers.Split(Regex(QWEN), "isolated"), level],
        "digits": [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)],
        "prefixed": [pre_tokenizers.ByteLevel(add_prefix_space=True)],
        "whole": [level],  # merges go over words
        "unknown": [pre_tokenizers.Split(Regex(r"\w+|\W"), "isolated"), level],
    }
    if kind in made:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(made[kind])
    if kind == "nfc":
        tokenizer.normalizer = normalizers.NFC()
    if kind == "lowers":
        tokenizer.normalizer = normalizers.Lowercase()
    if kind == "eats":
        tokenizer.add_special_tokens([AddedToken("<|eats|>", lstrip=True, rstrip=True)])
    from tokenizers import trainers

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
    special = [AddedToken(token, special=True, normalized=False) for token in templates.TOKENS]
    tokenizer.train_from_iterator([TRAINED, templates.TEXT] * 3, trainer)
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(model / "tokenizer.json"))
    return Tokens.load(model, special_tokens(model))


QUICK = ("bytes", "llama3", "qwen", "digits", "nfc")
SLOW = ("prefixed", "whole", "unknown", "lowers", "eats")


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokens]:
    folder = tmp_path_factory.mktemp("kinds")
    found = {kind: changed(folder, kind) for kind in (*QUICK, *SLOW)}
    for kind in ("pieces", "words"):
        model = templates.write_tokenizer(folder / f"other-{kind}", kind)
        found[kind] = Tokens.load(model, special_tokens(model))
    return found


PARTS = [
    *templates.TOKENS, "<|eats|>", " ", "\n", "  ", "\t", "\r\n", "\x1c", "hello", "world", "WHO", "user\nThe", "I'm",
    "'S", "it's", "345", "1", ".", "...", "?!", "(", "/", "_", "end. Of", "a b", "x\ny", "\n\nz", " \n", "café", "日本",
    "🙂", "é",
]  # fmt: skip


def agree(tokens: Tokens, text: str) -> None:
    if tokens._words is not None:
        tokens._words._compared = 1000  # what it says unchecked
    (slow,), quick = tokens.encode([text]), tokens.encode_one(text)
    assert quick.ids == slow.ids
    assert [*quick.offsets] == [*slow.offsets]
    assert [quick.offsets[at] for at in range(len(quick.offsets))] == [*slow.offsets]
    assert quick.offsets[1:3] == slow.offsets[1:3]


@given(st.sampled_from([*QUICK, *SLOW, "pieces", "words"]), st.lists(st.sampled_from(PARTS), max_size=14))
@example("llama3", ["<|im_start|>", "user\nThe", " ", "end. Of", "\n", "\n", "x\ny", "<|im_end|>", "\n"])
def test_both_ways_agree(kinds: dict[str, Tokens], kind: str, parts: list[str]) -> None:
    agree(kinds[kind], "".join(parts))
    agree(kinds[kind], " ".join(parts))


@given(st.sampled_from(QUICK), st.text(st.characters(min_codepoint=1, max_codepoint=127), max_size=60))
def test_both_ways_agree_on_any_ascii(kinds: dict[str, Tokens], kind: str, text: str) -> None:
    agree(kinds[kind], text)


def test_the_quick_way_is_taken_only_where_words_are_certain(kinds: dict[str, Tokens]) -> None:
    assert {kind for kind, tokens in kinds.items() if tokens._words is not None} == set(QUICK)


def test_a_tokenizer_that_is_not_what_it_seems_is_noticed(kinds: dict[str, Tokens]) -> None:
    found = kinds["bytes"]._words
    assert found is not None
    liar = words.Words(found._tokenizer, found._special, found._added)
    liar._spaced["world"] = words._entry([1, 2, 3], [2, 2, 2])
    assert liar.encode("hello world") is None
    assert liar.encode("anything") is None  # and it is not asked again


def test_what_is_remembered_has_an_end(kinds: dict[str, Tokens], monkeypatch: pytest.MonkeyPatch) -> None:
    found = kinds["bytes"]._words
    assert found is not None
    few = words.Words(found._tokenizer, found._special, found._added)
    monkeypatch.setattr(words, "_MOST", 5)
    assert few.encode(" ".join(f"word{letter}" for letter in "abcdefghijk") + " " + "x" * 99) is not None
    assert (len(few._first), len(few._spaced)) == (1, 5)


def test_a_token_keeps_its_space(tmp_path: Path) -> None:
    """Post-processors of some models trim spans: the piece that is shown, and the mask, would depend on it."""
    model = templates.write_tokenizer(tmp_path / "m", "bytes")
    (row,) = Tokens.load(model, special_tokens(model)).encode(["hello world"])
    assert next(iter(row.offsets))[0] == 0
    assert [end for _, end in row.offsets][:-1] == [start for start, _ in row.offsets][1:]
