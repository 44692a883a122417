"""A run's report as a page to scroll: drawn from the report's data, so that no text in it can be markup."""

from __future__ import annotations

from typing import Any

from textual.app import ComposeResult

from llamahome_tui.jobs.report import Report, report_of
from llamahome_tui.jobs.store import Run
from llamahome_tui.tui.base import BaseScreen
from llamahome_tui.tui.keys import bindings
from llamahome_tui.tui.runner import Poll
from llamahome_tui.tui.screens.training.report_lines import lines_of
from llamahome_tui.tui.widgets.lines import Lines
from llamahome_tui.tui.widgets.sheet import broken

READ_EVERY_S = 30.0  # it reads the whole journal


class ReportPage(BaseScreen):
    """The page over a run's page."""

    NAME = "training"
    SCOPES = ("report", "text")
    BINDINGS = bindings("report")
    CSS_PATH = "report_page.tcss"

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        self.report: Report | None = None

    def compose_body(self) -> ComposeResult:
        """The text."""
        yield Lines(empty="reading", id="report")

    def on_mount(self) -> None:
        """Begin to read."""
        self.poll = Poll(self.home, f"report {self.run.id}", lambda: report_of(self.run), READ_EVERY_S)
        self.query_one(Lines).focus()

    def polls(self) -> tuple[Poll[Any], ...]:
        """The run's journals."""
        return (self.poll,)

    def subject(self) -> dict[str, str]:
        """This run."""
        return {"run": self.run.id, "model": self.run.id}

    def tick(self, now: float) -> None:
        """Paint what is new."""
        if not self.poll.changed():
            return
        if self.poll.error is not None:
            self.query_one(Lines).explain(self.poll.error.message)
        self.report = self.poll.value or self.report
        self._paint()

    def on_resize(self) -> None:
        """Break the lines anew."""
        self.call_after_refresh(self._paint)

    def _paint(self) -> None:
        if self.report is None:
            return
        view = self.query_one(Lines)
        width = max(20, view.size.width - 1)
        view.show(broken(lines_of(self.report, ascii_only=view.ascii), width))

    def action_read_again(self) -> None:
        """Read the journals again."""
        self.poll.now()
