"""Tones: the few meanings a piece of text can have, coloured by the theme; the one rule is that no colour stands alone.

A tone names a meaning (ok, warn, bad, busy, dim, accent, strong); app.tcss gives each its colour. Every state that has
a tone has a word or glyph too, so that monochrome terminals lose nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.widget import Widget

if TYPE_CHECKING:
    from rich.style import Style

TONES: tuple[str, ...] = ("dim", "ok", "warn", "bad", "busy", "accent", "strong", "first", "second", "third")


class Toned(Widget):
    """A widget that draws its own lines and asks the theme for tones."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"tone--{name}" for name in TONES}

    def tone(self, name: str) -> Style:
        """The style of a tone, to be laid over the line's own; an unknown or empty name changes nothing."""
        from rich.style import Style

        if name not in TONES:
            return Style.null()
        return self.get_component_rich_style(f"tone--{name}", partial=True)

    @property
    def ascii(self) -> bool:
        """True when only ASCII may be drawn (`--ascii`, a dumb terminal, no UTF-8)."""
        return self.app.has_class("-ascii")
