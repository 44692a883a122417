"""JSON Lines: one object a line; a broken line costs that line, a giant one is passed over and never held."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from llamahome_tui.data import limits
from llamahome_tui.data.json_values import NotJson, decoded, suspicious
from llamahome_tui.data.readers.cursor import Cursor, Progress
from llamahome_tui.data.row import Bad, Read, row_of

# One object over many lines, as pretty-printers write it: every one of its lines would be called broken.
_OPENINGS = (b"{", b"[")


def rows(stream: BinaryIO, name: str, cursor: Cursor, progress: Progress) -> Iterator[Read]:
    """The rows of a stream that begins after line `cursor.line`. Where rows begin is not told (cursor.offset is -1)."""
    number = cursor.line
    first = number == 0
    cursor.offset = -1
    most = limits.MAX_ROW_BYTES
    while raw := stream.readline(most + 1):
        number += 1
        cursor.line = number
        if len(raw) > most and not raw.endswith(b"\n"):
            yield Bad(name, number, "", f"the line is longer than {most >> 20} MiB")
            while raw and not raw.endswith(b"\n"):
                raw = stream.readline(limits.CHUNK)
                progress()
            continue
        if not raw.isspace():
            if first and raw.strip() in _OPENINGS:
                yield Bad(
                    name, number, "", "is JSON over several lines: write one object per line (jq -c . FILE > NEW.jsonl)"
                )
                return
            first = False
            yield _row(raw, name, number)
        progress()


def _row(raw: bytes, name: str, number: int) -> Read:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return Bad(name, number, "", not_utf8(raw[error.start], f"byte {error.start + 1} of the line"))
    try:
        value = decoded(text)
    except NotJson as broken:
        if text.startswith("\ufeff"):
            return Bad(name, number, "", "begins with a byte order mark, as where files were joined: take it out")
        reason = "holds NUL bytes, as where a disk was full or a machine failed" if "\0" in text else str(broken)
        return Bad(name, number, "", reason)
    return row_of(value, name, number, look=suspicious(text))


def not_utf8(byte: int, where: str) -> str:
    """The sentence for a byte that is no UTF-8."""
    return f"is not UTF-8 (0x{byte:02x}, {where}): convert the file (iconv -f LATIN1 -t UTF-8, if that is what it is)"
