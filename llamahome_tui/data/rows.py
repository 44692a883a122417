"""Rows of JSON Lines and JSON files, streamed with their line; a broken one comes out as Bad, never as a crash."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeAlias

MAX_ROW_BYTES = 16 << 20  # one row; anything longer is no training row and would only eat memory
MAX_DEPTH = 64
_CHUNK = 1 << 20
_HALF = re.compile("[\ud800-\udfff]")
_SPACE = re.compile(r"[ \t\r\n]*")
_WRONG_ENCODINGS = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"), (b"\x1f\x8b", "gzip"), (b"PAR1", "Parquet"))
_WRONG_SUFFIXES = {".csv", ".tsv", ".parquet", ".arrow", ".xlsx", ".gz", ".zst", ".bz2", ".xz", ".zip", ".txt"}


@dataclass(frozen=True, slots=True)
class Row:
    """One JSON object and where it starts (lines from 1)."""

    file: str
    line: int
    value: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Bad:
    """A row that cannot be used; `field` is "" where the row as a whole is broken, `line` 0 where the file is."""

    file: str
    line: int
    field: str
    reason: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.field}: {self.reason}" if self.field else f"{place}: {self.reason}"

    def as_dict(self) -> dict[str, Any]:
        """The form it has in `data["bad"]`."""
        return {"file": self.file, "line": self.line, "field": self.field, "reason": self.reason}


Read: TypeAlias = Row | Bad


def read_rows(path: Path, on_bytes: Callable[[int], None] | None = None) -> Iterator[Read]:
    """The rows of a file in order. `on_bytes` is told how far in the file the reading is.

    JSON Lines, or one JSON array of objects. A broken line of JSON Lines costs that line; a broken array ends there.
    """
    name = str(path)
    if path.suffix.lower() in _WRONG_SUFFIXES:
        yield Bad(name, 0, "", f"{path.suffix} files are not read: convert it to JSON Lines")
        return
    try:
        with path.open("rb") as stream:
            head = stream.read(4096)
            wrong = next((said for mark, said in _WRONG_ENCODINGS if head.startswith(mark)), None)
            if wrong:
                yield Bad(name, 1, "", f"the file is {wrong}: convert it to JSON Lines in UTF-8")
                return
            stream.seek(3 if head.startswith(b"\xef\xbb\xbf") else 0)
            opening = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
            yield from _array(stream, name, on_bytes) if opening == b"[" else _lines(stream, name, on_bytes)
    except OSError as error:
        yield Bad(name, 0, "", f"cannot be read: {error.strerror or error}")


def _lines(stream: BinaryIO, name: str, on_bytes: Callable[[int], None] | None) -> Iterator[Read]:
    number = 0
    position = stream.tell()
    while raw := stream.readline(MAX_ROW_BYTES + 1):
        number += 1
        position += len(raw)
        if len(raw) > MAX_ROW_BYTES and not raw.endswith(b"\n"):
            yield Bad(name, number, "", f"the line is longer than {MAX_ROW_BYTES >> 20} MiB")
            while raw and not raw.endswith(b"\n"):
                raw = stream.readline(_CHUNK)
                position += len(raw)
            continue
        if raw.strip():
            yield _row(raw, name, number)
        if on_bytes:
            on_bytes(position)


def _row(raw: bytes, name: str, number: int) -> Read:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return Bad(name, number, "", f"is not UTF-8 (byte {error.start + 1} of the line)")
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        return Bad(name, number, "", f"is not JSON: {error.msg} (column {error.colno})")
    except RecursionError:
        return Bad(name, number, "", "is nested too deep")
    except ValueError as error:
        return Bad(name, number, "", f"is not JSON: {str(error)[:100]}")
    return _checked(value, name, number)


def _checked(value: Any, name: str, number: int) -> Read:
    if not isinstance(value, dict):
        return Bad(name, number, "", f"is no object but {_kind(value)}")
    for field, one in value.items():
        if reason := _unusable(one, MAX_DEPTH) or _unusable(field, 1):
            return Bad(name, number, field[:80].encode(errors="replace").decode(), reason)
    return Row(name, number, value)


def _array(stream: BinaryIO, name: str, on_bytes: Callable[[int], None] | None) -> Iterator[Read]:
    """The elements of one JSON array, decoded one by one from a buffer that holds little more than the current one."""
    text = _Text(stream, on_bytes)
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    try:
        text.skip_space()
        text.take(1)  # the opening bracket
        text.skip_space()
        while text.peek() != "]":
            start = text.line
            value = text.value(decoder)
            yield _checked(value, name, start)
            text.skip_space()
            if text.peek() == ",":
                text.take(1)
                text.skip_space()
                if text.peek() == "]":
                    yield Bad(name, text.line, "", "is not JSON: a comma before the closing ]")
                    return
            elif text.peek() != "]":
                said = "the array does not end" if text.peek() == "" else "expected a comma or ]"
                yield Bad(name, text.line, "", f"is not JSON: {said}")
                return
    except _ArrayError as broken:
        yield Bad(name, text.line, "", str(broken))
    except RecursionError:
        yield Bad(name, text.line, "", "is nested too deep")


class _ArrayError(Exception):
    """The array cannot be read further."""


class _Text:
    """UTF-8 text of a stream with a cursor and the line it is on; only what lies ahead is kept."""

    def __init__(self, stream: BinaryIO, on_bytes: Callable[[int], None] | None) -> None:
        import codecs

        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8")("strict").decode
        self._on_bytes = on_bytes
        self._buffer = ""
        self._at = 0
        self._ended = False
        self.line = 1

    def peek(self) -> str:
        """The next character, or "" at the end."""
        if self._at >= len(self._buffer):
            self._more()
        return self._buffer[self._at : self._at + 1]

    def take(self, count: int) -> None:
        end = self._at + count
        self.line += self._buffer.count("\n", self._at, end)
        self._at = end

    def skip_space(self) -> None:
        while self.peek() and self.peek() in " \t\r\n":
            found = _SPACE.match(self._buffer, self._at)
            self.take(found.end() - self._at if found else 1)

    def value(self, decoder: json.JSONDecoder) -> Any:
        """The next JSON value. More is read until one decodes; the size doubles, so that the work stays linear."""
        if self.peek() == "":
            raise _ArrayError("is not JSON: the array does not end")
        wanted = _CHUNK
        while True:
            try:
                value, end = decoder.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                held = len(self._buffer) - self._at
                # An error well before the end of what is here will not be healed by reading on.
                if self._ended or (error.pos < len(self._buffer) - 16 and not error.msg.startswith("Unterminated")):
                    self.line += self._buffer.count("\n", self._at, error.pos)
                    raise _ArrayError(f"is not JSON: {error.msg}") from None
                if held > MAX_ROW_BYTES:
                    raise _ArrayError(f"the row is longer than {MAX_ROW_BYTES >> 20} MiB") from None
                self._more(wanted)
                wanted *= 2
                continue
            except ValueError as error:
                raise _ArrayError(f"is not JSON: {str(error)[:100]}") from None
            # A number at the end of the buffer may go on in the next piece; objects and texts end by themselves.
            if end == len(self._buffer) and not self._ended and isinstance(value, int | float):
                self._more()
                continue
            self.take(end - self._at)
            return value

    def _more(self, size: int = _CHUNK) -> None:
        raw = self._stream.read(size)
        self._ended = len(raw) < size
        try:
            text = self._decode(raw, not raw)
        except UnicodeDecodeError as error:
            good = error.object[: error.start].count(b"\n")
            self.line += self._buffer.count("\n", self._at) + good
            raise _ArrayError(f"is not UTF-8 (byte 0x{error.object[error.start]:02x})") from None
        self._buffer = self._buffer[self._at :] + text
        self._at = 0
        if self._on_bytes:
            self._on_bytes(self._stream.tell())


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON value")


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def _unusable(value: Any, depth: int) -> str:
    """Why a value that JSON allows cannot be text for a tokenizer, or ""."""
    if isinstance(value, str):
        if "\0" in value:
            return "holds a NUL character"
        if not value.isascii() and _HALF.search(value):
            return "holds half of a character (a lone surrogate)"
        return ""
    if isinstance(value, dict | list):
        if depth == 0:
            return f"is nested deeper than {MAX_DEPTH}"
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        return next((reason for one in inner if (reason := _unusable(one, depth - 1))), "")
    return ""
