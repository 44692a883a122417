"""The format `quiz`: a question, its choices, and the number of the right one."""

from collections.abc import Mapping
from typing import Any

from llamahome_tui.data.plugged import PluggedFormat


def fits(row: Mapping[str, Any]) -> bool:
    return row.keys() >= {"question", "choices", "right"}


def write(row: Mapping[str, Any]) -> Mapping[str, Any]:
    choices, right = row["choices"], row["right"]
    if not isinstance(right, int) or not 0 <= right < len(choices):
        raise ValueError(f"right is {right!r}, and there are {len(choices)} choices")
    return {"prompt": f"{row['question']} {' or '.join(choices)}?", "completion": choices[right]}


quiz = PluggedFormat(
    rule="question, a list of choices, and right: the number of the right one, from 0",
    example='{"question": "2 + 2:", "choices": ["4", "5"], "right": 0}',
    learned="the right choice",
    fits=fits,
    becomes="completion",
    write=write,
)
