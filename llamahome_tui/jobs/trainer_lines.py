"""Reads metrics and progress out of what a foreign trainer prints; it only reads, and takes no line for code.

Hugging Face's Trainer (and TRL, Axolotl, LLaMA-Factory, which print through it) writes a Python dict per log step,
transformers 5 with its numbers as strings, and tqdm bars that repaint themselves with carriage returns.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

Number: TypeAlias = float | int

MAX_SEGMENT: Final = 64 << 10  # bytes of a line or bar that are looked at; the rest of a longer one is passed over
_RENAMED: Final = {
    "learning_rate": "lr",
    "num_tokens": "tokens",
    "num_input_tokens_seen": "tokens",
    "train_tokens_per_second": "tokens_per_s",
}
# A dict of numbers is a trainer's log line only if it speaks of one of these.
_SIGNS: Final = re.compile(r"(?:^|_)(?:loss|lr|learning_rate|grad_norm|runtime|epoch|accuracy|reward|perplexity)")
_TQDM: Final = re.compile(
    r"(?:^|(?P<label>[^|\r\n]{0,80}?):?\s*)(?P<percent>\d{1,3})%\|[^|]{0,400}\|\s*"
    r"(?P<done>\d+(?:\.\d+)?)(?P<done_unit>[kMG]?)/(?P<total>\d+(?:\.\d+)?)(?P<total_unit>[kMG]?)\s*"
    r"\[(?P<elapsed>[\d:]+)<(?P<left>[\d:?]+)(?:,\s*(?P<rate>[^,\]]{0,40}))?"
)
_ITEM: Final = re.compile(
    r"""\s*(?:'([^'\\]{1,80})'|"([^"\\]{1,80})")\s*:\s*"""
    r"""(?:'([^'\\]{0,80})'|"([^"\\]{0,80})"|([-+]?[\w.+-]{1,40}))\s*(,|(?=\}))"""
)
_ESCAPES: Final = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]")
_UNITS: Final = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}


@dataclass(frozen=True, slots=True)
class Measured:
    """One log line of a trainer: flat numbers; `step` where the line itself names it."""

    values: dict[str, Number | None]
    step: int | None


@dataclass(frozen=True, slots=True)
class Bar:
    """The latest state of a tqdm bar; the bar of the training steps has no label."""

    label: str
    done: int
    total: int
    eta_s: float | None
    rate: str


Finding: TypeAlias = Measured | Bar


def read_segment(segment: bytes) -> Iterator[Finding]:
    """What one line, or one repaint of a bar, says; nothing where it says nothing we know."""
    if len(segment) > MAX_SEGMENT or (b"{" not in segment and b"%|" not in segment):
        return
    text = _ESCAPES.sub(b"", segment).decode("utf-8", "replace")
    if "%|" in text and (bar := _bar(text)) is not None:
        yield bar
    # A log line can stand behind a bar that was not ended: the dict is looked for anywhere in the segment.
    at = text.find("{")
    while at >= 0:
        found, end = _numbers(text, at)
        if found is not None:
            yield found
        at = text.find("{", end)


class Segments:
    """Cuts a stream of bytes into segments at newlines and carriage returns; memory is bounded."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes]:
        """The segments that are whole now."""
        pieces = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        self._rest = pieces.pop()
        if self._skipping and pieces:
            pieces.pop(0)
            self._skipping = False
        if len(self._rest) > MAX_SEGMENT:
            self._rest, self._skipping = b"", True
        return [piece for piece in pieces if piece]

    def rest(self) -> list[bytes]:
        """What is left when the stream has ended."""
        last, self._rest = self._rest, b""
        return [last] if last and not self._skipping else []


def _bar(text: str) -> Bar | None:
    repaints = list(_TQDM.finditer(text))
    if not repaints:
        return None
    match = repaints[-1]
    total = _count(match["total"], match["total_unit"])
    done = _count(match["done"], match["done_unit"])
    if total <= 0:
        return None
    return Bar((match["label"] or "").strip(" :"), done, total, _clock(match["left"]), (match["rate"] or "").strip())


def _count(number: str, unit: str) -> int:
    return round(float(number) * _UNITS[unit])


def _clock(text: str) -> float | None:
    """Seconds of tqdm's `05:10` or `1:02:03`; None of `?`."""
    if "?" in text:
        return None
    seconds = 0
    for part in text.split(":"):
        seconds = seconds * 60 + int(part or 0)
    return float(seconds)


def _numbers(text: str, at: int) -> tuple[Measured | None, int]:
    """The dict of numbers that begins at `at`, and where to look on."""
    values: dict[str, Number | None] = {}
    position = at + 1
    while (item := _ITEM.match(text, position)) is not None:
        key = item[1] or item[2]
        word = next((w for w in (item[3], item[4], item[5]) if w is not None), "")
        is_number, value = _number(word)
        if is_number:
            values[_RENAMED.get(key, key)] = value
        position = item.end()
        if item[6] != ",":
            break
    closed = re.compile(r"\s*\}").match(text, position)
    if closed is None or not values or not any(_SIGNS.search(key) for key in values):
        return None, at + 1
    step = next((values.pop(name) for name in ("step", "global_step") if name in values), None)
    return Measured(values, int(step) if step is not None and step >= 0 else None), closed.end()


def _number(word: str) -> tuple[bool, Number | None]:
    """Whether the word is a number, and which; numbers that are not finite are null, as everywhere in a journal."""
    try:
        return True, int(word)
    except ValueError:
        pass
    try:
        value = float(word)
    except ValueError:
        return False, None
    return True, value if math.isfinite(value) else None
