"""Tones: the few meanings a piece of text can have, coloured by the theme; the one rule is that no colour stands alone.

A tone names a meaning (ok, warn, bad, busy, dim, accent, strong) or a part of the frame (key, here, cursor). Every
state that has a tone has a word or glyph too, so that monochrome terminals lose nothing. Styles come straight from the
theme's variables: with component classes Textual would match every style sheet rule against every one of them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from rich.style import Style
from textual.color import Color
from textual.widget import Widget


class _Look(NamedTuple):
    """Theme variables of text and background (empty: as below it), and whether it is bold."""

    text: str = ""
    back: str = ""
    bold: bool | None = None


_LOOKS: Final[dict[str, _Look]] = {
    "dim": _Look("lh-dim"),
    "ok": _Look("success"),
    "warn": _Look("warning"),
    "bad": _Look("error"),
    "busy": _Look("secondary"),
    "accent": _Look("primary"),
    "strong": _Look("foreground", bold=True),
    "first": _Look("lh-series-1"),
    "second": _Look("lh-series-2"),
    "third": _Look("lh-series-3"),
    "line": _Look("lh-line"),
    "key": _Look("primary", bold=True),
    "here": _Look("lh-here-text", "lh-here", True),
    "head": _Look("lh-dim", bold=True),
    "cursor": _Look("foreground", "lh-select", True),
    "cursor-blurred": _Look("foreground", "lh-select-blurred"),
    "bar": _Look("lh-bar-text", "lh-bar"),
    "other": _Look(back="lh-select"),  # every second token
}


@lru_cache(maxsize=256)
def _style(text: str, back: str, bold: bool | None) -> Style:
    return Style(
        color=Color.parse(text).rich_color if text else None,
        bgcolor=Color.parse(back).rich_color if back else None,
        bold=bold,
    )


class Toned(Widget):
    """A widget that draws its own lines and asks the theme for tones."""

    def tone(self, name: str) -> Style:
        """The style of a tone, to be laid over the line's own; an unknown or empty name changes nothing."""
        look = _LOOKS.get(name)
        if look is None:
            return Style.null()
        variables = self.app.theme_variables
        return _style(variables.get(look.text, ""), variables.get(look.back, ""), look.bold)

    @property
    def ascii(self) -> bool:
        """True when only ASCII may be drawn (`--ascii`, a dumb terminal, no UTF-8)."""
        return self.app.has_class("-ascii")
