"""A row token by token: the pieces are the text, the mask is what is learned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamahome_tui.data.encode import Encoding
from llamahome_tui.data.inspect import inspect, look_at, pieces
from llamahome_tui.data.pool import Pool
from llamahome_tui.data.samples import Chat, Text
from llamahome_tui.errors import DataError, NotFoundError
from llamahome_tui.training.shape import Data
from tests.unit.data import templates

MESSAGES = [
    {"role": "user", "content": "say 🦙 twice, 日本"},
    {"role": "assistant", "content": "🦙🦙 \t\n it is fine"},
    {"role": "user", "content": "thanks"},
    {"role": "assistant", "content": "é"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def written(path: Path, *rows: object) -> Data:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Data(train=(str(path),))


@pytest.mark.parametrize("kind", ["bytes", "pieces", "words"])
def test_the_pieces_are_the_text_and_the_mask_is_what_the_assistant_says(kind: str, folder: Path) -> None:
    model = templates.write_tokenizer(folder / kind, kind, templates.CHATML)
    look = inspect(written(folder / f"{kind}.jsonl", {"messages": MESSAGES}), model, 1)
    (part,) = look.parts
    assert "".join(part.pieces) == part.text
    assert len(part.ids) == len(part.pieces) == len(part.mask) == len(part.special)
    learned = "".join(piece for piece, mask in zip(part.pieces, part.mask, strict=True) if mask)
    assert learned.replace(" ", "").replace("\n", "").replace("\t", "") == "🦙🦙itisfine<|im_end|>é<|im_end|>"
    assert [p for p, s in zip(part.pieces, part.special, strict=True) if s and "im_start" in p]
    assert (look.row, look.line, look.format) == (1, 1, "messages")
    assert look.as_dict()["trained_tokens"] == sum(look.as_dict()["mask"]) == part.trained_tokens


def test_plain_text_shows_the_token_it_starts_with(folder: Path) -> None:
    model = templates.write_tokenizer(folder / "plain", "pieces")
    (part,) = inspect(written(folder / "plain.jsonl", {"prompt": "hello ", "completion": "world"}), model, 1).parts
    assert part.pieces[0] == "<s>"
    assert part.special[0] == 1
    assert "".join(part.pieces) == part.text == "<s>hello world</s>"
    assert part.mask[0] == 0 and part.mask[-1] == 1


def test_a_pair_has_both_sides(folder: Path) -> None:
    model = templates.write_tokenizer(folder / "pairs", "bytes", templates.CHATML)
    row = {"prompt": "what is four", "chosen": "the answer is four", "rejected": "I am Bob"}
    look = inspect(written(folder / "pairs.jsonl", row), model, 1).as_dict()
    assert look["text"] == look["chosen"]["text"] != look["rejected"]["text"]
    assert "I am Bob" in look["rejected"]["text"]
    assert 0 < look["rejected"]["trained_tokens"] < len(look["rejected"]["ids"])


def test_rows_count_from_one_over_all_files(folder: Path) -> None:
    model = templates.write_tokenizer(folder / "many", "bytes", templates.CHATML)
    rows = [[{"role": "user", "content": str(n)}, {"role": "assistant", "content": "x"}] for n in range(5)]
    one = written(folder / "a.jsonl", *({"messages": row} for row in rows[:3])).train
    two = written(folder / "b.jsonl", *({"messages": row} for row in rows[3:])).train
    data = Data(train=one + two)
    assert [inspect(data, model, n).line for n in (1, 3, 4, 5)] == [1, 3, 1, 2]
    for wrong in (6, 10**9):
        with pytest.raises(NotFoundError, match="5 rows") as error:
            inspect(data, model, wrong)
        assert error.value.data == {"row": wrong, "rows": 5}


def test_a_bad_row_and_a_template_that_refuses(folder: Path) -> None:
    model = templates.write_tokenizer(folder / "llama2", "bytes", templates.LLAMA2)
    rows = (
        {"messages": MESSAGES},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "system", "content": "x"}, *MESSAGES]},
    )
    data = written(folder / "llama2.jsonl", *rows)
    with pytest.raises(DataError, match=r"llama2\.jsonl:2: messages\[0\]\.content"):
        inspect(data, model, 2)
    with pytest.raises(DataError, match=r"llama2\.jsonl:3: .*only user and assistant speak here"):
        inspect(data, model, 3)
    with Pool(Encoding(model, data)) as pool:
        chat = Chat(tuple(MESSAGES), file="f", line=7)
        assert look_at(pool, chat, row=7, format="messages").line == 7
        assert look_at(pool, Text("hello"), row=1, format="text").parts[0].text == "hello</s>"


@given(st.text(max_size=20), st.data())
def test_pieces_join_to_the_text_whatever_the_offsets(text: str, data: st.DataObject) -> None:
    place = st.integers(0, len(text) + 2)
    offsets = data.draw(st.lists(st.tuples(place, place), min_size=1, max_size=8))
    mask = data.draw(st.one_of(st.just(b""), st.binary(min_size=len(offsets), max_size=len(offsets))))
    found = pieces(text, offsets, mask)
    assert "".join(found) == text
    assert len(found) == len(offsets)


def test_space_between_tokens_is_not_shown_as_learned_where_it_need_not_be() -> None:
    text, offsets = "ab  cd  ef  gh", [(0, 2), (4, 6), (8, 10), (12, 14)]
    assert pieces(text, offsets) == ("ab  ", "cd  ", "ef  ", "gh")
    assert pieces(text, offsets, b"\0\1\1\0") == ("ab  ", "cd  ", "ef", "  gh")
    assert pieces("🦙a", [(0, 1), (0, 1), (0, 1), (1, 2)]) == ("🦙", "", "", "a")
    assert pieces("", []) == ()


def test_a_row_before_the_first_is_refused_without_reading(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = templates.write_tokenizer(folder / "first", "bytes", templates.CHATML)
    data = written(folder / "first.jsonl", {"messages": MESSAGES})
    with pytest.raises(NotFoundError, match=r"there is no row 2: the data has 1 row$"):
        inspect(data, model, 2)
    monkeypatch.setattr("llamahome_tui.data.inspect.RowIndex", None)
    for row in (0, -1):
        with pytest.raises(NotFoundError, match=f"there is no row {row}: the first is 1") as refused:
            inspect(data, model, row)
        assert refused.value.hint.endswith("--row 1")
