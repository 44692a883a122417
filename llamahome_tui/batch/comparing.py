"""The result of `runs compare` for people: tables, a line of bars for each curve, and what may not be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llamahome_tui.batch.paper import Paper
from llamahome_tui.batch.tables import table
from llamahome_tui.text import clean
from llamahome_tui.units import human_bytes, human_count, human_duration

_SAMPLES = 5
_WIDE = 132  # columns of results in one table
_FIRST = 4  # columns of the first of two tables
_BARS = "▁▂▃▄▅▆▇█"
_PLAIN = "_.-=+*#@"


def compared_lines(data: Any, paper: Paper) -> Iterator[str]:
    """Results, differences, curves, values at the same x, answers to the same rows."""
    runs = data["runs"]
    letters = _Letters({one["id"]: letter(at) for at, one in enumerate(runs)})
    yield from _results(data, letters, paper)
    for one in runs:
        if one["fault"] or one["remote"]:
            yield clean(f"{letters[one['id']]}: {one['fault'] or 'of another machine, ' + str(one['host'])}")
    yield ""
    best = data["best"]
    if not data["comparable"]:
        yield clean(f"{data['metric']} is not comparable:")
        yield from (clean(f"  {reason}") for reason in data["why_not"])
    elif best is not None:
        way = "highest" if data["higher_is_better"] else "lowest"
        yield clean(
            f"best: {letters[best['run']]}, {data['metric']} {best['value']:.5g} at step {best['step']} ({way})"
        )
    if data["same_eval_rows"]:
        yield "held-out rows: the same in all"
    elif data["comparable"]:
        yield "held-out rows: " + ("not known" if data["same_eval_rows"] is None else "not the same in all")
    if data["differences"]:
        yield ""
        rows = [
            (one["key"], *(_value(one["values"].get(run)) for run in letters)) for one in data["differences"]
        ]  # fmt: skip
        yield from table(("DIFFERENT", *letters.values()), rows)
    yield from _curves(data, letters, paper)
    for one in data["aligned"]:
        yield ""
        columns = {run: values for run, values in one["values"].items() if isinstance(values, list)}
        heads = (f"{one['metric']} BY {one['axis']}".upper(), *(letters[run] for run in columns))
        rows = [
            (_x(x, one["axis"]), *(_number(value) for value in values))
            for x, *values in zip(one["x"], *columns.values(), strict=False)
        ]
        yield from table(heads, rows, right=" ".join(heads[1:]))
    for one in data["answers"]:
        yield from _answered(one, letters)


def _results(data: Mapping[str, Any], letters: Mapping[str, str], paper: Paper) -> Iterator[str]:
    """One table where there is room, else two under each other."""
    best = (data["best"] or {}).get("run")
    heads = ("", "RUN", "STATUS", "STEP", "FINAL", "BEST", "LOSS", "TOKENS", "TOK/S", "MEMORY", "TIME")
    rows: list[tuple[object, ...]] = []
    for one in data["runs"]:
        top = one["best"]
        rows.append((
            letters[one["id"]] + (" *" if one["id"] == best else ""), one["id"], one["status"],
            "" if one["step"] is None else one["step"], _number(one["final"]),
            "" if top is None else f"{top['value']:.5g} @{top['step']}", _number(one["loss"]),
            _counted(one["tokens"]), _counted(one["tokens_per_s"]),
            "" if one["memory_bytes"] is None else human_bytes(one["memory_bytes"]), human_duration(one["seconds"]),
        ))  # fmt: skip
    yield clean(f"by {data['metric']}")
    right = "STEP FINAL BEST LOSS TOKENS TOK/S MEMORY TIME"
    if paper.columns >= _WIDE:
        yield from table(heads, rows, right)
        return
    yield from table(heads[:_FIRST], [row[:_FIRST] for row in rows], right)
    yield ""
    yield from table(("", *heads[_FIRST:]), [(row[0], *row[_FIRST:]) for row in rows], right)


def _curves(data: Mapping[str, Any], letters: Mapping[str, str], paper: Paper) -> Iterator[str]:
    """Every curve in a line; those of one metric share both axes."""
    width = max(16, min(60, paper.columns - 20))
    by_metric: dict[str, list[Any]] = {}
    for one in data["curves"]:
        if points := [point[:2] for point in one["points"] if len(point) >= 2]:
            by_metric.setdefault(one["metric"], []).append((one["run"], points))
    for metric, curves in by_metric.items():
        points = [point for _, of_run in curves for point in of_run]
        left, right = min(p[0] for p in points), max(p[0] for p in points)
        low, high = min(p[1] for p in points), max(p[1] for p in points)
        yield ""
        axis = data["axis"]
        yield clean(f"{metric}, {low:.4g} to {high:.4g}, by {axis} {_x(left, axis)} to {_x(right, axis)}")
        bars = _BARS if paper.symbols else _PLAIN
        for run, of_run in curves:
            cells: list[list[float]] = [[] for _ in range(width)]
            for x, y in of_run:
                cells[round((x - left) / (right - left) * (width - 1)) if right > left else 0].append(y)
            drawn = "".join(_bar(sum(c) / len(c), low, high, bars) if c else " " for c in cells)
            yield f"  {letters[run]}  {drawn}".rstrip()


class _Letters(dict[str, str]):
    """The letter of each run by its id; of one that is not among those compared, its id."""

    def __missing__(self, run: str) -> str:
        return clean(run, limit=64)


def _bar(value: float, low: float, high: float, bars: str) -> str:
    return bars[round((value - low) / (high - low) * (len(bars) - 1))] if high > low else bars[0]


def _answered(one: Mapping[str, Any], letters: Mapping[str, str]) -> Iterator[str]:
    mine, other = letters[one["run"]], letters[one["other"]]
    known = one["low"] is not None and one["high"] is not None
    between = f", 95% {one['low']:+.1%} to {one['high']:+.1%}" if known else ""
    yield ""
    yield (
        f"{one['rows']} held-out rows answered by both: {other} beats {mine} on {one['wins']}, loses {one['losses']}, "
        f"ties {one['ties']}; right {one['difference']:+.1%}{between} (sign test p {one['p']:.3g})"
    )
    for row in one["samples"][:_SAMPLES]:
        yield clean(f"  {row['prompt']} -> {row['expected']}", limit=200)
        for name, text, right in ((mine, row["text"], row["right"]), (other, row["other_text"], row["other_right"])):
            yield clean(f"    {name} {'right' if right else 'wrong'}: {text}", limit=200)


def letter(at: int) -> str:
    """The word that a run goes by in a comparison: A, B, C and so on."""
    return chr(ord("A") + at) if at < 26 else f"R{at + 1}"


def _value(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else clean(str(value), limit=40)


def _number(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, int | float) else ""


def _counted(value: float | None) -> str:
    return "" if value is None else human_count(round(value))


def _x(x: float, axis: str) -> str:
    return human_duration(x) if axis == "time" else f"{x:,.0f}"
