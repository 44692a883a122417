"""Rows of each format become chats; what does not fit names the field in the row's own words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamahome_tui.data.formats import (
    FIELDS,
    FORMATS,
    RULES,
    RowError,
    most_voted,
    shape_of,
    to_sample,
    unknown_format,
)
from llamahome_tui.data.rows import Row
from llamahome_tui.data.samples import Chat, Judged, Pair, Sample, Text, chats_of

U, A, S = ({"role": role, "content": role} for role in ("user", "assistant", "system"))


HUMAN, GPT = {"from": "human", "value": "h"}, {"from": "gpt", "value": "g"}
CALL = {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'}
OBSERVED = {"from": "observation", "value": "o"}


def row(**value: Any) -> Row:
    return Row("d.jsonl", 7, value)


def chat(format: str, columns: dict[str, str] | None = None, /, **value: Any) -> list[tuple[str, Any]]:
    made = to_sample(row(**value), format, columns)
    assert (made.file, made.line) == ("d.jsonl", 7)
    assert isinstance(made, Chat)
    return spoken(made)


def spoken(chat: Chat) -> list[tuple[str, Any]]:
    return [(message["role"], message.get("content", message.get("tool_calls"))) for message in chat.messages]


def trained(chat: Chat) -> list[bool]:
    return [message.get("train", True) for message in chat.messages if message["role"] == "assistant"]


def made_of(format: str, columns: dict[str, str] | None = None, /, **value: Any) -> Sample:
    return to_sample(row(**value), format, columns)


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
        ("messages", {"messages": [U]}, "messages", "no assistant message"),
        (
            "messages",
            {"messages": [U, {"role": "assistant", "content": " \n"}]},
            "messages[1].content",
            "empty assistant",
        ),
        ("messages", {"messages": [U, A | {"weight": 2}]}, "messages[1].weight", "0 or 1"),
        ("sharegpt", {"conversations": [{"from": "alien", "value": ""}]}, "conversations[0].from", "alien"),
        ("sharegpt", {"conversations": [{"from": "human"}]}, "conversations[0].value", "is missing"),
        ("sharegpt", {"conversations": [{"from": "function_call", "value": "x"}]}, "conversations[0].value", "call"),
        ("sharegpt", {"conversations": [HUMAN, GPT], "tools": "x"}, "tools", "not JSON"),
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


def detect(rows: Sequence[Row], columns: Mapping[str, str] | None = None) -> str:
    return most_voted([shape_of(one.value, columns) for one in rows])


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
    assert detect([row(text="t")]) == "text"
    assert detect([row(text="all of it", instruction="i", output="o")]) == "alpaca"
    assert detect([row(prompt="i", chosen="a", rejected="b")]) == "preference"
    assert detect([row(conversations=[HUMAN], chosen=GPT, rejected=GPT)]) == "preference"
    for label in (True, 0, "False"):
        assert detect([row(prompt="i", completion="a", label=label)]) == "labels"
    assert detect([row(messages=[U, A], kto_tag=False)]) == "labels"
    assert detect([row(prompt="i", completion="a", label="sports")]) == "completion"
    assert detect([row(text="t", label=True)]) == "text"
    assert detect([row(prompt="article", label=1, text="x")], {"prompt": "prompt", "completion": "text"}) == "labels"
    assert detect([row(q="i", label="fine")], {"prompt": "q", "completion": "label"}) == "completion"
    assert detect([row(messages='[{"role": "user", "content": "x"}]')]) == "messages"
    assert 'prompt = "question", completion = "answer"' in unknown_format([row(question="", answer="")])
    assert "jq -c '.data[]'" in unknown_format([row(data=[{"x": 1}])])
    assert 'text = "content"' in unknown_format([row(content="", stars=1)])
    assert "and 9992 more" in unknown_format([row(**{f"c{n}": n for n in range(10_000)})])


def test_groups() -> None:
    assert to_sample(row(prompt="p", completion="c", user=4), "completion", {}, "user").group == "4"
    with pytest.raises(RowError) as error:
        to_sample(row(prompt="p", completion="c"), "completion", {}, "user")
    assert error.value.field == "user"


def test_every_format_has_a_rule_whose_example_is_told_and_read() -> None:
    assert {rule.name for rule in RULES} == set(FORMATS)
    for rule in RULES:
        found = Row("d.jsonl", 1, json.loads(rule.example))
        assert detect([found]) == rule.name
        to_sample(found, rule.name)
        assert rule.rule
        assert rule.learned


def test_text() -> None:
    assert made_of("text", text="t\n") == Text("t\n", "d.jsonl", 7)
    assert made_of("text", {"text": "content"}, content="t", text="other") == Text("t", "d.jsonl", 7)


def test_a_prompts_answers_are_not_learned() -> None:
    (made,) = chats_of(made_of("completion", prompt=[U, A, U], completion=[A]))
    assert trained(made) == [False, True]


def test_calls_and_tools_come_out_in_one_form_whatever_the_spelling() -> None:
    wanted = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    function = {"name": "f", "arguments": '{"x": 1}'}
    for message in (
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "type": "function", "function": function}]},
        {"role": "assistant", "tool_calls": [function]},
        {"role": "assistant", "content": None, "function_call": function},
        CALL,
        {"from": "function_call", "value": [function]},
    ):
        (made,) = chats_of(made_of("messages", messages=[U, message, {"role": "tool", "content": "o"}, A]))
        (call,) = made.messages[1]["tool_calls"]
        assert call in (wanted, wanted | {"id": "c1"})
    (made,) = chats_of(made_of("messages", messages=[U, A], tools=[{"type": "function", "function": {"name": "f"}}]))
    (bare,) = chats_of(made_of("messages", messages=[U, A], tools='[{"name": "f"}]'))
    assert made.tools == bare.tools


def test_what_parquet_leaves_empty_is_not_there() -> None:
    blank = {"tool_calls": None, "weight": None, "train": None, "name": None, "function_call": None}
    (made,) = chats_of(made_of("messages", messages=[U | blank, A | blank], conversations=None, tools=None))
    assert made.messages == (U, A)


PAIRS: list[dict[str, Any]] = [
    {"prompt": "q", "chosen": "good", "rejected": "bad"},
    {"prompt": [{"role": "user", "content": "q"}], "chosen": [{"role": "assistant", "content": "good"}],
     "rejected": [{"role": "assistant", "content": "bad"}]},
    {"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}],
     "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "bad"}]},
    {"prompt": "q", "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}],
     "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "bad"}]},
    {"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "good"},
     "rejected": {"from": "gpt", "value": "bad"}},
    {"messages": [{"role": "user", "content": "q"}], "chosen": {"role": "assistant", "content": "good"},
     "rejected": {"role": "assistant", "content": "bad"}},
    {"instruction": "q", "input": "", "chosen": "good", "rejected": "bad"},
]  # fmt: skip


@pytest.mark.parametrize("value", PAIRS)
def test_pairs_in_every_shape(value: dict[str, Any]) -> None:
    assert detect([row(**value)]) == "preference"
    made = made_of("preference", **value)
    assert isinstance(made, Pair)
    assert spoken(made.chosen) == [("user", "q"), ("assistant", "good")]
    assert spoken(made.rejected) == [("user", "q"), ("assistant", "bad")]
    assert made.chosen.raw == (value == PAIRS[0])


def test_a_pairs_prompt_is_what_both_begin_with_and_is_not_learned() -> None:
    good, bad = {"role": "assistant", "content": "good"}, {"role": "assistant", "content": "bad"}
    made = made_of("preference", chosen=[S, U, A, U, good], rejected=[S, U, A, U, bad, U, A])
    assert isinstance(made, Pair)
    assert trained(made.chosen) == [False, True]
    assert trained(made.rejected) == [False, True, True]
    assert spoken(made.chosen)[0] == ("system", "system")
    with_system = made_of("preference", prompt="q", chosen="a", rejected="b", system="s")
    assert isinstance(with_system, Pair)
    assert spoken(with_system.rejected)[0] == ("system", "s")
    assert not with_system.rejected.raw


def test_labels() -> None:
    for value in (
        {"prompt": "q", "completion": "a", "label": False},
        {"prompt": "q", "completion": "a", "label": "false"},
        {
            "prompt": [{"role": "user", "content": "q"}],
            "completion": [{"role": "assistant", "content": "a"}],
            "label": 0,
        },
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "kto_tag": False},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "label": False},
        {"instruction": "q", "output": "a", "kto_tag": False},
    ):
        assert detect([row(**value)]) == "labels"
        made = made_of("labels", **value)
        assert isinstance(made, Judged)
        assert not made.good
        assert spoken(made.chat) == [("user", "q"), ("assistant", "a")]
    made = made_of("labels", messages=[U, A, U, A, {"role": "tool", "content": "t"}, A], label=True)
    assert isinstance(made, Judged)
    assert made.good
    assert trained(made.chat) == [False, True, True]


@pytest.mark.parametrize(
    ("format", "value", "field", "reason"),
    [
        ("text", {}, "text", "is missing"),
        ("text", {"text": 3}, "text", "no text but a number"),
        ("text", {"text": " \n"}, "text", "is empty"),
        ("messages", {"messages": [U, S, A]}, "messages[1].role", "must come first"),
        ("messages", {"messages": [S, A, U]}, "messages[1].role", "no user message stands before"),
        ("messages", {"messages": [S, S, U, A]}, "messages[1].role", "a second time"),
        ("messages", {"messages": [U, {"role": "tool", "content": "x"}, A]}, "messages[1].role", "no assistant"),
        ("messages", {"messages": [U, A], "images": ["a.png"]}, "images", "only text"),
        ("messages", {"messages": [U, A | {"tool_calls": 3}]}, "messages[1].tool_calls", "no list"),
        ("messages", {"messages": [U, A | {"tool_calls": [3]}]}, "messages[1].tool_calls[0]", "no function call"),
        (
            "messages",
            {"messages": [U, A | {"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
            "messages[1].tool_calls[0].function.arguments",
            "not JSON",
        ),
        ("messages", {"messages": [U, A | {"reasoning_content": 3}]}, "messages[1].reasoning_content", "no text"),
        ("messages", {"messages": "[3"}, "messages", "not JSON"),
        ("messages", {"messages": [U, A], "tools": [{"description": "x"}]}, "tools[0]", "without a name"),
        ("messages", {"messages": [U, A], "tools": '["\\u0000"]'}, "tools", "NUL"),
        ("messages", {"messages": [U, A], "tools": "[" * 100 + "]" * 100}, "tools", "deeper"),
        ("sharegpt", {"conversations": [HUMAN, GPT | {"value": ""}]}, "conversations[1].value", "empty assistant"),
        ("sharegpt", {"conversations": [HUMAN, OBSERVED, GPT]}, "conversations[1].from", "no assistant"),
        ("sharegpt", {"conversations": [{"from": "system", "value": "s"}, HUMAN, GPT], "system": "t"},
         "conversations[0].from", "column system"),
        ("sharegpt", {"conversations": [HUMAN]}, "conversations", "no assistant message"),
        ("sharegpt", {"conversations": [HUMAN, CALL | {"value": "[]"}]}, "conversations[1].value", "empty list"),
        ("alpaca", {"instruction": "x", "output": ""}, "output", "empty assistant"),
        ("alpaca", {"instruction": "x", "output": "x", "history": [["q", ""]]}, "history[0][1]", "empty assistant"),
        ("completion", {"prompt": "x", "completion": ""}, "completion", "empty assistant"),
        ("completion", {"prompt": "x", "completion": []}, "completion", "is empty"),
        ("completion", {"prompt": [U, A], "completion": [U]}, "completion", "no answer"),
        ("preference", {"prompt": "q", "chosen": "a"}, "rejected", "is missing"),
        ("preference", {"chosen": "a", "rejected": "b"}, "prompt", "do not begin with one"),
        ("preference", {"prompt": "q", "chosen": "a", "rejected": "a"}, "rejected", "the same"),
        ("preference", {"prompt": "q", "chosen": "", "rejected": "a"}, "chosen", "empty assistant"),
        ("preference", {"prompt": "q", "chosen": "a", "rejected": {"from": "gpt"}}, "rejected.value", "is missing"),
        ("preference", {"prompt": "x", "chosen": [U, A], "rejected": [U, GPT]}, "prompt", "not what chosen"),
        ("preference", {"chosen": [U, A], "rejected": [U, A]}, "rejected", "the same"),
        ("preference", {"chosen": [U, A], "rejected": [U, A, U]}, "rejected", "goes on"),
        ("preference", {"chosen": [U, A], "rejected": [HUMAN, GPT]}, "rejected[0].value", "before the answer"),
        ("preference", {"conversations": [HUMAN], "chosen": OBSERVED, "rejected": GPT}, "chosen.from", "begins with"),
        ("labels", {"prompt": "q", "completion": "a"}, "label", "is missing"),
        ("labels", {"prompt": "q", "completion": "a", "label": "so"}, "label", "true or false"),
        ("labels", {"prompt": "q", "completion": "a", "label": 2}, "label", "true or false"),
        ("labels", {"messages": [U, A, U], "label": True}, "messages", "no answer after"),
    ],
)  # fmt: skip
def test_what_no_row_of_its_format_says_names_the_field(
    format: str, value: dict[str, Any], field: str, reason: str
) -> None:
    with pytest.raises(RowError) as error:
        to_sample(row(**value), format)
    assert error.value.field == field
    assert reason in error.value.reason


def test_columns_map_what_stands_inside_messages_too() -> None:
    columns = {"messages": "talk", "role": "speaker", "content": "said"}
    talk = [{"speaker": "user", "said": "u", "content": 3}, {"speaker": "assistant", "said": "a"}]
    assert detect([row(talk=talk)], columns) == "messages"
    assert chat("messages", columns, talk=talk) == [("user", "u"), ("assistant", "a")]
    for broken, field in (
        ([talk[0], {"speaker": "assistant"}], "talk[1].said"),
        ([{"said": "x"}], "talk[0].speaker"),
        ([], "talk"),
        ([talk[0], {"speaker": "assistant", "said": [{"type": "image"}]}], "talk[1].said[0]"),
    ):
        with pytest.raises(RowError) as error:
            to_sample(row(talk=broken), "messages", columns)
        assert error.value.field == field


def test_a_mapped_field_is_never_taken_from_a_column_of_its_name() -> None:
    with pytest.raises(RowError) as error:
        to_sample(row(prompt="theirs", completion="c"), "completion", {"prompt": "question"})
    assert (error.value.field, error.value.reason) == ("question", "is missing")
    assert chat("completion", {"prompt": "completion", "completion": "prompt"}, prompt="p", completion="c") == [
        ("user", "c"),
        ("assistant", "p"),
    ]
    made = made_of("preference", {"chosen": "yes", "rejected": "no", "prompt": "q"}, yes="a", no="b", q="p")
    assert isinstance(made, Pair)
    with pytest.raises(RowError) as error:
        to_sample(row(yes="", no="b", q="p"), "preference", {"chosen": "yes", "rejected": "no", "prompt": "q"})
    assert error.value.field == "yes"
    assert set(FIELDS) > {"prompt", "role"}


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
    [
        "messages",
        "conversations",
        "prompt",
        "completion",
        "instruction",
        "output",
        "system",
        "tools",
        "history",
        "text",
        "chosen",
        "rejected",
        "label",
        "kto_tag",
    ]
)


@given(st.dictionaries(NAMES, VALUES, max_size=5), st.sampled_from(FORMATS))
def test_any_row_is_a_sample_or_a_reason(value: dict[str, Any], format: str) -> None:
    detect([row(**value)])
    try:
        made = to_sample(row(**value), format)
    except RowError as error:
        assert error.reason
        return
    assert isinstance(made, Text) or all(chat.answer is not None for chat in chats_of(made))


def test_the_page_on_data_has_every_rule_and_example() -> None:
    page = Path(__file__).resolve().parents[3].joinpath("docs", "data.md").read_text()
    for rule in RULES:
        (line,) = [line for line in page.splitlines() if line.startswith(f"| `{rule.name}` |")]
        assert f"`{rule.example}`" in line
        plain = line.replace("`", "")
        assert rule.learned in plain
        assert rule.rule.replace(" and observation", ", observation") in plain.replace(
            " and observation", ", observation"
        )
