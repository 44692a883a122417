"""JSON text made into values, strictly: no NaN, no infinity, bounded depth, no text that a tokenizer cannot take."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from llamahome_tui.data.limits import MAX_DEPTH

_HALF = re.compile("[\ud800-\udfff]")
_KINDS = {
    dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number",
}  # fmt: skip
_AFTER = re.compile(r"[ \t\r\n]*")


class NotJson(Exception):
    """Why a text is no JSON, in words that follow "the line"."""


def decoded(text: str) -> Any:
    """The one value of a text. Raises NotJson.

    What JSON allows and a tokenizer does not take (see `unusable`) is only looked for where the text could hold it.
    """
    try:
        value, end = DECODER.raw_decode(text, 0 if text[:1] == "{" else _start(text))
    except json.JSONDecodeError as error:
        where = f" column {error.colno}" if error.msg.endswith(" at") else f" (column {error.colno})"
        raise NotJson(f"is not JSON: {error.msg}{where}") from None
    except RecursionError:
        raise NotJson("is nested too deep") from None
    except ValueError as error:
        raise NotJson(f"is not JSON: {str(error)[:100]}") from None
    if text[end:] not in ("", "\n", "\r\n") and (rest := _start(text, end)) != len(text):
        column = rest - text.rfind("\n", 0, rest)
        raise NotJson(f"is not JSON: something follows the value (column {column})")
    return value


def suspicious(text: str, start: int = 0, end: int | None = None) -> bool:
    r"""Whether a JSON text can hold what `unusable` finds: an escape (\u0000, \ud800), or more brackets than levels."""
    until = len(text) if end is None else end
    if text.find("\\u", start, until) >= 0:
        return True
    return text.count("[", start, until) + text.count("{", start, until) > MAX_DEPTH


def unusable(value: Any, depth: int = MAX_DEPTH) -> str:
    """Why a value that JSON allows cannot be text for a tokenizer, or ""."""
    if isinstance(value, str):
        if "\0" in value:
            return "holds a NUL character"
        if not value.isascii() and _HALF.search(value):
            return "holds half of a character (a lone surrogate)"
        return ""
    if isinstance(value, dict | list):
        if depth == 0:
            return f"is nested deeper than {MAX_DEPTH}"
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        return next((reason for one in inner if (reason := unusable(one, depth - 1))), "")
    return ""


def kind_of(value: Any) -> str:
    """A value's kind in words, after "is"."""
    return _KINDS.get(type(value), "null")


def _start(text: str, at: int = 0) -> int:
    found = _AFTER.match(text, at)
    return found.end() if found else at


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON value")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{digits[:20]} is too large a number")
    return value


DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)
