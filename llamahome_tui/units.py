"""Durations, sizes and times as people write and read them; numbers inside the program are seconds and bytes."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BINARY = {"k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4, "p": 1024**5}
_DECIMAL = {"k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4, "p": 1000**5}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(?:([kmgtp])(i?)b?|b)?", re.IGNORECASE)


def parse_duration(text: str) -> float:
    """Seconds of `30d`, `1h30m`, `90s` or a bare number of seconds; raises ValueError."""
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)([smhdw]?)", text.strip().lower())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip().lower():
        raise ValueError(f"{text!r} is not a duration; write it as 30d, 1h or 90s")
    if len(parts) > 1 and not all(unit for _, unit in parts):
        raise ValueError(f"{text!r} is not a duration; give each number a unit, as 1h30m")
    return sum(float(number) * _SECONDS[unit or "s"] for number, unit in parts)


def parse_size(text: str) -> int:
    """Bytes of `200GiB`, `1.5GB` (decimal), `512M` (binary, as du means it) or a bare number; raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size; write it as 200GiB or 500MB")
    number, letter, binary = match.groups()
    if letter is None:
        return int(float(number))
    decimal = not binary and text.strip().lower().endswith("b")
    return int(float(number) * (_DECIMAL if decimal else _BINARY)[letter.lower()])


def human_bytes(count: float | None) -> str:
    """`1.4 GiB`; unknown is `n/a`."""
    if count is None:
        return "n/a"
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 1024 or unit == "TiB":
            return f"{size:.0f} {unit}" if unit == "B" or abs(size) >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("the loop returns at its last unit")


def human_duration(seconds: float | None) -> str:
    """`42 s`, `3 min 05 s`, `2 h 10 min`, `5 d 3 h`; unknown is `n/a`."""
    if seconds is None or not math.isfinite(seconds):
        return "n/a"
    if 0 < seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def short_duration(seconds: float | None) -> str:
    """A span in at most four characters for narrow columns: `42s`, `7m`, `3h`, `12d`; unknown is empty."""
    if seconds is None or not math.isfinite(seconds):
        return ""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def human_count(count: float | None) -> str:
    """`950`, `12.3k`, `1.24M`, `8.03B`; unknown is `n/a`."""
    if count is None:
        return "n/a"
    for limit, letter in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(count) >= limit:
            return f"{count / (1e3 if letter == 'k' else limit):.3g}{letter}"
    return f"{count:g}"


def utc(unix: float) -> str:
    """ISO 8601 in UTC with milliseconds, as every time in JSON and logs: `2026-01-31T08:15:00.250Z`."""
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
