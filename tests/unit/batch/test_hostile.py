"""T08: whatever stands in names, logs, records and replies, no byte that steers a terminal reaches stdout or stderr."""

from __future__ import annotations

import io
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamahome_tui.batch.output import JsonLines
from llamahome_tui.batch.people import People
from llamahome_tui.errors import DataError
from llamahome_tui.operations import OPERATIONS, find
from llamahome_tui.outcome import Accepted, Item, Note, Progress, Record, Result, Text
from llamahome_tui.schemas import RESULTS, SUPERVISOR_EVENTS, TRAINER_EVENTS

HOSTILE = (
    "\x1b]52;c;aGk=\x07", "\x1b[2J\x1b[H", "\x9b31m", "\x90q\x9c", "\u202egnp.exe", "\u2066x", "a\rb", "x\x08\x08",
    "\x1bc", "[@click=app.quit]x[/]", "[/path]", "\x00", "\ud800", "\x7f", "a\u200bb", "\x1b]8;;http://x\x1b\\l\x1b]8;;\x1b\\",
)  # fmt: skip
texts = st.one_of(
    st.sampled_from(HOSTILE), st.text(max_size=30), st.builds("".join, st.lists(st.sampled_from(HOSTILE)))
)


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that fit the schema, with hostile text wherever text may stand."""
    if "anyOf" in schema:
        return st.one_of([values(one) for one in schema["anyOf"]])
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum", [schema.get("const")]))
    match schema.get("type"):
        case "string":
            return texts
        case "integer":
            return st.integers(0, 2**50)
        case "number":
            return st.floats(0, 1)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case "array":
            return st.lists(values(schema["items"]), max_size=3)
        case "object" if schema.get("properties"):
            return st.fixed_dictionaries({k: values(v) for k, v in schema["properties"].items()})
        case _:
            return st.dictionaries(texts, st.one_of(texts, st.integers(0, 9), st.none()), max_size=3)


def harmless(text: str) -> bool:
    return not [
        c for c in text if (c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cs")) or c in "\u202e\u2066\u200b"
    ]


def streams(name: str) -> tuple[People, JsonLines, io.StringIO]:
    noun, _, verb = name.partition(" ")
    both = io.StringIO()
    people = People(find(noun, verb), both, both)
    return people, JsonLines(find(noun, verb), both, people), both


@pytest.mark.parametrize("name", sorted(RESULTS))
def test_results(name):
    @given(values(RESULTS[name]))
    @settings(max_examples=40, deadline=None)
    def check(data):
        if name.startswith("system"):
            return  # its words are tested with real snapshots
        people, machine, shown = streams(name)
        people.show(Result(data, hint="\x1b[2J"))
        machine.show(Result(data))
        assert harmless(shown.getvalue())

    check()


@given(st.sampled_from([o.name for o in OPERATIONS]), texts, texts)
@settings(max_examples=200, deadline=None)
def test_everything_else_an_operation_yields(name, one, two):
    people, machine, shown = streams(name)
    for writer in (people, machine):
        writer.show(Accepted(one))
        writer.show(Note(two))
        writer.show(Progress(one, 1, 2, two))
        writer.show(Text(one))
        writer.show(Text(two + "\n"))
        writer.fail(DataError(one, hint=two, data={"bad": [{"file": one, "line": 1, "field": two, "reason": one}]}))
    assert harmless(shown.getvalue())


@pytest.mark.parametrize("kind", sorted({**TRAINER_EVENTS, **SUPERVISOR_EVENTS}))
def test_records(kind):
    fields, _ = {**TRAINER_EVENTS, **SUPERVISOR_EVENTS}[kind]

    @given(st.fixed_dictionaries({k: values(dict(v)) for k, v in fields.items()}), texts)
    @settings(max_examples=40, deadline=None)
    def check(record, text):
        more = {"seq": 1, "t": 1.0, "type": kind, "message": text, "what": text, "why": text, text: text}
        for name in ("train start", "runs events"):
            people, machine, shown = streams(name)
            for writer in (people, machine):
                writer.show(Record("r", "trainer", {**more, **record}))
                writer.show(Record(text, text, {"type": text, "step": text, "seq": text, "t": text}))
            assert harmless(shown.getvalue())

    check()


@given(
    st.dictionaries(
        texts, st.one_of(texts, st.lists(st.dictionaries(texts, texts, max_size=2), max_size=2)), max_size=4
    )
)
@settings(max_examples=100, deadline=None)
def test_anything_without_a_form(data):
    people, machine, shown = streams("config path")
    for writer in (people, machine):
        writer.show(Item("x", data))
        writer.show(Result(data))
    assert harmless(shown.getvalue())
