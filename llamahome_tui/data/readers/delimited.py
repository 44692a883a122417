"""CSV and TSV: a header, then rows of as many fields; a quoted field may hold line ends; every value is a text."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import BinaryIO

from llamahome_tui.data import limits
from llamahome_tui.data.json_values import unusable
from llamahome_tui.data.readers.cursor import Cursor, Progress
from llamahome_tui.data.readers.jsonl import not_utf8
from llamahome_tui.data.row import Bad, Read, Row

_OTHERS = {";": "semicolons", "\t": "tabs", ",": "commas", "|": "bars"}


def rows(
    stream: BinaryIO, name: str, cursor: Cursor, progress: Progress, *, separator: str, header: list[str] | None = None
) -> Iterator[Read]:
    """The rows under a header; one with too many or too few fields is bad, and a quote that never closes ends it all.

    With `header` the stream begins with a row, after line `cursor.line` at byte `cursor.offset`.
    """
    csv.field_size_limit(max(csv.field_size_limit(), limits.MAX_ROW_BYTES))  # the lines are bounded before it counts
    lines = _Lines(stream, cursor)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        lines.begin()
        line, offset = lines.number + 1, lines.offset
        try:
            fields = next(reader, None)
        except csv.Error as error:
            cursor.at(line, offset)
            yield Bad(name, line, "", f"is not {_kind(separator)}: {_said(str(error), lines)}")
            continue
        except _TooLong:
            long = f"the row is longer than {limits.MAX_ROW_BYTES >> 20} MiB, or its quote does not close"
            yield Bad(name, line, "", f"{long}: nothing after it is read")
            return
        if fields is None:
            return
        progress()
        if not fields:
            continue
        if header is None:
            header = fields
            if wrong := _header_fault(fields, separator):
                yield Bad(name, line, "", wrong)
                return
            continue
        cursor.at(line, offset)
        yield _row(fields, header, name, line, look=lines.odd)


def _row(fields: list[str], header: list[str], name: str, line: int, *, look: bool) -> Read:
    if len(fields) != len(header):
        has = f"{len(fields)} field{'' if len(fields) == 1 else 's'}"
        return Bad(name, line, "", f"has {has}, and the header has {len(header)}")
    if look:
        for field, value in zip(header, fields, strict=True):
            if wrong := _not_text(value):
                return Bad(name, line, field[:80], wrong)
    return Row(name, line, dict(zip(header, fields, strict=True)))


def _header_fault(header: list[str], separator: str) -> str:
    for other, words in _OTHERS.items():
        if other != separator and len(header) == 1 and other in header[0]:
            return f"separates its fields with {words}, and a {_kind(separator)} file has {_OTHERS[separator]}"
    for at, field in enumerate(header):
        if wrong := _not_text(field):
            return f"the name of column {at + 1} {wrong}"
    if len(set(header)) < len(header):
        twice = next(field for at, field in enumerate(header) if field in header[:at])
        return f'the column "{twice[:60]}" stands in the header twice'
    return ""


def _not_text(value: str) -> str:
    foreign = next((ord(one) & 0xFF for one in value if "\udc80" <= one <= "\udcff"), None)
    return unusable(value) if foreign is None else not_utf8(foreign, "in this field")


def _kind(separator: str) -> str:
    return "TSV" if separator == "\t" else "CSV"


def _said(message: str, lines: _Lines) -> str:
    if "unexpected end of data" in message:
        return "a quote that opens here does not close"
    if "expected after" in message:
        return f"something follows a closing quote (line {lines.number}); a quote within quotes is written twice"
    if "new-line character" in message:
        return "its lines end with a carriage return alone"
    return message[:100]


class _TooLong(Exception):
    """A row over the limit."""


class _Lines:
    """Lines for the csv module, counted, with a limit on the sum of those of one row."""

    def __init__(self, stream: BinaryIO, cursor: Cursor) -> None:
        self._stream = stream
        self._left = 0
        self.number = cursor.line
        self.offset = max(cursor.offset, 0)
        self.odd = False  # the row holds bytes that are no text

    def begin(self) -> None:
        """Another row begins."""
        self._left = limits.MAX_ROW_BYTES
        self.odd = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        raw = self._stream.readline(self._left + 1)
        if not raw:
            raise StopIteration
        if len(raw) > self._left:
            raise _TooLong
        self._left -= len(raw)
        self.number += 1
        self.offset += len(raw)
        self.odd = self.odd or b"\0" in raw
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            self.odd = True
            return raw.decode("utf-8", "surrogateescape")
