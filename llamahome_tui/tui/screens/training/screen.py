"""The list of runs: what each one does now, newest first; keys act on the selected or marked ones."""

from __future__ import annotations

from textual.app import ComposeResult

from llamahome_tui.tui.base import BaseScreen
from llamahome_tui.tui.keys import bindings
from llamahome_tui.tui.widgets.table import Column, Table

COLUMNS = (Column("Status", 14), Column("Run", 14, grow=2))


class TrainingScreen(BaseScreen):
    """Runs of this machine."""

    NAME = "training"
    SCOPES = ("training", "table")
    BINDINGS = bindings("training")
    CSS_PATH = "screen.tcss"

    def compose_body(self) -> ComposeResult:
        """The table."""
        yield Table(COLUMNS, empty=("No runs yet.", "", "n starts one from a spec file", "or: llamahome --batch demo"), id="runs")
