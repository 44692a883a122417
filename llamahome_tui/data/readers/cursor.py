"""Where in a file a reader is: for what it says of a broken row, for progress, and for coming back to a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_STEP = 1 << 18  # bytes between two words about progress


class Unreadable(Exception):
    """The file cannot be read further, for no fault of one row. `line` None: the one after the last row."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


@dataclass(slots=True)
class Cursor:
    """The row being read. A reader may be started at any (offset, line) that a cursor has shown with offset >= 0."""

    line: int = 0
    offset: int = 0  # of the row's first byte, unpacked; -1 where the reader does not know it

    def at(self, line: int, offset: int) -> None:
        self.line, self.offset = line, offset


class Progress:
    """Tells how many bytes of a file, as it lies on the disk, are read; what the listener raises passes through."""

    def __init__(self, on_bytes: Callable[[int], None] | None, position: Callable[[], int]) -> None:
        self._on_bytes = on_bytes
        self._position = position
        self._told = 0
        self.raised: BaseException | None = None

    def __call__(self) -> None:
        if self._on_bytes is not None and (at := self._position()) >= self._told + _STEP:
            self.tell(at)

    def tell(self, at: int) -> None:
        """Say that `at` bytes are read."""
        if self._on_bytes is None or at < self._told:
            return
        self._told = at
        try:
            self._on_bytes(at)
        except BaseException as raised:
            self.raised = raised
            raise
