"""The help: every key from the key table and every operation from the registry, on one page, never out of date."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llamahome_tui.operations import NOUNS, verbs
from llamahome_tui.tui.keys import SCOPES, keys_of, plain
from llamahome_tui.tui.widgets.lines import Line
from llamahome_tui.tui.widgets.sheet import Sheet


def page(first: Sequence[str] = (), *, ascii_only: bool = False) -> Iterator[Line]:
    """Lines of the help; the scopes in `first`, those of the screen in view, come first."""
    for scope in (*first, *(scope for scope in SCOPES if scope not in first)):
        keys = keys_of(scope)
        if not keys:
            continue
        yield SCOPES[scope], "accent"
        for key in keys:
            shown = plain(key.shown) if ascii_only else key.shown
            yield f"  {shown:<12}{key.help}", ""
        yield "", ""
    yield "Operations: here with :  and in a shell with  llamahome --batch NOUN VERB", "accent"
    for noun, what in NOUNS.items():
        yield f"  {noun:<12}{what}", "strong"
        for operation in verbs(noun):
            if operation.verb:
                yield f"    {operation.verb:<10}{operation.help}", ""


class HelpScreen(Sheet):
    """The help over the screen it was asked from."""

    def __init__(self, scopes: Sequence[str] = (), *, ascii_only: bool = False) -> None:
        super().__init__("Help", list(page(scopes, ascii_only=ascii_only)))
