"""Reading journals: from the end, from a number on, or as they grow; only whole lines count, memory stays bounded."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final

from llamahome_tui.jobs.records import MAX_LINE, Record, parse, parse_any

_BLOCK: Final = 1 << 16
_FIRST_BLOCK: Final = 1 << 12  # a look at the end seldom needs more


def read(path: Path, after_seq: int = 0) -> Iterator[Record]:
    """All whole records after `after_seq`, oldest first; a journal that is not there is an empty one."""
    reader = JournalReader(path, _offset_of(path, after_seq) if after_seq else 0)
    while batch := reader.poll(4 * _BLOCK):
        yield from (record for record in batch if record["seq"] > after_seq)


def tail(
    path: Path,
    count: int,
    types: Collection[str] | None = None,
    *,
    limit_bytes: int | None = None,
    limit_lines: int | None = None,
) -> list[Record]:
    """The newest `count` records (of these `types`), oldest first, read from the end of the file.

    `limit_bytes` and `limit_lines` bound how much of the file's end is looked at.
    """
    marks = None if types is None else [b'"%s"' % name.encode() for name in types]
    found: list[Record] = []
    for looked_at, line in enumerate(_lines_backwards(path, limit_bytes)):
        if len(found) >= count or looked_at == limit_lines:
            break
        # Parsing is what costs: a line that does not even contain the word is passed over.
        if marks is not None:
            for mark in marks:  # not any(): this loop is what a list of runs waits for
                if mark in line:
                    break
            else:
                continue
        record = parse(line)
        if record is not None and (types is None or record["type"] in types):
            found.append(record)
    found.reverse()
    return found


def head(path: Path, count: int, offset: int = 0) -> list[Record]:
    """The first records, `count` at most, of what follows byte `offset` (a line's start); looks at 64 KiB at most."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    try:
        lines = os.pread(fd, _FIRST_BLOCK, offset).split(b"\n")[:-1]
        if len(lines) < count:
            lines = os.pread(fd, _BLOCK, offset).split(b"\n")[:-1]
    finally:
        os.close(fd)
    return [record for record in map(parse, lines[: 2 * count]) if record is not None][:count]


def last_seq(path: Path) -> int:
    """Sequence number of the newest whole record, of whatever version; 0 in an empty journal."""
    for line in _lines_backwards(path):
        record = parse_any(line)
        if record is not None:
            return int(record["seq"])
    return 0


def _lines_backwards(path: Path, limit_bytes: int | None = None) -> Iterator[bytes]:
    """Whole lines from the end; an unterminated tail is left out, a line over 1 MiB is passed over unread."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        position = os.fstat(fd).st_size
        floor = 0 if limit_bytes is None else max(0, position - limit_bytes)
        pieces: list[bytes] = []  # the line being put together, last piece first
        held = 0
        ended = False  # a newline to the right of the pieces has been seen
        too_long = False
        look = _FIRST_BLOCK
        while position > floor:
            size = min(look, position - floor)
            look = _BLOCK
            position -= size
            block = os.pread(fd, size, position)
            parts = block.split(b"\n")
            while len(parts) > 1:
                pieces.append(parts.pop())
                if ended and not too_long:
                    yield b"".join(reversed(pieces))
                pieces, held, ended, too_long = [], 0, True, False
            held += len(parts[0])
            if held > MAX_LINE or not ended:
                pieces, too_long = [], ended
            else:
                pieces.append(parts[0])
        if position == 0 and ended and not too_long and pieces:
            yield b"".join(reversed(pieces))
    finally:
        os.close(fd)


def tail_offset(path: Path, count: int) -> int:
    """Byte offset at which the newest `count` lines begin: where a reader starts that wants only these."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return 0
    offset = size
    with path.open("rb") as file:
        seen = -1  # the newline that ends the newest line begins no line
        while offset > 0:
            step = min(_BLOCK, offset)
            file.seek(offset - step)
            block = file.read(step)
            at = len(block)
            while (at := block.rfind(b"\n", 0, at)) >= 0:
                seen += 1
                if seen >= count:
                    return offset - step + at + 1
            offset -= step
    return 0


def _offset_of(path: Path, after_seq: int) -> int:
    """A line start at or before the record that follows `after_seq`, by bisection: numbers only grow."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        low, high = 0, os.fstat(fd).st_size
        while high - low > 4 * _BLOCK:
            middle = (low + high) // 2
            chunk = os.pread(fd, _BLOCK, middle)
            start = chunk.find(b"\n") + 1
            end = chunk.find(b"\n", start)
            record = parse_any(chunk[start:end]) if 0 < start < end else None
            if record is None:
                break  # an odd line just here: a longer scan is right too
            if record["seq"] <= after_seq:
                low = middle + start
            else:
                high = middle
        return low
    finally:
        os.close(fd)


class JournalReader:
    """Follows one journal from `offset`; each `poll()` gives what has been written whole since the last one.

    `bad` counts lines that are no records; `replaced` counts how often the file was deleted, cut or put there anew,
    after which reading starts again at its beginning. Memory is bounded by `max_bytes` of a poll.
    """

    def __init__(self, path: Path, offset: int = 0, *, on_bad: Callable[[bytes], None] | None = None) -> None:
        self.path = path
        self.bad = 0
        self.replaced = 0
        self._offset = offset
        self._file: tuple[int, int] | None = None
        self._head = b""  # first bytes already read: an inode number alone may be given out again
        self._skipping = False  # inside a line over 1 MiB
        self._on_bad = on_bad

    @property
    def offset(self) -> int:
        """How many bytes of the file have been read: the share of it tells how far catching up has come."""
        return self._offset

    def poll(self, max_bytes: int = 8 << 20) -> list[Record]:
        """The records written since the last call, oldest first; call again until it is empty."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            if self._file is not None:
                self._begin_again(None)
            return []
        try:
            status = os.fstat(fd)
            identity = (status.st_dev, status.st_ino)
            known = self._file is not None
            changed = identity != self._file or status.st_size < self._offset
            if known and (changed or os.pread(fd, len(self._head), 0) != self._head):
                self._begin_again(identity)
            self._file = identity
            records = self._read(fd, max_bytes)
            if len(self._head) < 128:
                self._head = os.pread(fd, min(128, self._offset), 0)
            return records
        finally:
            os.close(fd)

    def _begin_again(self, identity: tuple[int, int] | None) -> None:
        self.replaced += 1
        self._offset = 0
        self._head = b""
        self._skipping = False
        self._file = identity

    def _read(self, fd: int, max_bytes: int) -> list[Record]:
        records: list[Record] = []
        budget = max_bytes
        while budget > 0 or not records:
            chunk = os.pread(fd, 4 * _BLOCK, self._offset)
            end = chunk.rfind(b"\n")
            if end < 0:
                # No whole line in sight; a longer look tells a torn tail from a line that is too long.
                if len(chunk) == 4 * _BLOCK:
                    chunk = os.pread(fd, MAX_LINE + 1, self._offset)
                    end = chunk.rfind(b"\n")
                if end < 0:
                    if not chunk or (len(chunk) <= MAX_LINE and not self._skipping):
                        break
                    self._offset += len(chunk)
                    self._skipping = True
                    budget -= len(chunk)
                    continue
            for line in chunk[:end].split(b"\n"):
                record = None if self._skipping else parse(line)
                self._skipping = False
                if record is not None:
                    records.append(record)
                else:
                    self.bad += 1
                    if self._on_bad is not None:
                        self._on_bad(line)
            self._offset += end + 1
            budget -= end + 1
        return records
