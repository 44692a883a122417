"""The help: every key from the key table and every operation from the registry, on one page that can't be out of date."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from llamahome_tui.operations import NOUNS, verbs
from llamahome_tui.tui.keys import SCOPES, bindings, keys_of
from llamahome_tui.tui.widgets.lines import Lines


def page(first: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """Lines of the help as (text, tone); the scopes in `first`, those of the screen in view, come first."""
    order = [*first, *(scope for scope in SCOPES if scope not in first)]
    for scope in order:
        keys = keys_of(scope)
        if not keys:
            continue
        yield SCOPES[scope], "accent"
        for key in keys:
            yield f"  {key.shown:<10} {key.help}", ""
        yield "", ""
    yield "Operations: in the palette (:) and as  llamahome --batch NOUN VERB", "accent"
    for noun, what in NOUNS.items():
        yield f"  {noun:<10} {what}", "strong"
        for operation in verbs(noun):
            if operation.verb:
                yield f"    {operation.verb:<8} {operation.help}", ""
    yield "", ""
    yield "Colours: T or  llamahome config set ui.theme llamahome-light", "dim"


class HelpScreen(ModalScreen[None]):
    """The help over the screen it was asked from."""

    BINDINGS = bindings("app")[-4:]

    def __init__(self, scopes: Sequence[str] = ()) -> None:
        super().__init__()
        self._scopes = tuple(scopes)

    def compose(self) -> ComposeResult:
        """A title and the page."""
        with Vertical(classes="sheet"):
            yield Static(Content("Help   q or Esc closes, ↓ ↑ and PgDn PgUp scroll"), classes="dialog-title", markup=False)
            yield Lines(list(page(self._scopes)), id="help")

    def on_mount(self) -> None:
        """The page scrolls at once."""
        self.query_one(Lines).focus()
