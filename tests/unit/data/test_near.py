"""Near duplicates: what brute force finds is found, and nothing else; what is not compared is said."""

from __future__ import annotations

import random

import numpy as np
import pytest

from llamahome_tui.data.near import THRESHOLD, Sketches, words
from llamahome_tui.data.samples import Chat, Judged, Pair, Text


def told(*said: tuple[str, str]) -> Chat:
    return Chat(tuple({"role": role, "content": text} for role, text in said))


def likeness(left: list[str], right: list[str]) -> float:
    a, b = ({tuple(one[at : at + 3]) for at in range(max(1, len(one) - 2))} for one in (left, right))
    return len(a & b) / len(a | b)


def rows_of(seed: int, count: int = 300) -> list[list[str]]:
    """Rows of 20 to 120 words; every third is an earlier one with a few words changed."""
    draw = random.Random(seed)
    rows: list[list[str]] = []
    for number in range(count):
        if number % 3 == 2:
            row = list(draw.choice(rows))
            for _ in range(draw.randrange(5)):
                row[draw.randrange(len(row))] = f"w{draw.randrange(5000)}"
        else:
            row = [f"w{draw.randrange(5000)}" for _ in range(draw.randrange(20, 120))]
        rows.append(row)
    return rows


@pytest.mark.parametrize("seed", range(4))
def test_finds_what_comparing_all_with_all_finds(seed: int) -> None:
    rows = rows_of(seed)
    sketches = Sketches()
    assert all(sketches.add(row) for row in rows)
    found = {row: (twin, like) for row, twin, like in sketches.near(np.arange(len(rows)))}
    wanted = {late for late in range(len(rows)) if any(likeness(rows[late], rows[e]) >= THRESHOLD for e in range(late))}
    assert set(found) == wanted
    for row, (twin, like) in found.items():
        assert twin < row
        assert like == pytest.approx(likeness(rows[row], rows[twin]))


def test_across_two_sides_only_the_other_side_counts() -> None:
    rows = rows_of(7)
    sketches = Sketches()
    for row in rows:
        sketches.add(row)
    held = np.arange(1, len(rows), 2)
    trained = np.arange(0, len(rows), 2)
    found = {row for row, twin, _ in sketches.near(held, trained)}
    wanted = {int(h) for h in held if any(likeness(rows[h], rows[t]) >= THRESHOLD for t in trained)}
    assert found == wanted
    assert sketches.near(held, np.zeros(0, dtype=np.int64)) == []
    assert sketches.near(np.zeros(0, dtype=np.int64)) == []


def test_many_alike_are_found_without_comparing_all_with_all() -> None:
    draw = random.Random(1)
    base = [f"w{n}" for n in range(200)]
    sketches = Sketches()
    for _ in range(3000):
        row = list(base)
        row[draw.randrange(200)] = f"w{draw.randrange(9999)}"
        sketches.add(row)
    found = sketches.near(np.arange(3000))
    assert len(found) == 2999


def test_short_and_empty_rows() -> None:
    sketches = Sketches()
    for row in ([], ["a"], ["a"], ["a", "b"], ["b", "a"], []):
        sketches.add(row)
    assert [(row, twin) for row, twin, _ in sketches.near(np.arange(6))] == [(2, 1), (5, 0)]


def test_past_its_limit_nothing_more_is_compared() -> None:
    sketches = Sketches(limit=1000)
    taken = [sketches.add([f"w{n}-{at}" for at in range(100)]) for n in range(5000)]
    sketches.near(np.arange(len(sketches)))
    assert taken.count(True) == len(sketches) < 5000
    assert taken == sorted(taken, reverse=True)


def test_words_leave_out_case_punctuation_and_system_prompts() -> None:
    chat = told(("system", "You are kind."), ("user", "Was ist das?  STRASSE, Straße!"), ("assistant", "x_1 - 3.5"))
    assert words(chat) == ["was", "ist", "das", "strasse", "strasse", "x", "1", "3", "5"]
    assert words(Text("你好 world")) == ["你", "好", "world"]
    calls = Chat(({"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]},))
    assert words(calls) == ["function", "name", "add", "arguments", "a", "1"]


def test_a_pair_says_its_prompt_once() -> None:
    chosen, rejected = told(("user", "two"), ("assistant", "four")), told(("user", "two"), ("assistant", "five"))
    assert words(Pair(chosen, rejected)) == ["two", "four", "five"]
    assert words(Judged(chosen, good=False)) == ["two", "four"]
