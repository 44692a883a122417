"""Batch output for people: results on stdout, everything else on stderr, every line cleaned before it is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TextIO

from llamahome_tui.batch.paper import Paper
from llamahome_tui.batch.progress import ProgressLine
from llamahome_tui.batch.records import Standing, happening, journal_line
from llamahome_tui.batch.results import TOLD_ALL_THE_SAME, lines_of
from llamahome_tui.data.row import WAYS_OUT
from llamahome_tui.errors import LlamaHomeError
from llamahome_tui.operations import Operation
from llamahome_tui.outcome import Accepted, Item, Level, Note, Outcome, Progress, Record, Result, Text
from llamahome_tui.text import clean
from llamahome_tui.units import human_bytes, human_count

_LONGEST_LINE = 10_000
_MOST_MISTAKES = 50


class People:
    """CONTRACT: Output without `--json`."""

    def __init__(
        self,
        operation: Operation | None,
        stdout: TextIO,
        stderr: TextIO,
        *,
        quiet: bool = False,
        repaint: bool = True,
        paper: Paper | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._operation = operation
        self._stdout = stdout
        self._stderr = stderr
        self._quiet = quiet
        self._paper = paper or Paper()
        self._bar = ProgressLine(stderr, repaint and stderr.isatty() and stdout.isatty(), clock)
        self._standing = Standing()
        self._phases: set[str] = set()
        self._unfinished = False  # the last thing on stdout was text without its newline

    def show(self, outcome: Outcome) -> None:
        match outcome:
            case Text():
                self._text(outcome.text)
            case Result():
                self._result(outcome)
            case Item():
                self._print(lines_of(self._operation, outcome.data, self._paper))
            case Record():
                self._record(outcome)
            case Accepted():
                self._say(f"run {outcome.id}")
            case Progress():
                self._progress(outcome)
            case Note():
                self._say(outcome.text if outcome.level is Level.INFO else f"{outcome.level.value}: {outcome.text}")

    def fail(self, error: LlamaHomeError) -> None:
        if self._operation is not None and self._operation.name in TOLD_ALL_THE_SAME and error.data.get("rows"):
            self._print(lines_of(self._operation, error.data, self._paper))
        self._finish()
        first, *others = error.message.split("\n")
        self._stderr.write(f"llamahome: {_line(first)}\n")
        for line in others:
            self._stderr.write(f"  {_line(line)}\n")
        for row in _mistakes(error):
            self._stderr.write(f"  {_line(row)}\n")
        if error.hint:
            self._stderr.write(f"{_line(error.hint)}\n")
        self._stderr.flush()

    def _result(self, outcome: Result) -> None:
        self._finish()
        self._print(lines_of(self._operation, outcome.data, self._paper))
        for hint in (outcome.hint, *(line for line in outcome.next if line not in outcome.hint)):
            if hint:
                self._say(hint)

    def _text(self, text: str) -> None:
        self._bar.clear()
        shown = clean(text, limit=max(_LONGEST_LINE, 2 * len(text)), keep_newlines=True)
        self._stdout.write(shown)
        self._stdout.flush()
        self._unfinished = not shown.endswith("\n") if shown else self._unfinished

    def _record(self, outcome: Record) -> None:
        if self._operation is not None and self._operation.answer == "stream":
            self._print([journal_line(outcome.source, outcome.record)])
            return
        self._standing.take(outcome.record)
        line = "" if self._again(outcome.record) else happening(outcome.source, outcome.record)
        if line:
            self._say(line)
        elif not self._quiet and outcome.record.get("type") in ("progress", "metrics"):
            self._bar.update(self._standing.line(), self._standing.share)

    def _again(self, record: Mapping[str, Any]) -> bool:
        """Whether it is a phase that this attempt has been in before: train and eval take turns all the time."""
        if record.get("type") == "start":
            self._phases.clear()
        phase = record.get("phase")
        if record.get("type") != "phase" or not isinstance(phase, str):
            return False
        known = phase in self._phases
        self._phases.add(phase)
        return known

    def _progress(self, outcome: Progress) -> None:
        if self._quiet:
            return
        share = outcome.done / outcome.total if outcome.total > 0 else None
        if outcome.unit == "bytes":
            counted = human_bytes(outcome.done) + (f"/{human_bytes(outcome.total)}" if outcome.total else "")
        elif not outcome.done and not outcome.total:
            counted = ""
        else:
            counted = f"{outcome.done:g}" + (f"/{outcome.total:g}" if outcome.total else "")
            counted += f" {outcome.unit}".rstrip()
        self._bar.update(_line(f"{outcome.label} {counted}").rstrip(), share)

    def _say(self, text: str) -> None:
        if self._quiet:
            return
        self._finish()
        self._stderr.write(_line(text) + "\n")
        self._stderr.flush()

    def _print(self, lines: Iterable[str]) -> None:
        self._finish()
        for line in lines:
            self._stdout.write(line + "\n")
        self._stdout.flush()

    def _finish(self) -> None:
        """Leave no half-written line behind, neither the bar nor streamed text."""
        self._bar.clear()
        if self._unfinished:
            self._stdout.write("\n")
            self._stdout.flush()
            self._unfinished = False


def _mistakes(error: LlamaHomeError) -> list[str]:
    """The single mistakes behind an error, each with its place, where the message does not already carry them.

    Ways out that many rows share are said with the first of them; those that are not shown are counted.
    """
    rows = error.data.get("errors") or error.data.get("bad") or error.data.get("candidates") or []
    found: list[str] = []
    told = error.message
    for row in rows if isinstance(rows, list | tuple) else []:
        if not isinstance(row, dict):
            parts = [text := str(row)]
        else:
            place = ":".join(str(row[k]) for k in ("file", "line") if row.get(k) not in (None, "", 0))
            # Two rows are often wrong in the same way: the reason alone does not tell them apart.
            parts = [
                f"{place}:" if row.get("line") else place,
                *(str(row[k]) for k in ("key", "field", "reason") if row.get(k)),
            ]
            what = ": ".join(str(row[k]) for k in ("key", "field", "reason") if row.get(k) not in (None, ""))
            nearest = f"; did you mean {row['nearest']}?" if row.get("nearest") else ""
            text = ": ".join(part for part in (place, what) if part) + nearest
        if not all(part in error.message for part in parts):
            what, between, ways = text.partition(WAYS_OUT)
            found.append(what if between and between + ways in told else text)
            told += between + ways
    more = len(found[_MOST_MISTAKES:]) + max(0, error.data.get("bad_count", 0) - len(rows))
    return [*found[:_MOST_MISTAKES], *([f"and {human_count(more)} more"] if more else [])]


def _line(text: str) -> str:
    return clean(text, limit=_LONGEST_LINE)
