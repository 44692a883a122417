"""Conditions on a run's metrics, as `eval_loss<1.2`; a value that is not a number fulfils no condition but `!=`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from llamahome_tui.errors import UsageError

OPERATORS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_FORM = re.compile(
    r"\s*([A-Za-z_][\w./-]*)\s*(<=|>=|==|!=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(%?)\s*"
)


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison of a metric with a number."""

    metric: str
    operator: str
    value: float

    def holds(self, found: float | None) -> bool:
        """Whether this value fulfils the condition; null and NaN (a diverged run) fulfil only `!=`."""
        if found is None or math.isnan(found):
            return self.operator == "!="
        return OPERATORS[self.operator](found, self.value)

    def __str__(self) -> str:
        return f"{self.metric}{self.operator}{self.value:g}"


def read_condition(text: str) -> Condition:
    """The condition that `text` states; `90%` means 0.9. Raises UsageError."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise UsageError(
            f"{text!r} is not a condition: a metric, one of < <= > >= == !=, and a number",
            hint="as in: llamahome --batch runs assert latest 'eval_loss<1.2'",
            code="assert.form",
        )
    metric, sign, number, percent = match.groups()
    return Condition(metric, sign, float(number) / (100 if percent else 1))
