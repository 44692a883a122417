"""Runs side by side: what was asked of them, what came out, and whether their held-out losses may be compared at all.

Values at one x are the newest that each run had measured by then; nothing is interpolated between two measurements.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llamahome_tui.config.secrets import redact
from llamahome_tui.errors import ConfigError
from llamahome_tui.jobs import answers
from llamahome_tui.jobs.course import POINTS, Axis, Course, course_of
from llamahome_tui.jobs.store import Run
from llamahome_tui.jobs.throughput import number
from llamahome_tui.jobs.view import RunView, summarise

PLACES: Final = 9  # x at which runs are put side by side
ROWS: Final = 20  # answers that are shown
_HIGHER: Final = ("accuracy", "exact", "contains", "regex", "margin", "tokens_per_s", "samples_per_s", "mfu", "reward")
# What decides which rows are held out of training files, and what of a held-out row counts in its loss.
_SPLIT: Final = ("eval", "split_seed", "group")
_READING: Final = (
    "format", "columns", "template", "template_options", "train_on", "max_length", "long",
)  # fmt: skip
# What a spec of an earlier version, that does not name the key, was read as.
_DEFAULTS: Final[Mapping[str, Any]] = {
    "eval": "auto", "split_seed": 42, "format": "auto", "train_on": "assistant", "max_length": "auto",
}  # fmt: skip
_LEFT_OUT: Final = frozenset({"name", "tags"})


@dataclass(frozen=True, slots=True)
class Compared:
    """A run with its course and the spec that it was trained by in the end."""

    run: Run
    view: RunView
    course: Course
    spec: Mapping[str, Any]
    fault: str = ""


def look(run: Run, points: int = POINTS) -> Compared:
    """Read a run, its curves of about so many points; one whose job can't be read has no spec, and says so."""
    try:
        spec, fault = run.effective_job().get("spec"), ""
    except ConfigError as error:
        spec, fault = {}, error.message
    return Compared(
        run, summarise(run), course_of(run.events_path, points), spec if isinstance(spec, dict) else {}, fault
    )


def compare(runs: Sequence[Compared], metric: str, axis: Axis) -> dict[str, Any]:
    """The whole comparison, JSON-ready: see docs/comparing.md for its parts."""
    higher = higher_is_better(runs, metric)
    same, reasons = same_rows(runs)
    alike, kinds = _losses_alike(runs)
    held_out = metric.startswith("eval_")
    loss = metric in ("loss", "eval_loss")
    why = [*(reasons if held_out else ()), *(kinds if loss else ())]
    names = list(dict.fromkeys((metric, "loss", "eval_loss")))
    best = _best(runs, metric, higher)
    return {
        "metric": metric,
        "higher_is_better": higher,
        "axis": axis,
        "best": best if not why else None,
        "comparable": not why,
        "why_not": why,
        "same_eval_rows": same,
        "same_objective": alike,
        "runs": [result_of(one, metric, higher) for one in runs],
        "differences": differences(runs),
        "curves": [
            {"run": one.run.id, "metric": name, "measured": one.course.series[name].count, "points": points}
            for name in names
            for one in runs
            if (points := [list(point) for point in one.course.curve(name, axis)])
        ],
        "aligned": [found for name in names if (found := aligned(runs, name, axis)) is not None],
        "answers": _answers(runs) if same else [],
    }


def higher_is_better(runs: Sequence[Compared], metric: str) -> bool:
    """The direction of a metric: as a spec that is judged by it says, else by its name."""
    for one in runs:
        asked = one.spec.get("evaluation")
        if isinstance(asked, dict) and asked.get("metric") == metric and metric != "eval_loss":
            return bool(asked.get("higher_is_better"))
    return any(metric.endswith(word) for word in _HIGHER)


def differences(runs: Sequence[Compared]) -> list[dict[str, Any]]:
    """{key, values by run} for each dotted key that is not the same in all; null where a run has no such key."""
    flat = [facts_of(one) for one in runs]
    keys = sorted({key for one in flat for key in one})
    return [
        {"key": key, "values": {one.run.id: facts.get(key) for one, facts in zip(runs, flat, strict=True)}}
        for key in keys
        if any(facts.get(key) != flat[0].get(key) for facts in flat[1:])
    ]


def same_rows(runs: Sequence[Compared]) -> tuple[bool | None, list[str]]:
    """Whether all held the same rows out, None where a run does not tell, and the reasons why not."""
    reasons: list[str] = []
    unknown = [one.run.id for one in runs if not _digests(one)]
    if unknown:
        return None, [f"which rows were held out is not known of {', '.join(unknown)}"]
    first = runs[0]
    for one in runs[1:]:
        for key in (*_SPLIT, *_READING):
            mine, other = _data(first, key), _data(one, key)
            if key == "eval" and _file_digest(first) and _file_digest(first) == _file_digest(one):
                continue  # one file by two names
            if key in ("split_seed", "group") and _file_digest(first) and _file_digest(one):
                continue  # a file of held-out rows is not drawn
            if mine != other:
                reasons.append(f"data.{key} is {mine!r} in {first.run.id} and {other!r} in {one.run.id}")
        mine_rows, other_rows = _digests(first), _digests(one)
        if mine_rows != other_rows:
            reasons.append(f"the data files of {first.run.id} and {one.run.id} are not the same, by their sha256")
        if _contents(first, "decided_by") != _contents(one, "decided_by"):
            reasons.append(f"tokenizer or template of {first.run.id} and {one.run.id} are not the same")
        count, others = first.course.data.get("eval_rows"), one.course.data.get("eval_rows")
        if count != others:
            reasons.append(f"{first.run.id} held {count} rows out and {one.run.id} {others}")
    if not first.course.data.get("eval_rows"):
        reasons.append(f"{first.run.id} held no rows out")
    return not reasons, reasons


def aligned(runs: Sequence[Compared], metric: str, axis: Axis) -> dict[str, Any] | None:
    """Each run's newest value by each of a few x; null before its first and past its last measurement."""
    curves = {one.run.id: curve for one in runs if (curve := one.course.curve(metric, axis))}
    if len(curves) < 2:
        return None
    ends = sorted(curve[-1][0] for curve in curves.values())
    first = min(curve[0][0] for curve in curves.values())
    shared, span = ends[0], ends[0] - first
    places = [first + span * at / (PLACES - 1) for at in range(PLACES)] if span > 0 else [shared]
    if axis != "time":
        places = [float(round(x)) for x in places]
    places = sorted({*places, *ends})
    values: dict[str, list[float | None]] = {}
    for run, curve in curves.items():
        xs = [x for x, _ in curve]
        found = [bisect_right(xs, x) - 1 for x in places]
        values[run] = [curve[at][1] if at >= 0 and x <= xs[-1] else None for at, x in zip(found, places, strict=True)]
    return {"metric": metric, "axis": axis, "x": places, "values": values}


def metrics_of(runs: Sequence[Compared]) -> list[str]:
    """Every metric that any of them has."""
    return sorted({name for one in runs for name in one.course.series})


def result_of(one: Compared, metric: str, higher: bool) -> dict[str, Any]:
    """What came out of a run."""
    view, course = one.view, one.course
    series = {name: found.newest[2] for name, found in course.series.items() if found.newest is not None}
    rate = course.series.get("tokens_per_s")
    found = course.series.get(metric)
    top = (found.highest if higher else found.lowest) if found is not None else None
    return {
        "id": view.id, "name": view.title or view.name, "kind": view.kind, "status": view.status, "step": view.step,
        "steps": view.steps, "attempts": view.attempt, "remote": view.remote, "host": view.host,
        "final": None if found is None or found.newest is None else found.newest[2],
        "best": None if top is None else {"value": top[2], "step": top[0]},
        "loss": series.get("loss"),
        "evaluation": {name: value for name, value in series.items() if name.startswith("eval_")},
        "tokens": course.tokens,
        "tokens_per_s": None if rate is None or rate.newest is None else rate.newest[2],
        "memory_bytes": None if course.peak_bytes is None else int(course.peak_bytes),
        "seconds": round(course.seconds, 3),
        "unreadable_lines": course.bad,
        "fault": redact(one.fault) or _lacking(one),
    }  # fmt: skip


def _lacking(one: Compared) -> str:
    if one.course.series:
        return ""
    return "no measurement yet" if one.view.kind == "train" else f"a job of kind {one.view.kind} measures no training"


def _best(runs: Sequence[Compared], metric: str, higher: bool) -> dict[str, Any] | None:
    found = []
    for one in runs:
        series = one.course.series.get(metric)
        top = (series.highest if higher else series.lowest) if series is not None else None
        if top is not None:
            found.append((top[2], one.run.id, top[0]))
    if not found:
        return None
    value, run, step = (max if higher else min)(found, key=lambda each: each[0])
    return {"run": run, "value": value, "step": step}


def _losses_alike(runs: Sequence[Compared]) -> tuple[bool, list[str]]:
    """Whether all were trained to the same objective, and what is said where they were not."""
    kinds = {one.run.id: one.view.method or one.view.kind for one in runs}
    if len(set(kinds.values())) == 1:
        return True, []
    told = ", ".join(f"{kind} in {run}" for run, kind in kinds.items())
    return False, [f"their losses are of different objectives: {told}"]


def facts_of(one: Compared) -> dict[str, Any]:
    """What a run was asked and ran on, by dotted key."""
    facts = {key: value for key, value in _flat(one.spec) if key not in _LEFT_OUT}
    start, data = one.course.start, one.course.data
    facts |= {f"settled.{key}": value for key, value in _flat(one.course.settled)}
    versions = start.get("versions")
    facts |= {f"versions.{key}": value for key, value in _flat(versions if isinstance(versions, dict) else {})}
    facts |= {key: start[key] for key in ("devices", "host") if start.get(key)}
    facts |= {f"data.sha256.{name}": digest for name, digest in _named(data.get("files"))}
    return {key: redact(value) if isinstance(value, str) else value for key, value in facts.items()}


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, one in value.items():
        if isinstance(one, dict) and one:
            found += _flat(one, f"{prefix}{key}.")
        elif one not in ({}, None):
            found.append((f"{prefix}{key}", one))
    return found


def _named(files: Any) -> list[tuple[str, str]]:
    return [(Path(str(name)).name, str(one)) for name, one in files.items()] if isinstance(files, dict) else []


def _data(one: Compared, key: str) -> Any:
    data = one.spec.get("data")
    value = data.get(key) if isinstance(data, dict) else None
    return _DEFAULTS.get(key) if value in (None, "", {}) else value


def _file_digest(one: Compared) -> str:
    """The sha256 of the file of held-out rows; "" where they are drawn from the training files."""
    held, files = _data(one, "eval"), one.course.data.get("files")
    if not isinstance(held, str) or held == "auto" or not isinstance(files, dict):
        return ""
    return next((str(digest) for name, digest in files.items() if Path(str(name)).name == Path(held).name), "")


def _digests(one: Compared) -> list[str]:
    """The contents that the held-out rows are decided by, whatever the files are called."""
    if digest := _file_digest(one):
        return [digest]
    return _contents(one, "files")


def _contents(one: Compared, what: str) -> list[str]:
    return sorted(digest for _, digest in _named(one.course.data.get(what)))


def _answers(runs: Sequence[Compared]) -> list[dict[str, Any]]:
    """The first run's newest kept answers beside each other's, row by row, with the exact sign test."""
    first = _newest_answers(runs[0])
    found = []
    for one in runs[1:]:
        other = _newest_answers(one)
        both = [(mine, other[key]) for key, mine in first.items() if key in other]
        if both:
            found.append(_paired(runs[0].run.id, one.run.id, both))
    return found


def _newest_answers(one: Compared) -> dict[tuple[str, str], answers.Answer]:
    steps = answers.steps_of(one.run)
    kept = answers.read(one.run, steps[-1]) if steps else ()
    return {(answer.prompt, answer.expected): answer for answer in kept}


def _paired(run: str, other: str, both: Sequence[tuple[answers.Answer, answers.Answer]]) -> dict[str, Any]:
    from llamahome_tui.evaluation.statistics import interval, mcnemar

    wins = sum(theirs.right and not mine.right for mine, theirs in both)
    losses = sum(mine.right and not theirs.right for mine, theirs in both)
    low, high = interval(
        [(float(mine.right),) for mine, _ in both],
        [(float(theirs.right),) for _, theirs in both],
        lambda sums: sums[..., 0] / len(both),
        seed=0,
    )
    changed = sorted(both, key=lambda pair: pair[0].right == pair[1].right)  # stable: first those that differ
    return {
        "run": run, "other": other, "rows": len(both), "wins": wins, "losses": losses,
        "ties": len(both) - wins - losses, "p": mcnemar(losses, wins),
        "difference": (wins - losses) / len(both), "low": number(low), "high": number(high),
        "samples": [
            {
                "prompt": redact(mine.prompt), "expected": redact(mine.expected), "text": redact(mine.text),
                "right": mine.right, "other_text": redact(theirs.text), "other_right": theirs.right,
            }
            for mine, theirs in changed[:ROWS]
        ],
    }  # fmt: skip
