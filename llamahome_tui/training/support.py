"""What this version can do of what a spec can say; one table, so that no key is ever taken and then ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# key -> the values that work, and why no others do. A key that is not here works with every value of its type.
LIMITS: dict[str, tuple[tuple[Any, ...], str]] = {
    "model.trust_remote_code": (("",), "this version runs no code from model repositories"),
    "launch.target": (("local",), "this version trains on this machine"),
    "launch.strategy": (("auto", "single", "ddp"), "this version gives each device the whole model"),
    "launch.nodes": ((1,), "this version trains on one machine"),
}


def limits(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(key, reason) for each dotted key of `values` (lists, not tuples) that this version cannot honour."""
    return [
        (key, f"{reason}; set it to {_shown(allowed)} or leave it out")
        for key, (allowed, reason) in LIMITS.items()
        if key in values and values[key] not in allowed
    ]


def _shown(allowed: tuple[Any, ...]) -> str:
    words = [
        "true" if one is True else "false" if one is False else f'"{one}"' if isinstance(one, str) else f"{one}"
        for one in allowed
    ]
    return " or ".join(words)
