"""A row in a line, for every kind of row; and the filter's words."""

from __future__ import annotations

from typing import Any

import pytest

from llamahome_tui.data.rows import Bad, Row
from llamahome_tui.training.shape import Data
from llamahome_tui.tui.screens.training.data_words import RowLine, Wanted, line_of, roles_of

CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}


def line(value: dict[str, Any], format: str) -> RowLine:
    return line_of(Row("/data/train.jsonl", 7, value), 6, format, Data())


@pytest.mark.parametrize(
    ("format", "value", "prompt", "answer", "roles"),
    [
        ("text", {"text": "Once upon"}, "Once upon", "", "text"),
        ("completion", {"prompt": "2+2=", "completion": "4"}, "2+2=", "4", "user, assistant"),
        ("alpaca", {"instruction": "Add.", "output": "4", "system": "s"}, "Add.", "4", "system, user, assistant"),
        (
            "messages",
            {
                "messages": [
                    {"role": "user", "content": "one"},
                    {"role": "assistant", "content": "1"},
                    {"role": "user", "content": "two"},
                    {"role": "assistant", "content": "2"},
                ]
            },
            "two", "2", "user x2, assistant x2",
        ),
        (
            "messages",
            {"messages": [{"role": "user", "content": "wet?"}, {"role": "assistant", "tool_calls": [CALL]}]},
            "wet?", "calls weather", "user, assistant",
        ),
        ("preference", {"prompt": "2+2?", "chosen": "4", "rejected": "5"}, "2+2?", "4", "user, assistant"),
        ("labels", {"prompt": "2+2?", "completion": "5", "label": False}, "2+2?", "not good: 5", "user, assistant"),
    ],
)  # fmt: skip
def test_a_row_in_a_line(format: str, value: dict[str, Any], prompt: str, answer: str, roles: str) -> None:
    found = line(value, format)
    assert (found.prompt, found.answer, found.fault) == (prompt, answer, "")
    assert found.sample is not None and roles_of(found.sample) == roles
    assert found.place == "train.jsonl:7"


def test_a_row_that_cannot_be_used_says_field_and_reason() -> None:
    found = line({"prompt": "x", "completion": 4}, "completion")
    assert found.fault.startswith("completion: ") and found.sample is None
    assert "columns are a, b" in line({"a": 1, "b": 2}, "").fault
    broken = line_of(Bad("/data/train.jsonl", 3, "", "is not JSON: x"), 2, "messages", Data())
    assert broken.fault == "is not JSON: x" and broken.place == "train.jsonl:3"


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("", Wanted()),
        ("  Two WORDS ", Wanted(texts=("two", "words"))),
        ('bad "is bad" "bad"', Wanted(bad=True, texts=("is bad", "bad"))),
        ("file:train format:mess", Wanted(files=("train",), formats=("mess",))),
        ("file: http://x", Wanted(texts=("http://x",))),
    ],
)
def test_what_is_typed_into_the_filter(typed: str, wanted: Wanted) -> None:
    assert Wanted.of(typed) == wanted
    assert wanted.everything == (typed == "")


@pytest.mark.parametrize(
    ("typed", "passes"),
    [
        ("MÜNCHEN", True),
        ("münchen 42", True),
        ("nested", True),
        ("berlin", False),
        ("bad", False),
        ("file:train.jsonl", True),
        ("file:other", False),
        ("format:mess", True),
        ("format:alpaca", False),
        ('"user münchen"', False),
    ],
)
def test_the_filter_looks_into_every_text_of_a_row(typed: str, passes: bool) -> None:
    messages = [{"role": "user", "content": "München"}, {"role": "assistant", "content": "yes"}]
    row = line({"messages": messages, "meta": {"nested": [42]}}, "messages")
    assert Wanted.of(typed).matches(row) == passes


def test_bad_rows_are_found_by_word_and_by_reason() -> None:
    broken = line_of(Bad("/data/train.jsonl", 3, "", "is not JSON: x"), 2, "messages", Data())
    assert Wanted.of("bad").matches(broken) and Wanted.of("not json").matches(broken)
