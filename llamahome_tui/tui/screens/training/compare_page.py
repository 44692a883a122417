"""Runs side by side as a page: their curves on shared axes, then results, differences and answers to the same rows."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from textual.app import ComposeResult

from llamahome_tui.batch.comparing import compared_lines, letter
from llamahome_tui.batch.paper import Paper
from llamahome_tui.jobs.comparison import Compared, compare, look, metrics_of
from llamahome_tui.jobs.course import Axis
from llamahome_tui.jobs.store import Run
from llamahome_tui.tui.base import BaseScreen
from llamahome_tui.tui.keys import bindings
from llamahome_tui.tui.runner import Poll
from llamahome_tui.tui.widgets.braille import Curve, label
from llamahome_tui.tui.widgets.cells import Value
from llamahome_tui.tui.widgets.lines import Lines
from llamahome_tui.tui.widgets.plot import Named, Plot

MOST: Final = 8
AXES: Final[tuple[Axis, ...]] = ("step", "tokens", "time")
_TONES: Final = ("first", "second", "third", "ok", "warn", "bad", "busy", "strong")  # one for each run, with its letter
_READ_EVERY_S: Final = 2.0
_SLOWLY_S: Final = 30.0  # a live run whose journal is long
_LONG: Final = 8 << 20  # bytes of a journal


class Comparing:
    """Reads the runs in the thread of the page's Poll; a run is read again only when its files have changed."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._known: dict[str, tuple[object, float, Compared]] = {}
        self._axis, self._metric = 0, ""
        self._metrics: list[str] = []

    def read(self) -> Mapping[str, Any]:
        """The comparison now."""
        found = [self._look(run) for run in self._runs]
        self._metrics = metrics_of(found)
        if self._metric not in self._metrics:
            self._metric = next((name for name in ("loss", "eval_loss") if name in self._metrics), "loss")
        return compare(found, self._metric, AXES[self._axis])

    def next_axis(self) -> None:
        """Along the next axis from the next reading on."""
        self._axis = (self._axis + 1) % len(AXES)

    def next_metric(self) -> None:
        """The next metric that any of them has."""
        if self._metrics:
            at = self._metrics.index(self._metric) if self._metric in self._metrics else -1
            self._metric = self._metrics[(at + 1) % len(self._metrics)]

    def _look(self, run: Run) -> Compared:
        mark, size = _mark(run)
        known = self._known.get(run.id)
        if known is not None and (known[0] == mark or (size > _LONG and time.monotonic() - known[1] < _SLOWLY_S)):
            return known[2]
        found = look(run)
        self._known[run.id] = (mark, time.monotonic(), found)
        return found


class ComparePage(BaseScreen):
    """The page over the list of runs."""

    NAME = "training"
    SCOPES = ("compare", "text")
    BINDINGS = bindings("compare")
    CSS_PATH = "compare_page.tcss"

    def __init__(self, runs: Sequence[Run]) -> None:
        super().__init__()
        self.runs = tuple(runs[:MOST])
        self.comparing = Comparing(self.runs)
        self.found: Mapping[str, Any] | None = None
        more = f"; the first {MOST} of {len(runs)} that are marked" if len(runs) > MOST else ""
        self._title = f"{len(self.runs)} runs compared{more}"

    def compose_body(self) -> ComposeResult:
        """Curves over text."""
        yield Value(self._title, id="compare-title", tone="strong")
        yield Plot("", empty="reading", id="compare-plot")
        yield Lines(empty="reading", id="compare-text")

    def on_mount(self) -> None:
        """Begin to read."""
        self.poll = Poll(self.home, "compare", self.comparing.read, _READ_EVERY_S, eager=True)
        self.query_one(Lines).focus()

    def polls(self) -> tuple[Poll[Any], ...]:
        """The runs' journals."""
        return (self.poll,)

    def tick(self, now: float) -> None:
        """Paint what is new."""
        if not self.poll.changed():
            return
        if self.poll.error is not None:
            self.query_one(Lines).explain(self.poll.error.message)
        self.found = self.poll.value or self.found
        self._paint()

    def on_resize(self) -> None:
        """Lay out anew."""
        self.call_after_refresh(self._paint)

    def _paint(self) -> None:
        if self.found is None:
            return
        found, view = self.found, self.query_one(Lines)
        self.query_one("#compare-title", Value).show(f"{self._title}: {found['metric']} by {found['axis']}", "strong")
        self.query_one(Plot).show(curves_of(found))
        paper = Paper(columns=max(40, view.size.width), symbols=not view.ascii)
        view.show([(line, "") for line in compared_lines(found, paper)])

    # Keys.

    def action_axis(self) -> None:
        """Along the next axis: step, tokens, seconds of work."""
        self.comparing.next_axis()
        self.poll.now()

    def action_metric(self) -> None:
        """The next metric."""
        self.comparing.next_metric()
        self.poll.now()


def curves_of(found: Mapping[str, Any]) -> list[Named]:
    """The curves of the chosen metric; a run keeps its colour and its letter, whichever of them have it."""
    places = {one["id"]: at for at, one in enumerate(found["runs"])}
    named = []
    for one in found["curves"]:
        if one["metric"] != found["metric"]:
            continue
        at = places[one["run"]]
        ys = tuple(y for _, y in one["points"])
        curve = Curve(tuple(x for x, _ in one["points"]), ys, _TONES[at % MOST], letter(at))
        newest = next((y for y in reversed(ys) if math.isfinite(y)), math.nan)
        named.append(Named(f"{letter(at)} {found['runs'][at]['name']}", curve, label(newest)))
    return named


def _mark(run: Run) -> tuple[object, int]:
    facts = []
    for path in (run.events_path, run.supervisor_path, run.artifacts_dir, run.labels_path):
        try:
            found = path.stat()
        except OSError:
            facts.append((0, 0))
        else:
            facts.append((found.st_mtime_ns, found.st_size))
    return tuple(facts), facts[0][1]
