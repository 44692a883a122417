"""How a run's state looks: a glyph, its word and a tone; the glyph and the word say the same without colour."""

from __future__ import annotations

from typing import Final, NamedTuple


class Look(NamedTuple):
    """Glyph, glyph for ASCII terminals, tone."""

    glyph: str
    plain: str
    tone: str


_LOOKS: Final[dict[str, Look]] = {
    "queued": Look("◌", ".", "dim"),
    "starting": Look("◔", "o", "busy"),
    "running": Look("●", ">", "ok"),
    "unsupervised": Look("◑", ">", "warn"),
    "stalled": Look("◍", "!", "warn"),
    "stopping": Look("◕", "o", "busy"),
    "completed": Look("✓", "+", "ok"),
    "stopped": Look("■", "#", "dim"),
    "paused": Look("‖", "=", "busy"),
    "failed": Look("✗", "x", "bad"),
    "interrupted": Look("↯", "x", "warn"),
    "lost": Look("?", "?", "bad"),
}
_UNKNOWN: Final = Look("·", "-", "dim")


def look(status: str) -> Look:
    """The look of a state; one that this version does not know is shown plainly."""
    return _LOOKS.get(status, _UNKNOWN)


def worded(status: str, ascii_only: bool = False) -> str:
    """Glyph and word, `● running`."""
    one = look(status)
    return f"{one.plain if ascii_only else one.glyph} {status}"
