"""A report as lines of (text, tone): what it was, how it learned, what it wrote, what happened to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llamahome_tui.jobs import evaluations
from llamahome_tui.jobs.report import Report
from llamahome_tui.jobs.report_text import about, asked, attempts, sparkline, texts_of
from llamahome_tui.text import clean
from llamahome_tui.tui.widgets.lines import Line

_LABEL = 26
_ASCII = ".:-=+*%#"
_HASH = 16  # characters of a sha256 that tell two files apart


def lines_of(report: Report, *, ascii_only: bool = False) -> list[Line]:
    """Every part that has something to say."""
    written = [*_samples(report), *_answers(report), *_evaluations(report)]
    return [*_head(report), *_curves(report, ascii_only), *written, *_happened(report), *_about(report)]


def _head(report: Report) -> Iterator[Line]:
    status = str(report.run["status"])
    tone = {"completed": "ok", "failed": "bad", "lost": "bad"}.get(status, "")
    yield str(report.run["name"]), "head"
    for label, value in about(report).items():
        yield _said(label, value), tone if label == "status" else ""


def _curves(report: Report, ascii_only: bool) -> Iterator[Line]:
    for name, points in report.curves.items():
        if not points:
            continue
        if name == next(iter(report.curves)):
            yield from _title("Curves")
        drawn = sparkline(points, 24, bars=_ASCII) if ascii_only else sparkline(points, 24)
        yield f"{name:<24} {points[0][1]:>9.4g} to {points[-1][1]:<9.4g} {drawn}", ""


def _samples(report: Report) -> Iterator[Line]:
    for one in report.samples:
        yield from _title(f"Sample: {one.prompt}")
        yield from _text(f"step {one.first_step}", one.first)
        if one.last_step != one.first_step:
            yield from _text(f"step {one.last_step}", one.last)


def _answers(report: Report) -> Iterator[Line]:
    for one in report.answers:
        yield from _title(f"Held-out row: {one.prompt}")
        yield from _text("expected", one.expected)
        yield from _text(_worded(one.first_step, one.first_right), one.first)
        if one.last_step != one.first_step:
            yield from _text(_worded(one.last_step, one.last_right), one.last)


def _evaluations(report: Report) -> Iterator[Line]:
    for result in report.evaluations:
        yield from _title(f"Evaluated at {result.get('t')}: {evaluations.about(result)}")
        yield from evaluated(result)


def evaluated(result: Mapping[str, Any]) -> Iterator[Line]:
    """A result of `evaluate`: its table, what changed, and its samples."""
    heads, rows = evaluations.rows_of(result)
    yield _row([head.upper() for head in heads]), "dim"
    for row in rows:
        yield _row(["" if one is None else f"{one:.4g}" if isinstance(one, float) else str(one) for one in row]), ""
    if said := evaluations.turned(result):
        yield f"{result.get('metric')}: {said}", ""
    for sample in result["samples"]:
        yield "", ""
        yield _said(f"row {sample.get('line')}", sample.get("prompt")), "strong"
        for label, text, score in texts_of(sample):
            tone = "" if score is None else "ok" if score == 1 else "bad" if score == 0 else "warn"
            said = label if score is None else f"{label}, {'right' if score == 1 else 'wrong' if score == 0 else score}"
            yield from ((line, tone) for line, _ in _text(said, str(text)))


def _row(cells: Sequence[str]) -> str:
    first, *others = cells
    return f"{first:<20}" + "".join(f"{cell:>12}" for cell in others[:3]) + "".join(f"  {cell}" for cell in others[3:])


def _worded(step: int, right: bool) -> str:
    return f"step {step}, {'right' if right else 'wrong'}"


def _text(label: str, text: str) -> Iterator[Line]:
    for number, line in enumerate(clean(text, limit=20_000, keep_newlines=True).split("\n")):
        yield _said("" if number else label, line), ""


def _happened(report: Report) -> Iterator[Line]:
    run = report.run
    if len(report.attempts) > 1:
        yield from _title("Attempts")
        for number, begun, exact, reason, peak in attempts(report):
            how = "exact" if exact == "yes" else f"not exact, {reason or 'no reason given'}"
            yield _said(f"attempt {number}", f"from step {begun}, {how}" + (f"; {peak} at most" if peak else "")), ""
    if report.requests:
        yield from _title("Requests")
    for one in report.requests:
        reason = f", {one['reason']}" if one.get("reason") else ""
        yield _said(f"step {_or(one.get('step'))}", f"{asked(one)}: {one.get('outcome')}{reason}"), ""
    if report.warnings or run["degrades"]:
        yield from _title("Warnings")
    for one in report.warnings:
        yield _said(f"step {_or(one.get('step'))}", one.get("message")), "warn"
    for one in run["degrades"]:
        yield _said(f"step {_or(one.get('step'))}", f"{one.get('what')}, because {one.get('why')}"), "warn"


def _about(report: Report) -> Iterator[Line]:
    files = report.data.get("files")
    if isinstance(files, dict) and files:
        yield from _title("Data")
        yield from ((f"{str(digest)[:_HASH]:<{_LABEL}}{file}", "") for file, digest in files.items())
    if report.run["artifacts"]:
        yield from _title("Artifacts")
        for one in report.run["artifacts"]:
            yield _said(str(one.get("kind")), one.get("path")), ""
    if report.versions:
        yield from _title("Versions")
        yield from ((_said(str(name), version), "") for name, version in report.versions.items())
    if report.spec:
        yield from _title("Spec")
        yield from _keys(report.spec)


def _keys(spec: Mapping[str, Any], prefix: str = "") -> Iterator[Line]:
    for key, value in spec.items():
        if isinstance(value, Mapping) and value:
            yield from _keys(value, f"{prefix}{key}.")
        elif value not in ("", None) and not (isinstance(value, Sequence | Mapping) and not value):
            yield _said(f"{prefix}{key}", value), ""


def _title(text: str) -> Iterator[Line]:
    yield "", ""
    yield text, "head"


def _said(label: str, value: object) -> str:
    return clean(f"{label:<{_LABEL}}{'' if value is None else value}", limit=20_000)


def _or(step: object) -> object:
    return "-" if step is None else step
