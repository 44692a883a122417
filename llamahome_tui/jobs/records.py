"""The form of a journal line: one JSON object of at most 1 MiB with its newline; anything else is no record."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

Record: TypeAlias = dict[str, Any]

VERSION: Final = 1
MAX_LINE: Final = 1 << 20  # bytes of a record with its newline

_LAST_T: Final = 253_402_300_799.0  # the last second that a date can name

_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=str)
_decoder = json.JSONDecoder(parse_constant=lambda _name: None)


def parse(line: bytes) -> Record | None:
    """The record on one complete line, or None when it is not one: garbage, NULs, too long, without
    its times, or of another version."""
    record = parse_any(line)
    if record is None or record.get("v") != VERSION:
        return None
    return record if _is_time(record.get("t"), _LAST_T) and _is_time(record.get("mono"), _LAST_T) else None


def _is_time(value: Any, last: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= last


def parse_any(line: bytes) -> Record | None:
    """The same for a record of any version: even one that can't be read has used up its number."""
    if len(line) > MAX_LINE or not line.startswith(b"{"):
        return None
    try:
        value = _decoder.decode(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        return None
    seq = value.get("seq")
    return value if isinstance(seq, int) and not isinstance(seq, bool) and seq >= 1 else None


def encode(record: Record) -> bytes:
    """The line of a record. Non-finite numbers become null, and what is too long is cut and marked."""
    try:
        text = _encoder.encode(record)
    except ValueError:
        text = _encoder.encode(_finite(record))
    line = text.encode("utf-8", "replace") + b"\n"
    return line if len(line) <= MAX_LINE else encode(_shortened(record))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _shortened(record: Record) -> Record:
    """The same record with its long fields cut, marked `cut`; at most 1 MiB for any number of fields."""
    head = {key: record[key] for key in ("v", "seq", "t", "mono", "type")}
    short: Record = {}
    room = MAX_LINE // 2
    for key, value in record.items():
        if key in head:
            continue
        if isinstance(value, str) and len(value) > 4096:
            value = value[:4096]
        size = len(json.dumps(_finite(value), default=str))
        if size <= min(room, MAX_LINE // 8) and len(key) < 256:
            short[key] = value
            room -= size + len(key) + 4
    return {**head, **short, "cut": True}
