"""Nothing a terminal obeys and nothing a reader cannot see comes out of `clean`, whatever goes in."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamahome_tui.text import clean

ESC = "\x1b"

HOSTILE = {
    f"a{ESC}[31mred{ESC}[0m": "ared",
    f"a{ESC}]0;title\x07b": "ab",
    f"a{ESC}]52;c;aGVsbG8={ESC}\\b": "ab",
    f"a{ESC}P1$r0m{ESC}\\b": "ab",
    f"a{ESC}_payload{ESC}\\b": "ab",
    f"a{ESC}^secret{ESC}\\b": "ab",
    "a\x9b31mb": "ab",
    "a\x9d0;t\x9cb": "ab",
    f"a{ESC}(0b": "ab",
    f"a{ESC}cb": "ab",
    f"a{ESC}": "a",
    f"a{ESC}[": "a",
    f"a{ESC}]0;never ends": "a0;never ends",
    "a\x08\x08b\x7f": "ab",
    "abc\u202egpj.exe": "abcgpj.exe",
    "a\u2066b\u2069": "ab",
    "pay\u200bpal": "paypal",
    "e\ufeffnd": "end",
    "a\U000e0041\U000e007fb": "ab",
    "lone \ud800 half": "lone \ufffd half",
    "a\u200db": "ab",
    "line\u2028break\u0085here": "line break here",
    "a\r\nb\rc\nd": "a b c d",
    "tab\there": "tab    here",
}


@pytest.mark.parametrize(("text", "wanted"), HOSTILE.items(), ids=[ascii(text) for text in HOSTILE])
def test_hostile_text_is_cleaned(text: str, wanted: str) -> None:
    assert clean(text) == wanted


def test_newlines_and_tabs_stay_where_they_are_wanted() -> None:
    assert clean("a\r\nb\rc\td\u2028e", keep_newlines=True) == "a\nb\nc\td\ne"


def test_markup_is_not_touched() -> None:
    assert clean("[bold]x[/bold] [@click=app.quit]y") == "[bold]x[/bold] [@click=app.quit]y"


@pytest.mark.parametrize(
    "text", ["naïve café", "日本語テキスト", "👩\u200d👩\u200d👧", "می\u200cخواهم", "é", "🏳️\u200d🌈"]
)
def test_honest_text_stays(text: str) -> None:
    assert clean(text) == text


def test_towers_of_marks_are_cut() -> None:
    assert clean("z" + "\u0301" * 500) == "z" + "\u0301" * 8


def test_long_text_ends_in_an_ellipsis() -> None:
    assert clean("x" * 50, limit=10) == "x" * 9 + "…"
    assert clean("x" * 10, limit=10) == "x" * 10
    assert len(clean("x" * 10_000_000)) == 4000


def test_giant_hostile_lines_take_bounded_time() -> None:
    for piece in (f"{ESC}]", f"{ESC}[", "\u200d", "\u0301", "\x9d", "\r"):
        start = time.perf_counter()
        clean(piece * 5_000_000)
        assert time.perf_counter() - start < 2


@given(st.text(max_size=300), st.booleans(), st.integers(min_value=1, max_value=200))
def test_whatever_goes_in(text: str, keep: bool, limit: int) -> None:
    shown = clean(text, keep_newlines=keep, limit=limit)
    assert len(shown) <= limit
    assert clean(shown, keep_newlines=keep, limit=limit) == shown
    shown.encode()
    for character in shown:
        if keep and character in "\n\t":
            continue
        assert unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp"), ascii(character)
        assert character not in "\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff\u061c"


TOKENS = st.sampled_from(
    [ESC, "[", "]", "P", "\x07", "\\", "\x9b", "\x9c", "\x9d", "0", ";", "m", "a", "\n", "\r", "52", " "]
)


@given(st.lists(TOKENS, max_size=60))
def test_whatever_sequences_go_in(pieces: list[str]) -> None:
    shown = clean("".join(pieces))
    assert all(character.isprintable() for character in shown)
