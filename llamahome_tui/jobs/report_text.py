"""A report as Markdown: every text from outside is cleaned, and none of it can become markup."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from llamahome_tui.jobs import evaluations
from llamahome_tui.jobs.report import Point, Report
from llamahome_tui.text import clean
from llamahome_tui.units import human_bytes, human_duration

_BARS: Final = "▁▂▃▄▅▆▇█"
_WIDTH: Final = 40
_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>()#|!~&])")


def markdown(report: Report) -> str:
    """The whole report."""
    return "\n".join(_lines(report)) + "\n"


def about(report: Report) -> dict[str, Any]:
    """What stands at the head of a report, as far as it is known."""
    run, totals = report.run, report.totals
    best, memory = run["best"] or {}, run["memory"] or {}
    speed, predicted = report.throughput, memory.get("predicted_bytes")
    peaks = [one["memory_peak_bytes"] for one in report.attempts if one["memory_peak_bytes"] is not None]
    found = {
        "run": run["id"],
        "status": "; ".join(one for one in (run["status"], run["reason"]) if one),
        "model": run["model"],
        "revision": (report.spec.get("model") or {}).get("revision"),
        "method": run["method"],
        "replay of": run.get("replay_of"),
        "step": f"{run['step']} of {run['steps']}" if run["steps"] else run["step"],
        "started": run["started_at"],
        "ended": run["ended_at"],
        "duration": human_duration(run["elapsed_s"]) if run["elapsed_s"] is not None else None,
        "tokens": totals.get("tokens"),
        "trained tokens per second": _short(speed.get("trained_tokens_per_s")),
        "tokens per second": _short(speed.get("tokens_per_s")),
        "samples per second": _short(speed.get("samples_per_s")),
        "FLOPs utilisation": _percent(speed.get("mfu")),
        "waiting for data": _percent(speed.get("data_wait")),
        "best": f"{best.get('metric')} {_short(best.get('value'))} at step {best.get('step')}" if best else None,
        "memory, predicted": human_bytes(predicted) if predicted is not None else None,
        "memory, peak": human_bytes(max(peaks)) if peaks else None,
        "ended early": "no better evaluation came" if totals.get("early_stopped") else None,
        "trained parameters": _share(report.parameters),
        "by kind of module": _by_kind(report.parameters.get("by_kind")),
        "rows": report.data.get("rows"),
        "held-out rows": report.data.get("eval_rows"),
        "host": run["host"],
        "devices": ", ".join(report.devices),
        "spec hash": report.spec_hash,
    }
    return {label: value for label, value in found.items() if value not in (None, "")}


def attempts(report: Report) -> list[tuple[Any, ...]]:
    """A row for each attempt: number, first step, whether exact, why not, most memory held."""
    rows = []
    for one in report.attempts:
        peak = one["memory_peak_bytes"]
        held = None if peak is None else human_bytes(peak)
        rows.append((one["attempt"], one["from_step"], "yes" if one["exact"] else "no", one["reason"], held))
    return rows


def asked(request: Mapping[str, Any]) -> str:
    """A request as one would type it: `lr=0.001`, `stop now`, `resume training.epochs=2`."""
    op, value = str(request.get("op")), request.get("value")
    if isinstance(value, Mapping):
        return " ".join([op, *(f"{key}={one}" for key, one in value.items())])
    return op if value is None else f"{op}={value}" if op == "lr" else f"{op} {value}"


def sparkline(points: Sequence[Point], width: int = _WIDTH, *, bars: str = _BARS) -> str:
    """A curve in one line of bars: means of equal parts, lowest to highest."""
    count = min(width, len(points))
    cuts = [len(points) * i // count for i in range(count + 1)] if count else []
    means = [sum(v for _, v in points[a:b]) / (b - a) for a, b in pairwise(cuts)]
    low, high = min(means, default=0.0), max(means, default=0.0)
    span = (high - low) or 1.0
    return "".join(bars[round((mean - low) / span * (len(bars) - 1))] for mean in means)


def _lines(report: Report) -> Iterator[str]:
    run = report.run
    yield f"# {_said(run['name'])}"
    yield ""
    yield from _table(("what", "value"), list(about(report).items()))
    if report.curves:
        rows = [(n, p[0][1], p[-1][1], min(v for _, v in p), max(v for _, v in p), sparkline(p))
                for n, p in report.curves.items() if p]  # fmt: skip
        yield from _part("Curves", ("metric", "first", "last", "lowest", "highest", "course"), rows)
    for one in report.samples:
        yield from ("", f"## Sample: {_said(one.prompt)}", "", f"Step {one.first_step}:", "", *_block(one.first))
        if one.last_step != one.first_step:
            yield from ("", f"Step {one.last_step}:", "", *_block(one.last))
    for row in report.answers:
        yield from ("", f"## Held-out row: {_said(row.prompt)}", "", "Expected:", "", *_block(row.expected))
        yield from ("", f"Step {row.first_step}, {_verdict(row.first_right)}:", "", *_block(row.first))
        if row.last_step != row.first_step:
            yield from ("", f"Step {row.last_step}, {_verdict(row.last_right)}:", "", *_block(row.last))
    if len(report.attempts) > 1:
        yield from _part("Attempts", ("attempt", "from step", "exact", "reason", "peak memory"), attempts(report))
    if report.requests:
        answers = [(one["t"], one["step"], asked(one), one["outcome"], one["reason"]) for one in report.requests]
        yield from _part("Requests", ("time", "step", "request", "outcome", "reason"), answers)
    for result in report.evaluations:
        yield from _evaluation(result)
    for title, found, names in (
        ("Warnings", report.warnings, ("step", "message")),
        ("Degraded", run["degrades"], ("step", "what", "why")),
        ("Artifacts", run["artifacts"], ("kind", "path", "bytes", "sha256")),
    ):
        if found:
            yield from _part(title, names, [[one.get(name) for name in names] for one in found])
    files = report.data.get("files")
    if isinstance(files, dict) and files:
        yield from _part("Data", ("file", "sha256"), list(files.items()))
    if report.versions:
        yield from _part("Versions", ("what", "version"), list(report.versions.items()))
    if report.spec:
        yield from ("", "## Spec", "", *_block(_json(report.spec)))


def _evaluation(result: Mapping[str, Any]) -> Iterator[str]:
    yield from _part(f"Evaluated at {result.get('t')}: {evaluations.about(result)}", *evaluations.rows_of(result))
    if said := evaluations.turned(result):
        yield from ("", _said(f"{result.get('metric')}: {said}"))
    for one in result["samples"]:
        yield from ("", f"### Row {_said(one.get('line'))}: {_said(one.get('prompt'))}", "")
        for label, text, score in texts_of(one):
            verdict = "" if score is None else f" ({_said(score)})"
            yield from (f"{label}{verdict}:", "", *_block(str(text)), "")


def texts_of(sample: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Label, text and score of what stands side by side in a sample of an evaluation."""
    yield "expected", sample.get("expected"), None
    if "base_text" in sample:
        yield "base", sample["base_text"], sample.get("base_score")
    yield "tuned" if "base_text" in sample else "written", sample.get("text"), sample.get("score")


def _verdict(right: bool) -> str:
    return "right" if right else "wrong"


def _share(parameters: Mapping[str, Any]) -> str | None:
    trained, total = parameters.get("trainable"), parameters.get("total")
    if not isinstance(trained, int) or not isinstance(total, int) or not total:
        return None
    return f"{trained:,} of {total:,} ({trained / total:.2%})"


def _by_kind(kinds: Any) -> str | None:
    """Those parameters by the modules that they are of, in all layers together."""
    if not isinstance(kinds, Mapping) or not kinds:
        return None
    return ", ".join(f"{name} {count:,}" for name, count in kinds.items() if isinstance(count, int))


def _part(title: str, heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    yield from ("", f"## {_said(title)}", "", *_table(heads, rows))


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "| " + " | ".join("---" for _ in heads) + " |"
    for row in rows:
        yield "| " + " | ".join(_said(one) for one in row) + " |"


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.1%}"


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def _said(value: Any) -> str:
    value = _short(value)
    return _SPECIAL.sub(r"\\\1", clean("" if value is None else str(value), limit=500))


def _block(text: str) -> Iterator[str]:
    """Indented, so that nothing in it ends it."""
    for line in clean(text, limit=20_000, keep_newlines=True).split("\n"):
        yield f"    {line}"


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, default=str)
