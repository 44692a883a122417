"""Tokens in lines: every character shows, lines break where they must, and a long row is laid out bit by bit."""

from __future__ import annotations

import pytest

from llamahome_tui.data.inspect import Part
from llamahome_tui.tui.widgets.token_lines import TITLE, Layout, visible


def part(*pieces: str, title: str = "", mask: bytes | None = None) -> Part:
    count = len(pieces)
    return Part(title, "".join(pieces), tuple(range(count)), pieces, mask or bytes(count), bytes(count))


def texts(layout: Layout) -> list[str]:
    return ["".join(text for text, _ in line) for line in layout.lines]


@pytest.mark.parametrize(
    ("piece", "shown"),
    [
        (" the", " the"),
        ("\n", "⏎\n"),
        ("a\n\nb", "a⏎\n⏎\nb"),
        ("\t", "⇥"),
        ("", "·"),
        ("\x1b[31m", "\\u{1b}[31m"),
        ("\u202eevil", "\\u{202e}evil"),
        ("\r\n", "\\r⏎\n"),
        ("\u0301", "\\u{301}"),
        ("日本", "日本"),
        ("👩\u200d🚀", "👩\u200d🚀"),
    ],
)
def test_nothing_of_a_token_is_invisible(piece: str, shown: str) -> None:
    assert visible(piece) == shown
    assert visible(piece, ascii_only=True).isascii()


def test_lines_break_between_tokens_and_within_long_ones() -> None:
    layout = Layout([part("one", " two", " three", "x" * 25)], 10)
    assert layout.more(100)
    assert texts(layout) == ["one two", " three", "x" * 10, "x" * 10, "x" * 5]
    assert layout.starts == [0, 0, 1, 2]
    assert layout.lines[3] == (("x" * 10, 3),)


def test_wide_characters_count_two_cells() -> None:
    layout = Layout([part("日本語", "日本語")], 10)
    layout.more(9)
    assert texts(layout) == ["日本語", "日本語"]


def test_parts_have_titles_and_tokens_are_numbered_through() -> None:
    layout = Layout([part("a", "b", title="chosen", mask=b"\0\1"), part("c", title="rejected")], 60)
    layout.more(10)
    assert texts(layout) == [
        "chosen: 1 of 2 tokens learned", "ab", "", "rejected: 0 of 1 tokens learned", "c",
    ]  # fmt: skip
    assert [token for line in layout.lines for _, token in line] == [TITLE, 0, 1, TITLE, 2]


def test_a_line_between_tokens() -> None:
    layout = Layout([part("a", "b\n", "c")], 60, edge="|")
    layout.more(10)
    assert texts(layout) == ["a|b⏎", "c"]


def test_a_long_row_is_laid_out_bit_by_bit() -> None:
    layout = Layout([part(*["ab "] * 1000), part("end")], 30)
    assert not layout.more(500)
    assert len(layout.starts) == 500
    assert not layout.more(500)
    assert layout.more(500) and layout.done
    assert len(layout.starts) == 1001 and texts(layout)[-1] == "end"
