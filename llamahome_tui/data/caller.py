"""Which command the rows are read for: a hint ends in it, so that it helps whoever looks, counts or trains."""

from __future__ import annotations

from typing import Final

TRAIN: Final = "train start SPEC"


def on(caller: str, setting: str = "") -> str:
    """The command line to go on with: the caller's own again, with `setting` (KEY=VALUE) where one helps."""
    return f"llamahome --batch {caller}" + (f" --set {setting}" if setting else "")
