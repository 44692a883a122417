"""Rows of each format become chats; what does not fit names the field in the row's own words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamahome_tui.data.formats import FORMATS, RowError, detect, to_sample, unknown_format
from llamahome_tui.data.rows import Row

U, A, S = ({"role": role, "content": role} for role in ("user", "assistant", "system"))


def row(**value: Any) -> Row:
    return Row("d.jsonl", 7, value)


def chat(format: str, columns: dict[str, str] | None = None, /, **value: Any) -> list[tuple[str, Any]]:
    made = to_sample(row(**value), format, columns)
    assert (made.file, made.line) == ("d.jsonl", 7)
    return [(message["role"], message.get("content", message.get("tool_calls"))) for message in made.messages]


def test_messages() -> None:
    assert chat("messages", messages=[S, U, A]) == [("system", "system"), ("user", "user"), ("assistant", "assistant")]
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert chat("messages", messages=[{"role": "user", "content": parts}, A])[0] == ("user", "ab")
    calls = [{"type": "function", "function": {"name": "f", "arguments": {}}}]
    found = chat("messages", messages=[U, {"role": "assistant", "content": None, "tool_calls": calls}])
    assert found[1] == ("assistant", calls)
    made = to_sample(row(messages=[U, A | {"weight": 0}, U, A | {"weight": 1}]), "messages")
    assert [message.get("train", True) for message in made.messages] == [True, False, True, True]


def test_sharegpt() -> None:
    talk = [{"from": "human", "value": "h"}, {"from": "gpt", "value": "g"}]
    assert chat("sharegpt", conversations=talk) == [("user", "h"), ("assistant", "g")]
    assert chat("sharegpt", conversations=talk, system="s")[0] == ("system", "s")
    calls = [
        {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
        {"from": "observation", "value": "o"},
    ]
    made = to_sample(row(conversations=[talk[0], *calls, talk[1]], tools='[{"name": "f"}]'), "sharegpt")
    assert made.messages[1]["tool_calls"][0]["function"] == {"name": "f", "arguments": {"x": 1}}
    assert made.messages[2]["role"] == "tool"
    assert made.tools == ({"type": "function", "function": {"name": "f"}},)


def test_alpaca() -> None:
    assert chat("alpaca", instruction="i", output="o") == [("user", "i"), ("assistant", "o")]
    assert chat("alpaca", instruction="i", input="", output="o") == [("user", "i"), ("assistant", "o")]
    found = chat("alpaca", instruction="i", input="x", output="o", system="s", history=[["q", "a"]])
    assert found == [("system", "s"), ("user", "q"), ("assistant", "a"), ("user", "i\nx"), ("assistant", "o")]


def test_prompt_and_completion() -> None:
    assert chat("completion", prompt="p", completion="c") == [("user", "p"), ("assistant", "c")]
    columns = {"prompt": "question", "completion": "answer"}
    assert chat("completion", columns, question="p", answer="c") == [("user", "p"), ("assistant", "c")]
    assert chat("completion", prompt=[S, U], completion=[A])[2] == ("assistant", "assistant")
    assert to_sample(row(prompt="p", completion="c"), "completion").raw
    assert not to_sample(row(prompt=[U], completion="c"), "completion").raw


@pytest.mark.parametrize(
    ("format", "value", "field", "reason"),
    [
        ("messages", {}, "messages", "is missing"),
        ("messages", {"messages": "x"}, "messages", "is no list"),
        ("messages", {"messages": []}, "messages", "is empty"),
        ("messages", {"messages": ["x"]}, "messages[0]", "no object"),
        ("messages", {"messages": [U, {"content": "x"}]}, "messages[1].role", "is missing"),
        ("messages", {"messages": [{"role": "alien", "content": ""}]}, "messages[0].role", "alien"),
        ("messages", {"messages": [U, {"role": "assistant"}]}, "messages[1].content", "is missing"),
        ("messages", {"messages": [{"role": "user", "content": 3}]}, "messages[0].content", "no text"),
        (
            "messages",
            {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            "messages[0].content[0]",
            "text",
        ),
        ("messages", {"messages": [U]}, "", "no assistant message"),
        ("messages", {"messages": [U, {"role": "assistant", "content": " \n"}]}, "", "empty assistant"),
        ("messages", {"messages": [U, A | {"weight": 2}]}, "messages[1].weight", "0 or 1"),
        ("sharegpt", {"conversations": [{"from": "alien", "value": ""}]}, "conversations[0].from", "alien"),
        ("sharegpt", {"conversations": [{"from": "human"}]}, "conversations[0].value", "is missing"),
        ("sharegpt", {"conversations": [{"from": "function_call", "value": "x"}]}, "conversations[0].value", "call"),
        ("sharegpt", {"conversations": [{"from": "human", "value": "x"}], "tools": "x"}, "tools", "no JSON"),
        ("alpaca", {"instruction": "x"}, "output", "is missing"),
        ("alpaca", {"instruction": 3, "output": "x"}, "instruction", "no text"),
        ("alpaca", {"instruction": "x", "output": "x", "history": [["a"]]}, "history[0]", "pair"),
        ("completion", {"prompt": "x"}, "completion", "is missing"),
    ],
)
def test_what_does_not_fit_names_the_field(format: str, value: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(RowError) as error:
        to_sample(row(**value), format)
    assert error.value.field == field
    assert reason in error.value.reason


def test_fields_are_named_in_the_rows_own_words() -> None:
    with pytest.raises(RowError) as error:
        to_sample(row(question=3, answer="x"), "completion", {"prompt": "question", "completion": "answer"})
    assert error.value.field == "question"


def test_detection() -> None:
    assert detect([row(messages=[U, A])]) == "messages"
    assert detect([row(conversations=[{"from": "human", "value": ""}])]) == "sharegpt"
    assert detect([row(conversations=[U, A])]) == "messages"
    assert detect([row(instruction="i", output="o")]) == "alpaca"
    assert detect([row(prompt="i", completion="o")]) == "completion"
    assert detect([row(q="i", a="o")], {"prompt": "q", "completion": "a"}) == "completion"
    assert detect([row(x=1), row(instruction="i", output="o"), row(instruction="i", output="o")]) == "alpaca"
    assert detect([row(x=1)]) == ""
    assert detect([]) == ""
    assert 'prompt = "question", completion = "answer"' in unknown_format([row(question="", answer="")])
    assert "preference" in unknown_format([row(conversations=[U], chosen={}, rejected={})])


def test_groups() -> None:
    assert to_sample(row(prompt="p", completion="c", user=4), "completion", {}, "user").group == "4"
    with pytest.raises(RowError) as error:
        to_sample(row(prompt="p", completion="c"), "completion", {}, "user")
    assert error.value.field == "user"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "from", "value", "type", "text", "weight"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["messages", "conversations", "prompt", "completion", "instruction", "output", "system", "tools", "history"]
)


@given(st.dictionaries(NAMES, VALUES, max_size=5), st.sampled_from(FORMATS))
def test_any_row_is_a_chat_or_a_reason(value: dict[str, Any], format: str) -> None:
    detect([row(**value)])
    try:
        assert to_sample(row(**value), format).answer is not None
    except RowError as error:
        assert error.reason
