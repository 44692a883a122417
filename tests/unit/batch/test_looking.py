"""The people's forms of `data ...`: what is learned shows with and without a terminal, and bars keep to the width."""

from __future__ import annotations

import io
import os
import pty
import re
import sys

import pytest

from llamahome_tui.batch.looking import formats_lines, inspect_lines, stats_lines, validate_lines
from llamahome_tui.batch.paper import Paper, paper_of
from llamahome_tui.batch.tables import bars

PIECES = ["<|user|>", "hi", "\x1b[2J", "\n", "<|end|>", "Hel", "lo\n", "\n", "🦙", "", "", "<|end|>", "\n"]
MASK = [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0]
PART = {
    "text": "".join(PIECES), "ids": list(range(len(PIECES))), "pieces": PIECES, "mask": MASK,
    "special": [0] * len(PIECES), "trained_tokens": 7,
}  # fmt: skip
ROW = {"row": 3, "file": "a.jsonl", "line": 4, "format": "messages"}


def test_without_a_terminal_a_column_says_what_is_learned():
    assert list(inspect_lines({**ROW, **PART}, Paper())) == [
        "row     3",
        "place   a.jsonl:4",
        "format  messages",
        "",
        "13 tokens, 7 learned (54%)",
        "",
        "        | <|user|>hi↵",
        "        | <|end|>",
        "learned | Hello↵",
        "learned | ↵",
        "learned | 🦙<|end|>",
        "        | ↵",
    ]


def test_on_a_terminal_learned_tokens_are_underlined_and_coloured():
    lines = list(inspect_lines({**ROW, **PART}, Paper(80, marks=True, colour=True)))[6:]
    learned = "".join(re.findall("\x1b\\[4;32m(.*?)\x1b\\[0m", "".join(lines)))
    assert learned == "Hello↵↵🦙<|end|>"
    assert "\x1b[2J" not in "".join(lines)
    for line in lines:
        assert line.count("\x1b[0m") == len(re.findall("\x1b\\[[0-9;]*[^0-9;]", line)) / 2
    plain = [re.sub("\x1b\\[[0-9;]*m", "", line).replace("·", "") for line in lines]
    assert plain == ["<|user|>hi↵", "<|end|>Hello↵", "↵", "🦙<|end|>↵"]


def test_without_colour_the_underline_stays():
    lines = "".join(inspect_lines({**ROW, **PART}, Paper(80, marks=True)))
    assert "\x1b[4mHel\x1b[0m" in lines
    assert "32m" not in lines


def test_where_only_ascii_shows_signs_are_ascii():
    lines = list(inspect_lines({**ROW, **PART}, Paper(symbols=False)))
    assert "learned | Hello\\n" in lines


def test_a_pair_shows_both_sides():
    text = "\n".join(inspect_lines({**ROW, **PART, "chosen": PART, "rejected": {**PART, "trained_tokens": 0}}, Paper()))
    assert "chosen: 13 tokens, 7 learned" in text
    assert "rejected: 13 tokens, 0 learned" in text


@pytest.mark.parametrize("columns", [20, 40, 80, 300])
@pytest.mark.parametrize("symbols", [True, False])
def test_bars_keep_to_the_width_and_show_every_count(columns, symbols):
    counts = [("0-99", 0), ("100-199", 1), ("200-299", 100_000), ("300-1,000,000", 50_000)]
    lines = list(bars(counts, columns, symbols=symbols))
    assert max(map(len, lines)) <= max(columns, 36) and max(map(len, lines)) <= 100
    drawn = [len(line.split("  ")[-1]) for line in lines]
    assert "█" not in lines[0] and "#" not in lines[0]
    assert lines[1][-1] in "#▏"
    assert abs(drawn[2] - 2 * drawn[3]) <= 2
    assert symbols or "".join(lines).isascii()
    assert list(bars([], 80)) == []
    assert list(bars([("a", 0)], 80)) == ["a  0"]


def test_a_stats_form_names_what_is_lost():
    twins = {"exact": 2, "near": 1, "compared": 5, "examples": [{"row": "a:2", "twin": "a:1", "likeness": 1.0}]}
    data = {
        "rows": 10, "format": "messages", "tokens": 1000, "trained_tokens": 400, "trained_share": 0.4,
        "tokens_per_epoch": 900, "max_length": 64, "long_rows": 1, "long_share": 0.1, "lost_trained_tokens": 40,
        "lost_trained_share": 0.1, "untrained_rows": 1, "duplicates": twins,
        "overlap": {"against": "file", "rows": 4, **twins},
        "lengths": {"min": 1, "mean": 100.4, "p50": 1, "p90": 1, "p95": 1, "p99": 1, "max": 1000,
                    "histogram": [{"from": 0, "to": 1000, "rows": 9}, {"from": 1000, "to": 1001, "rows": 1}]},
        "longest": [{"file": "a", "line": 2, "tokens": 1000}], "padding": {"plain": 0.5, "sorted": 0.25, "packed": 0.0},
        "messages": [{"role": "user", "count": 10}], "bad": [], "bad_count": 0, "warnings": ["mind"],
    }  # fmt: skip
    text = "\n".join(stats_lines(data, Paper()))
    for said in (
        "400 (40.0%)", "1 row over 64 tokens (10.00%)", "40 learned tokens (10.00%)", "(near ones among the first 5)",
        "of 4 rows of the eval file", "plain 50.0%, sorted 25.0%, packed 0.0%", "\n0-999  9", "\n1,000  1", "a:2",
        "warning: mind", "mean 100",
    ):  # fmt: skip
        assert said in text
    assert "\x1b" not in text


def test_formats_and_validation():
    rule = {"name": "text", "rule": "a column text", "example": '{"text": "x"}', "learned": "all"}
    assert list(formats_lines([rule, rule], Paper()))[:2] == ["text", "  rule     a column text"]
    good = {"rows": 2000, "format": "text", "bad": [], "bad_count": 0}
    assert list(validate_lines(good, Paper())) == ["rows    2,000", "format  text", "bad     none"]


def test_what_a_stdout_can_show():
    assert paper_of(io.StringIO(), {"TERM": "xterm"}) == Paper(80)
    outer, inner = pty.openpty()
    with os.fdopen(inner, "w", encoding="utf-8") as terminal:
        marked = paper_of(terminal, {"TERM": "xterm-256color"})
        assert (marked.marks, marked.colour, marked.symbols) == (True, True, True)
        plain = paper_of(terminal, {"TERM": "xterm", "NO_COLOR": "1"})
        assert (plain.marks, plain.colour) == (True, False)
        assert not paper_of(terminal, {"TERM": "dumb"}).marks
    os.close(outer)
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert not paper_of(narrow, {}).symbols
    assert sys.stdout is not narrow
