"""Rows of a file in order, whatever kind of file it is; a broken one comes out as Bad, never as a crash.

Rows are a stream: memory does not grow with the file, only with one row, and that is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from llamahome_tui.data.readers.cursor import Cursor, Progress, Unreadable
from llamahome_tui.data.readers.source import opened
from llamahome_tui.data.row import Bad, Read, Row

__all__ = ["Bad", "Read", "Row", "guarded", "read_rows", "unopened"]


def read_rows(path: Path, on_bytes: Callable[[int], None] | None = None) -> Iterator[Read]:
    """The rows of a file in order. `on_bytes` is told how far the reading is; what it raises passes through.

    JSON Lines, one JSON array, CSV, TSV, plain text or Parquet; compressed with gzip or zstd or not. A broken line
    costs that line; where a file cannot be read further, its last row is a Bad with the line reached.
    """
    name = str(path)
    cursor = Cursor()
    try:
        source = opened(path)
    except (Unreadable, OSError) as error:
        yield unopened(name, error)
        return
    with source:
        progress = Progress(on_bytes, source.position)
        yield from guarded(source.rows(name, cursor, progress), name, cursor, progress)
        progress.tell(source.size)


def guarded(reading: Iterator[Read], name: str, cursor: Cursor, progress: Progress) -> Iterator[Read]:
    """What a reader gives, and a Bad at the end where it cannot go on."""
    try:
        yield from reading
    except Unreadable as end:
        yield Bad(name, cursor.line + 1 if end.line is None else end.line, "", end.reason)
    except OSError as error:
        if progress.raised is error:
            raise
        yield Bad(name, cursor.line, "", f"cannot be read: {error.strerror or error}")


def unopened(name: str, error: Unreadable | OSError) -> Bad:
    """The only row of a file that cannot be opened."""
    if isinstance(error, Unreadable):
        return Bad(name, 1 if error.line is None else error.line, "", error.reason)
    return Bad(name, 0, "", f"cannot be read: {error.strerror or error}")
