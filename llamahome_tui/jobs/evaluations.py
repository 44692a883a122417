"""What `evaluate` has found of a run: a file for each result among its artifacts, the newest of them kept."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from llamahome_tui.jobs.store import Run, read_object, write_object
from llamahome_tui.units import utc

FILES: Final = 20
SAMPLES: Final = 20  # of a result
LONGEST: Final = 4000  # characters of a text
_MOST: Final = 4 << 20  # bytes of a file that is read
_NAME: Final = re.compile(r"evaluate-\d{8}-\d{6}-[0-9a-f]{6}\.json")


def keep(run: Run, result: Mapping[str, Any], now: float | None = None) -> Path:
    """Write a result of `evaluate` with the time it was found; the oldest ones go. Raises OSError."""
    now = time.time() if now is None else now
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    run.artifacts_dir.mkdir(mode=0o700, exist_ok=True)
    path = run.artifacts_dir / f"evaluate-{stamp}-{os.urandom(3).hex()}.json"
    samples = [{name: _bounded(value) for name, value in one.items()} for one in result["samples"][:SAMPLES]]
    write_object(path, {"v": 1, "t": utc(now), **result, "samples": samples})
    for old in _paths(run)[FILES:]:
        old.unlink(missing_ok=True)
    return path


def newest(run: Run, most: int = FILES) -> tuple[Mapping[str, Any], ...]:
    """The results that are kept, the newest first; a file that is no result is passed over."""
    found: list[Mapping[str, Any]] = []
    for path in _paths(run):
        if len(found) == most:
            break
        value = read_object(path, _MOST)
        if value is not None and _is_result(value):
            found.append(value)
    return tuple(found)


def rows_of(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """The table of a result: heads, and a row for each figure that there is."""
    if result["comparison"]:
        return ("metric", "base", "tuned", "difference", "95%"), [_compared(one) for one in result["comparison"]]
    return ("metric", "value"), [(name, value) for name, value in result["scores"].items() if value is not None]


def about(result: Mapping[str, Any]) -> str:
    """What was asked, in a line: `200 held-out rows of gsm8k.jsonl`."""
    names = ", ".join(Path(str(one)).name for one in result["data"][:3])
    more = f" and {len(result['data']) - 3} more" if len(result["data"]) > 3 else ""
    kind = "held-out rows" if result.get("held_out") else "rows"
    return f"{result['rows']} {kind} of {names}{more}"


def turned(result: Mapping[str, Any]) -> str:
    """How verdicts changed from the base, in a line; "" without a comparison."""
    found = result.get("changed")
    if not isinstance(found, dict):
        return ""
    words = ("wrong_to_right", "right_to_wrong", "both_right", "both_wrong")
    return ", ".join(f"{word.replace('_', ' ')} {found.get(word)}" for word in words) + f" (p {_short(found.get('p'))})"


def _compared(one: Mapping[str, Any]) -> tuple[Any, ...]:
    low, high, difference = one.get("low"), one.get("high"), one.get("difference")
    between = "" if low is None or high is None else f"{_short(low, '+')} to {_short(high, '+')}"
    return one.get("metric"), one.get("base"), one.get("tuned"), _short(difference, "+"), between


def _short(value: Any, sign: str = "") -> str:
    return f"{value:{sign}.4g}" if isinstance(value, int | float) else ""


def _bounded(value: Any) -> Any:
    return value[:LONGEST] if isinstance(value, str) else value


def _is_result(value: Mapping[str, Any]) -> bool:
    lists = all(isinstance(value.get(name), list) for name in ("comparison", "samples", "data"))
    each = all(isinstance(one, dict) for name in ("comparison", "samples") for one in value.get(name) or ())
    return lists and each and isinstance(value.get("scores"), dict) and isinstance(value.get("rows"), int)


def _paths(run: Run) -> list[Path]:
    try:
        names = [path for path in run.artifacts_dir.iterdir() if _NAME.fullmatch(path.name)]
    except OSError:
        return []
    return sorted(names, reverse=True)
