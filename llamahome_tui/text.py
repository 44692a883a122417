"""Text from outside made safe to show: the one function every name, log line, row and reply passes before a screen."""

from __future__ import annotations

import re
from functools import cache

_STRING_END = r"(?:\x07|\x1b\\|\x9c)"
_SEQUENCES = (
    # Strings first (OSC, DCS, SOS, PM, APC), as their payload may look like anything. An unterminated one loses its
    # introducer only: the payload is then plain text, and a hostile row cannot hide what follows it.
    rf"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90\x98\x9c-\x9f]*+{_STRING_END}"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI
    r"|\x1b[ -/]*[0-~]"  # two and three byte sequences
)
_BREAKS = "\r\n|[\n\r\x0b\x0c\x85\u2028\u2029]"
_INVISIBLE = (
    "[\x00-\x08\x0e-\x1f\x7f-\x9f"  # C0 but tab and line ends, DEL, C1; then bidi, zero width
    "\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_NOT_TEXT = "[\ud800-\udfff\ufffe\uffff]"
# Joiners are letters' business in Persian, Indic scripts and emoji; anywhere else they only hide differences.
_JOINERS = "(?<![^\x00-\xff\u200c\u200d])[\u200c\u200d]+|[\u200c\u200d]+(?![^\x00-\xff\u200c\u200d])"
_MARK = "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_MARKS = f"({_MARK}{{8}}){_MARK}+"


def clean(text: str, *, limit: int = 4000, keep_newlines: bool = False) -> str:
    """`text` without anything a terminal would obey or a reader could not see, at most `limit` characters.

    Line breaks become spaces and tabs four spaces, so that the result is one line; with `keep_newlines` every kind of
    line break becomes a newline and tabs stay. Longer text ends in an ellipsis. Markup is not touched: show the result
    where none is parsed.
    """
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    # Bounds the time for giant input: what is past this could only show if nearly all before it were sequences.
    cut = len(text) > limit * 4 + 256
    text = text[: limit * 4 + 256]
    text = _pattern(_SEQUENCES).sub("", text)
    text = _pattern(_BREAKS).sub("\n" if keep_newlines else " ", text)
    if not keep_newlines:
        text = text.replace("\t", "    ")
    text = _pattern(_INVISIBLE).sub("", text)
    text = _pattern(_NOT_TEXT).sub("\ufffd", text)
    text = _pattern(_JOINERS).sub("", text)
    text = _pattern(_MARKS).sub(r"\1", text)
    if len(text) > limit or cut:
        text = text[: max(0, limit - 1)] + "…"
    return text


@cache
def _pattern(source: str) -> re.Pattern[str]:
    """Compiled when a text needs it: most need none, and the command line starts on them."""
    return re.compile(source)
