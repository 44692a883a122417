"""An evaluation as a page: how far it is while it goes on in its child, then table and samples; x or Esc ends it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textual.app import ComposeResult

from llamahome_tui.errors import LlamaHomeError
from llamahome_tui.outcome import Note, Progress
from llamahome_tui.tui.base import BaseScreen
from llamahome_tui.tui.keys import Key, bindings
from llamahome_tui.tui.runner import Running, run_operation
from llamahome_tui.tui.screens.training.evaluate_ask import words_of
from llamahome_tui.tui.screens.training.report_lines import evaluated
from llamahome_tui.tui.widgets.bar import Bar
from llamahome_tui.tui.widgets.cells import Value
from llamahome_tui.tui.widgets.lines import Line, Lines
from llamahome_tui.tui.widgets.sheet import broken


class EvaluatePage(BaseScreen):
    """The page over a run's page or over the models."""

    NAME = "training"
    SCOPES = ("evaluate", "text")
    BINDINGS = bindings("evaluate")
    CSS_PATH = "evaluate_page.tcss"

    def __init__(self, model: str, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self.model, self.arguments = model, dict(arguments)
        self.running: Running | None = None
        self._lines: list[Line] = []

    def compose_body(self) -> ComposeResult:
        """What is asked, how far it is, what came out."""
        yield Value(f"Evaluate {self.model}", id="evaluate-title", tone="strong")
        yield Value(f"in a shell: {words_of(self.arguments)}", id="evaluate-words", tone="dim", resize=True)
        yield Value("beginning", id="evaluate-state", tone="busy", resize=True)
        yield Bar(id="evaluate-bar")
        yield Lines(id="evaluated")

    def on_mount(self) -> None:
        """Begin."""
        self.query_one(Lines).focus()
        self.running = run_operation(
            self.home, "evaluate", self.arguments, on_end=self._ended, on_error=self._failed, quiet=True
        )
        self.show_keys()

    def on_unmount(self) -> None:
        """Textual: gone, with what goes on in it."""
        super().on_unmount()
        if self.running is not None:
            self.running.cancel()

    def subject(self) -> dict[str, str]:
        """What is evaluated."""
        return {"run": self.model, "model": self.model}

    @property
    def going(self) -> bool:
        """Whether it goes on."""
        return self.running is not None and not self.running.ended.is_set()

    def footer_keys(self) -> list[Key]:
        """To end it, only while it goes on."""
        keys = [key for key in super().footer_keys() if key.action != "back"]  # our own is there
        return [key for key in keys if key.action != "stop_it" or self.going]

    def tick(self, now: float) -> None:
        """Paint where it is."""
        if self.running is None:
            return
        newest: Progress | None = None
        for outcome in self.running.drain():
            if isinstance(outcome, Progress):
                newest = outcome
            elif isinstance(outcome, Note):
                self._add([(outcome.text, "warn")])
        if newest is not None and self.going and not self.running.cancelled:
            done = f"  {newest.done} of {newest.total} {newest.unit}" if newest.total else ""
            self._state(f"{newest.label}{done}", "busy")
            self.query_one(Bar).show(newest.done / newest.total if newest.total else None)

    def on_resize(self) -> None:
        """Break the lines anew."""
        self.call_after_refresh(self._paint)

    def _ended(self, running: Running) -> None:
        if not self.is_attached:
            return
        self.tick(0.0)
        self.query_one(Bar).display = False
        if running.result is not None:
            self._result(running.result.data)
        elif running.error is None:
            self._state("ended before it was done; nothing is kept", "warn")
        self.show_keys()

    def _result(self, found: Mapping[str, Any]) -> None:
        from llamahome_tui.jobs.evaluations import about

        kept = f", kept in {found['kept']}" if found["kept"] else ""
        self._state(f"{about(found)} in {found['seconds']:.0f} s{kept}", "ok")
        if found["left_out"]:
            self._add([(f"{found['left_out']} rows are too long for the model and left out", "warn")])
        self._add([*evaluated(found)])

    def _failed(self, error: LlamaHomeError) -> None:
        if self.is_attached:
            self._state(error.message, "bad")
            self._add([(error.message, "bad"), (error.hint, "dim")])

    def _state(self, text: str, tone: str) -> None:
        self.query_one("#evaluate-state", Value).show(text, tone)

    def _add(self, lines: list[Line]) -> None:
        self._lines += lines
        self._paint()

    def _paint(self) -> None:
        view = self.query_one("#evaluated", Lines)
        view.show(broken(self._lines, max(20, view.size.width - 1)))

    # Keys.

    def action_stop_it(self) -> None:
        """End it."""
        if self.running is not None and self.going:
            self.running.cancel()
            self._state("ending", "warn")

    def action_shut(self) -> None:
        """End what goes on; else back."""
        if self.running is not None and self.going and not self.running.cancelled:
            self.action_stop_it()
        else:
            self.app.pop_screen()
