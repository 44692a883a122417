"""One row of a data set: where it stands, its tokens or its text, and why it cannot be used where it cannot."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import chop_cells
from textual.app import ComposeResult
from textual.containers import Vertical

from llamahome_tui.text import clean
from llamahome_tui.tui.screens.training.data_browser import Opened
from llamahome_tui.tui.screens.training.data_look import Looked, Looks
from llamahome_tui.tui.screens.training.data_words import roles_of
from llamahome_tui.tui.widgets.cells import Value
from llamahome_tui.tui.widgets.lines import Line, Lines
from llamahome_tui.tui.widgets.tokens import TokenView

STALE_S = 0.2  # the tokens of the row before stay no longer than this


class RowPane(Vertical):
    """Head, fault, and below them the tokens or the raw text; a row without tokens shows its text."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.raw = False
        self._row: Opened | None = None
        self._rows = ""
        self._looked: Looked | None = None

    def compose(self) -> ComposeResult:
        """Head, fault, tokens, text."""
        yield Value("", id="row-place")
        yield Value("", id="row-counts", tone="dim")
        yield Value("", id="row-fault", resize=True)
        yield TokenView(id="tokens")
        yield Lines(id="raw", empty="no row is open")

    def on_mount(self) -> None:
        """Nothing is open yet."""
        self._arrange()

    def show_row(self, row: Opened, rows: int, *, done: bool) -> None:
        """Another row; its tokens come with `show_looks`."""
        self._row, self._looked = row, None
        self._rows = f"{rows:,}" + ("" if done else " so far")
        self._paint()
        self._lay_raw()
        # Not at once: most looks are quicker than an eye, and a blank in between would only flicker.
        self.set_timer(STALE_S, self._clear_stale)

    def _clear_stale(self) -> None:
        if self._looked is None or self._looked.look is None:
            self.query_one(TokenView).show(())

    def show_looks(self, looks: Looks) -> None:
        """The newest look, if it is of the row that is shown."""
        looked = looks.looked
        if self._row is None or looked is None or looked.number != self._row.line.number or looked is self._looked:
            return
        self._looked = looked
        if looked.look is not None:
            self.query_one(TokenView).show(looked.look.parts)
        self._paint()

    def fail(self, message: str) -> None:
        """The tokens cannot be had at all."""
        if self._row is not None:
            self._looked = Looked(self._row.line.number, fault=message)
            self._paint()

    def as_raw(self, raw: bool) -> None:
        """Show the text as it stands in the file, or the tokens."""
        self.raw = raw
        self._arrange()

    def take_focus(self) -> None:
        """The keys go to what is shown."""
        (self.query_one(Lines) if self._shows_raw else self.query_one(TokenView)).focus()

    @property
    def _shows_raw(self) -> bool:
        waiting = self._looked is None and self._row is not None and self._row.line.sample is not None
        return self.raw or not (waiting or (self._looked is not None and self._looked.look is not None))

    def _arrange(self) -> None:
        tokens, raw = self.query_one(TokenView), self.query_one("#raw", Lines)
        had = tokens.has_focus or raw.has_focus
        tokens.display, raw.display = not self._shows_raw, self._shows_raw
        if had:
            self.take_focus()

    def _paint(self) -> None:
        row, looked = self._row, self._looked
        assert row is not None
        line = row.line
        self.query_one("#row-place", Value).show(
            f"row {line.number + 1:,} of {self._rows}  {line.place}  {line.format}"
        )
        said = [roles_of(line.sample)] if line.sample is not None else []
        if looked is not None and looked.look is not None:
            tokens = sum(len(part.ids) for part in looked.look.parts)
            learned = sum(part.trained_tokens for part in looked.look.parts)
            share = f" ({learned / tokens:.0%})" if tokens else ""
            said.insert(0, f"{tokens:,} tokens, {learned:,} learned{share}")
        elif looked is None and line.sample is not None:
            said.insert(0, "making tokens ...")
        self.query_one("#row-counts", Value).show("  ".join(said), "dim")
        fault = line.fault or (looked.fault if looked is not None else "")
        hint = f"  {looked.hint}" if looked is not None and looked.hint and fault else ""
        sign = "x" if self.app.has_class("-ascii") else "✗"
        lacking = looked is not None and looked.lacking
        why = self.query_one("#row-fault", Value)
        why.show((fault if lacking else f"{sign} {fault}{hint}") if fault else "", "warn" if lacking else "bad")
        why.display = bool(fault)
        self._arrange()

    def on_resize(self) -> None:
        """Break the text anew."""
        self._lay_raw()

    def _lay_raw(self) -> None:
        """Of this pane's width: the text itself may be hidden and has none then. One column is the scroll bar's."""
        if self._row is not None:
            width = max(10, self.content_size.width - 1)
            self.query_one("#raw", Lines).show(list(_lines(self._row.raw, width)))


def _lines(text: str, width: int) -> Iterator[Line]:
    for line in text.split("\n"):
        shown = clean(line, limit=len(line) + 1)
        for chunk in chop_cells(shown, width) or [""]:
            yield chunk, ""
