"""All runs as the list shows them: live ones read each time, ended ones again only when a file has changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llamahome_tui.jobs.spawn import ensure_supervised
from llamahome_tui.jobs.store import Run, RunStore
from llamahome_tui.jobs.view import RunView, summarise
from llamahome_tui.tui.widgets.braille import label
from llamahome_tui.tui.widgets.states import look, worded
from llamahome_tui.tui.widgets.table import Cell, Row
from llamahome_tui.units import human_count

_ADOPT_EVERY = 10  # readings between two looks for runs without a supervisor


class RunListing:
    """Reads the runs of one store, in the thread of the list's Poll."""

    def __init__(
        self,
        store: RunStore,
        environ: Mapping[str, str],
        view: Callable[[Run], RunView] = summarise,
        adopt: bool = True,
    ) -> None:
        self._store, self._environ, self._view, self._adopt = store, environ, view, adopt
        self._kept: dict[str, tuple[object, RunView]] = {}
        self._turn = 0

    def read(self) -> tuple[RunView, ...]:
        """Every run, newest first."""
        views = []
        kept: dict[str, tuple[object, RunView]] = {}
        for run in self._store.list():
            mark = _mark(run)
            known = self._kept.get(run.id)
            if known is None or known[0] != mark or not known[1].ended:
                known = (mark, self._view(run))
            kept[run.id] = known
            views.append(known[1])
        self._kept = kept
        if self._adopt and self._turn % _ADOPT_EVERY == 0 and any(view.adoptable for view in views):
            ensure_supervised(self._store, self._environ)
        self._turn += 1
        return tuple(views)


def _mark(run: Run) -> object:
    """Changes whenever one of the run's files does."""
    return tuple(_facts(path) for path in (run.events_path, run.supervisor_path, run.labels_path, run.control_dir))


def _facts(path: Path) -> tuple[int, int]:
    try:
        facts = path.stat()
    except OSError:
        return (0, 0)
    return (facts.st_mtime_ns, facts.st_size)


def rows(views: Sequence[RunView], now: float, ascii_only: bool = False) -> list[Row]:
    """Table rows of these runs; `now` is unix time."""
    return [_row(view, now, ascii_only) for view in views]


def _row(view: RunView, now: float, ascii_only: bool) -> Row:
    loss = view.metrics.get("loss")
    created = moment(view.created_at)
    age = None if created is None else max(0.0, now - created)
    rate = view.tokens_per_s if not view.ended else None
    return Row.of(
        view.id,
        Cell(worded(view.status, ascii_only) + place(view), look(view.status).tone, view.status),
        Cell(view.title or view.name, "" if view.ended else "strong"),
        Cell(about(view), "dim"),
        Cell(steps(view), "", None if view.step is None else float(view.step)),
        Cell("" if loss is None else label(float(loss)), "", loss),
        Cell("" if rate is None else human_count(round(rate)), "", rate),
        Cell("" if view.eta_s is None else short(view.eta_s), "", view.eta_s),
        Cell("" if age is None else short(age), "dim", age),
        Cell(" ".join(view.tags), "dim"),
    )


def place(view: RunView) -> str:
    """The place in the queue of a run that waits, ` #2`."""
    return f" #{view.queue_position}" if view.queue_position else ""


def about(view: RunView) -> str:
    """The model, or the command of a wrapped one; of a folder its last part."""
    if view.model:
        return Path(view.model).name if view.model.startswith("/") else view.model
    return Path(view.command[0]).name if view.command else ""


def steps(view: RunView) -> str:
    """`120/400`; nothing before the first step."""
    if view.step is None:
        return ""
    return f"{view.step}/{view.steps}" if view.steps else str(view.step)


def short(seconds: float) -> str:
    """A span in at most four characters: `42s`, `7m`, `3h`, `12d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def moment(iso: Any) -> float | None:
    """Unix time of an ISO 8601 text; None where it is none."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(str(iso)).timestamp() if iso else None
    except ValueError:
        return None
