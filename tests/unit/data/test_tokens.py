"""A tokenizer without transformers: the quick way to the spans of tokens gives what the slow one gives, or is left."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers

from llamahome_tui.data.template import special_tokens
from llamahome_tui.data.tokens import Tokens
from tests.unit.data import templates


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokens]:
    folder = tmp_path_factory.mktemp("kinds")
    models = {kind: templates.write_tokenizer(folder / kind, kind) for kind in ("bytes", "pieces", "words")}
    for name in ("lowers", "eats"):
        models[name] = templates.write_tokenizer(folder / name, "bytes")
        changed = Tokenizer.from_file(str(models[name] / "tokenizer.json"))
        if name == "lowers":
            changed.normalizer = normalizers.Lowercase()
        else:
            changed.add_special_tokens([AddedToken("<|eats|>", lstrip=True, rstrip=True)])
        changed.save(str(models[name] / "tokenizer.json"))
    return {name: Tokens.load(model, special_tokens(model)) for name, model in models.items()}


WORDS = [*templates.TOKENS, "<|eats|>", " ", "\n", "  ", "hello", " world", "WHO", "café", "日本", "🙂", "é", "\t", "0"]


@given(st.sampled_from(["bytes", "pieces", "words", "lowers", "eats"]), st.lists(st.sampled_from(WORDS), max_size=12))
def test_both_ways_agree(kinds: dict[str, Tokens], kind: str, words: list[str]) -> None:
    text = "".join(words)
    tokens = kinds[kind]
    (slow,), quick = tokens.encode([text]), tokens.encode_one(text)
    assert quick.ids == slow.ids
    assert [*quick.offsets] == [*slow.offsets]
    assert [quick.offsets[at] for at in range(len(quick.offsets))] == [*slow.offsets]
    assert quick.offsets[1:3] == slow.offsets[1:3]


def test_the_quick_way_is_taken_where_it_fits(kinds: dict[str, Tokens]) -> None:
    for kind, fits in (("bytes", True), ("pieces", False), ("words", False), ("lowers", False)):
        kinds[kind].encode_one("Hello world")
        assert kinds[kind]._said.fits is fits


def test_a_token_keeps_its_space(tmp_path: Path) -> None:
    """Post-processors of some models trim spans: the piece that is shown, and the mask, would depend on it."""
    model = templates.write_tokenizer(tmp_path / "m", "bytes")
    (row,) = Tokens.load(model, special_tokens(model)).encode(["hello world"])
    assert next(iter(row.offsets))[0] == 0
    assert [end for _, end in row.offsets][:-1] == [start for start, _ in row.offsets][1:]
