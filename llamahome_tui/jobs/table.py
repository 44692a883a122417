"""Runs as CSV (RFC 4180): a line each, or a line for each measurement; no text in it is a formula to a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from llamahome_tui.jobs.comparison import facts_of, look, result_of
from llamahome_tui.jobs.course import Course, course_of, measurements
from llamahome_tui.jobs.store import Run
from llamahome_tui.text import clean

LONG: Final = ("run", "step", "tokens", "time_s", "metric", "value")
_RESULTS: Final = (
    "id", "name", "kind", "status", "step", "steps", "attempts", "host", "tokens", "tokens_per_s", "memory_bytes",
    "seconds", "unreadable_lines", "fault",
)  # fmt: skip
_POINTS: Final = 8  # of a curve that nobody draws
_LONGEST: Final = 32_000  # characters of a cell: a spreadsheet takes no more
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_LINES: Final = 500  # that are handed on together


def wide(runs: Sequence[Run], every_key: bool) -> Iterator[str]:
    """A line for each run: results, newest and best of each metric, and the keys that differ or, asked for, all."""
    rows, facts = [], []
    metrics: dict[str, None] = {}
    for run in runs:
        one = look(run, _POINTS)
        found = result_of(one, "loss", higher=False)
        row = {name: found[name] for name in _RESULTS}
        for name, series in one.course.series.items():
            metrics[name] = None
            for what, point in (("last", series.newest), ("lowest", series.lowest), ("highest", series.highest)):
                row[f"{name}.{what}"] = None if point is None else point[2]
        rows.append(row)
        facts.append(facts_of(one))
    keys = sorted({key for one in facts for key in one})
    shown = [key for key in keys if every_key or any(one.get(key) != facts[0].get(key) for one in facts[1:])]
    measured = [f"{name}.{what}" for name in sorted(metrics) for what in ("last", "lowest", "highest")]
    heads = [*_RESULTS, *measured, *(f"spec.{key}" for key in shown)]
    body = (
        [*(row.get(name) for name in (*_RESULTS, *measured)), *(one.get(key) for key in shown)]
        for row, one in zip(rows, facts, strict=True)
    )
    return written(heads, body)


def long(runs: Sequence[Run]) -> Iterator[str]:
    """A line for each number that counts, run by run, in the order of the journals; memory does not grow with them."""

    def rows() -> Iterator[Sequence[Any]]:
        for run in runs:
            known = course_of(run.events_path, _POINTS)  # tokens are known for certain only after what follows a step
            for one in measurements(run.events_path, Course()):
                tokens = known.tokens_at(one.step)
                for name, value in one.values.items():
                    yield run.id, one.step, None if tokens is None else round(tokens), one.time_s, name, value

    return written(LONG, rows())


def written(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """The text of a table in portions of whole lines."""
    page = io.StringIO(newline="")
    writer = csv.writer(page, lineterminator="\r\n")
    writer.writerow([cell(head) for head in heads])
    for number, row in enumerate(rows, 1):
        writer.writerow([cell(value) for value in row])
        if number % _LINES == 0:
            yield page.getvalue()
            page.seek(0)
            page.truncate()
    yield page.getvalue()


def cell(value: Any) -> str | float | int:
    """A value as it stands in the table: numbers as they are, a text that a spreadsheet would compute with a quote."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return value
    if isinstance(value, list | tuple | dict):
        value = json.dumps(value, ensure_ascii=False, default=str)
    text = clean(str(value), limit=_LONGEST)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text
