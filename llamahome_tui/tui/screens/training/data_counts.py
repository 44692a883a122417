"""The two parts of the data view that go through every row once: the statistics, and the list of bad rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.containers import Vertical

from llamahome_tui.data.rows import Bad
from llamahome_tui.tui.runner import Task
from llamahome_tui.tui.widgets.bar import Bar
from llamahome_tui.tui.widgets.cells import Value
from llamahome_tui.tui.widgets.histogram import Histogram
from llamahome_tui.tui.widgets.lines import Lines
from llamahome_tui.tui.widgets.sheet import broken
from llamahome_tui.tui.widgets.table import Cell, Column, Row, Table

if TYPE_CHECKING:
    from llamahome_tui.data.check import Validation
    from llamahome_tui.data.figures import Stats
    from llamahome_tui.tui.app import LlamaHomeApp
    from llamahome_tui.tui.screens.training.data_subject import Subject

Tell = Callable[[int, int], None]
BAD_COLUMNS = (
    Column("Line", 7, "right"),
    Column("File", 18, rank=2),
    Column("Field", 14, rank=1),
    Column("Why it cannot be used", 24, grow=1, sortable=False),
)


def count(subject: Subject, tell: Tell) -> Stats:
    """Everything `data stats` counts; in the thread of its task. Raises as `data.stats.stats` does."""
    from llamahome_tui.data.pool import workers_of
    from llamahome_tui.data.stats import stats

    assert subject.model_dir is not None
    training = subject.spec.training
    return stats(
        subject.spec.data,
        subject.model_dir,
        tell,
        global_batch=training.global_batch,
        batch_size=training.batch_size,
        seed=training.seed,
        workers=workers_of(training.max_workers),
        caller="data stats SPEC",
    )


def check(subject: Subject, tell: Tell) -> Validation:
    """Everything `data validate` checks; in the thread of its task."""
    from llamahome_tui.data.check import validate

    data = subject.spec.data
    return validate(subject.files, data.format, data.columns, data.group, tell)


class Counting(Vertical):
    """A line that says how far it is, a bar while it goes on, and what came out below."""

    DOING: ClassVar[str] = ""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.counted: Task[Any] | None = None

    def compose(self) -> ComposeResult:
        """The line and the bar; subclasses add what came out."""
        yield Value(classes="said", resize=True)
        yield Bar()

    def begin(self, home: LlamaHomeApp, subject: Subject, ended: Callable[[Task[Any]], None]) -> None:
        """Start to count, in a thread."""
        self.counted = Task(home, self.DOING, lambda tell: self.work(subject, tell), ended)

    def work(self, subject: Subject, tell: Tell) -> object:
        """What the task does."""
        raise NotImplementedError

    def forget(self) -> None:
        """What was counted counts no more."""
        if self.counted is not None:
            self.counted.cancel()
        self.counted = None

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self.counted is not None and self.counted.running

    @property
    def value(self) -> Any:
        """What came out; None before."""
        return self.counted.value if self.counted is not None else None

    @property
    def share(self) -> str:
        """`12%` while it goes on."""
        task = self.counted
        return f"{task.share:.0%}" if task is not None and task.running and task.share is not None else ""

    def _progress(self, start: str) -> None:
        """Say where the task is; `start` is said where there is none."""
        said, bar, task = self.query_one(".said", Value), self.query_one(Bar), self.counted
        bar.display = self.running
        if task is None:
            said.show(start, "dim")
        elif task.running:
            doing = f"ending: {self.DOING}" if task.cancelled else f"{self.DOING}    x cancels"
            said.show(f"{self.share:>4} {doing}", "busy")
            bar.show(task.share)
        elif task.error is not None:
            said.show(f"{task.error.message}  {task.error.hint}".rstrip(), "bad")
        elif task.cancelled:
            said.show(f"cancelled; {start}", "dim")


class StatsPane(Counting):
    """Histogram and numbers."""

    DOING = "counting tokens"

    def compose(self) -> ComposeResult:
        """Below the line: the histogram over the numbers, or beside them."""
        yield from super().compose()
        with Vertical(id="counted"):
            yield Histogram("rows by their number of tokens", id="lengths")
            yield Lines(id="numbers")

    def work(self, subject: Subject, tell: Tell) -> Stats:
        """Count everything."""
        return count(subject, tell)

    def show(self, subject: Subject) -> None:
        """Paint the newest state of the count."""
        batch = f"llamahome --batch data stats {subject.words}"
        self._progress(subject.lacking or f"t counts all rows; in a shell: {batch}")
        stats = self.value
        self.query_one("#counted").display = stats is not None
        if stats is None:
            return
        from llamahome_tui.tui.screens.training.data_numbers import lines_of

        self.query_one(".said", Value).show(f"in a shell: {batch}", "dim")
        histogram, numbers = self.query_one(Histogram), self.query_one(Lines)
        histogram.display = bool(stats.rows)
        histogram.show(stats.lengths.histogram, stats.max_length)
        if numbers.size.width:  # none before it is laid out; the next tick has it
            numbers.show(broken(lines_of(stats, ascii_only=histogram.ascii), max(24, numbers.size.width - 1)))


class BadPane(Counting):
    """The rows that cannot be used."""

    DOING = "reading rows"

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.listed: tuple[Bad, ...] = ()

    def compose(self) -> ComposeResult:
        """Below the line: a table."""
        yield from super().compose()
        yield Table(BAD_COLUMNS, id="bad-rows")

    def work(self, subject: Subject, tell: Tell) -> Validation:
        """Check everything."""
        return check(subject, tell)

    def show(self, subject: Subject, refused: Sequence[Bad] = ()) -> None:
        """Paint the newest state of the check. `refused` are the bad rows of the statistics, by the template too."""
        words = subject.words.partition(" --model ")[0]
        self._progress(f"b reads every row; in a shell: llamahome --batch data validate {words}")
        found, table = self.value, self.query_one(Table)
        if found is None:
            self.listed = ()
            table.display = False
            return
        whole = len(found.bad) == found.bad_count
        known = {(one.file, one.line) for one in found.bad}
        more = [one for one in refused if whole and (one.file, one.line) not in known]
        self.listed = (*found.bad, *more)
        table.display = bool(self.listed)
        table.show(_rows(self.listed))
        plain = table.ascii
        shown = "" if whole else f"; the first {len(found.bad):,} are listed"
        also = f", and the template refuses {len(more):,} of these" if more else ""
        if found.bad_count:
            rows = "1 row" if found.bad_count == 1 else f"{found.bad_count:,} rows"
            said = f"{'x' if plain else '✗'} {rows} cannot be used, {found.rows:,} can{also}{shown}"
        else:
            said = f"{'+' if plain else '✓'} all {found.rows:,} rows can be read ({found.format}){also}"
        self.query_one(".said", Value).show(said, "bad" if found.bad_count else "warn" if more else "ok")


def _rows(bad: Sequence[Bad]) -> list[Row]:
    return [
        Row.of(
            str(at),
            Cell(f"{one.line:,}" if one.line else "-", "", one.line),
            Cell(Path(one.file).name, "dim", one.file),
            Cell(one.field or "-", "accent"),
            one.reason,
        )
        for at, one in enumerate(bad)
    ]
