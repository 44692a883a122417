"""The lines of the log in view, toned by level, and the heading that says where in the file they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from textual.message import Message

from llamahome_tui.logs.entries import level_of
from llamahome_tui.logs.reader import Line as LogLine
from llamahome_tui.tui.screens.logs.window import Look
from llamahome_tui.tui.widgets.lines import Line, Lines
from llamahome_tui.units import human_bytes

NEAR = 200  # lines from an end of the window at which more is fetched
_TONES = {"error": "bad", "warning": "warn", "debug": "dim"}


class Shown(Sequence[Line]):
    """Log lines as the widget takes them; a line's level is looked at when it is drawn, not before."""

    def __init__(self, lines: Sequence[LogLine]) -> None:
        self._lines = lines

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, index: int) -> Line: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Line]: ...
    def __getitem__(self, index: int | slice) -> Line | Sequence[Line]:
        if isinstance(index, slice):
            return Shown(self._lines[index])
        text = self._lines[index].text
        return text.expandtabs(4), _TONES.get(level_of(text) or "", "")


class LogLines(Lines):
    """Lines that ask for what lies beyond their ends."""

    class Far(Message):
        """The start (or the end) of the file was asked for."""

        def __init__(self, end: bool) -> None:
            super().__init__()
            self.end = end

    @property
    def near_top(self) -> bool:
        """Whether the first lines are close to being seen."""
        return self.scroll_y < NEAR

    @property
    def near_bottom(self) -> bool:
        """Whether the last lines are close to being seen."""
        return self.scroll_y + self.size.height > len(self._source) - NEAR

    def begin(self, source: Sequence[Line], *, at_end: bool) -> None:
        """Show something that has nothing to do with what was shown before."""
        self._follow = at_end
        self.show(source)
        self._go(len(source) if at_end else 0)

    def action_top(self) -> None:
        """The first line of the file."""
        super().action_top()
        self.post_message(self.Far(end=False))

    def action_bottom(self) -> None:
        """The last line of the file, and follow."""
        super().action_bottom()
        self.post_message(self.Far(end=True))


def heading(name: str, look: Look, filters: tuple[str, str], following: bool, first: int = 0) -> str:
    """`training  1.2 GiB  following  warning and above  /loss/`; `first` is the index of the first line in view."""
    parts = [name, human_bytes(look.size)]
    if look.note:
        parts.append(look.note)
    elif look.whole_below and following:
        parts.append("following")
    elif look.size:
        place = look.lines[first].offset if first < len(look.lines) else look.high
        parts.append(f"at {100 * place // look.size}%")
    level, pattern = filters
    if level != "debug":
        parts.append(f"{level} and above")
    if pattern:
        parts.append(f"/{pattern}/")
    if look.busy and look.size:
        done = look.size - look.low if look.at_end else look.high
        parts.append(f"searching {100 * done // look.size}%")
    return "  ".join(parts)
