"""When a written answer is right: one rule for each metric, on texts alone; white space at the ends never counts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

METRICS: Final = ("exact", "contains", "regex", "command")
EXPECTED: Final = "{expected}"  # in a pattern: the expected answer, taken literally


@dataclass(frozen=True, slots=True)
class Rule:
    """`expect` finds the answer in a longer text: its first group, or all it matches, where it matches last.

    exact: what is found in both texts is the same. contains: what is found in the expected text stands in the written
    one. regex: `pattern` matches in the written text. command: somebody else decides.
    """

    metric: str
    pattern: str = ""
    expect: str = ""

    def found(self, text: str) -> str | None:
        """The answer in a text; None where `expect` matches nowhere."""
        if not self.expect:
            return text.strip()
        matches = list(re.finditer(self.expect, text))
        if not matches:
            return None
        last = matches[-1]
        return str((last[1] if last.re.groups else last[0]) or "").strip()

    def score(self, expected: str, written: str) -> float | None:
        """1 or 0; None where a command has to say it."""
        if self.metric == "command":
            return None
        wanted = self.found(expected) or ""
        if self.metric == "regex":
            return float(re.search(self.pattern.replace(EXPECTED, re.escape(wanted)), written) is not None)
        if self.metric == "contains":
            return float(bool(wanted) and wanted in written)
        return float(self.found(written) == wanted)


def problem(expression: str) -> str:
    """What is wrong with a regular expression; "" for a good one."""
    try:
        re.compile(expression.replace(EXPECTED, "x"))
    except (re.error, RecursionError, OverflowError) as error:
        return str(error)
    return ""
