"""A file opened for its rows: its kind is told by what stands in it, by its name only where that does not tell.

Nothing but a regular file is opened to be read: a pipe or a device could keep a reader for ever.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal

from llamahome_tui.data import limits
from llamahome_tui.data.readers import delimited, json_array, jsonl, plain_text
from llamahome_tui.data.readers.cursor import Cursor, Progress, Unreadable
from llamahome_tui.data.readers.packed import packing_of, unpacked
from llamahome_tui.data.readers.parquet import ParquetFile
from llamahome_tui.data.row import Read

Kind = Literal["lines", "array", "csv", "tsv", "text", "parquet"]

_PACKED = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}
_KINDS: dict[str, Kind] = {
    ".jsonl": "lines", ".ndjson": "lines", ".jsonlines": "lines", ".json": "lines", ".csv": "csv", ".tsv": "tsv",
    ".tab": "tsv", ".txt": "text", ".text": "text", ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
# What a file begins with that is none of ours, and what to do with it.
_FOREIGN = (
    (b"\xff\xfe\0\0", "UTF-32: convert it (iconv -f UTF-32 -t UTF-8)"),
    (b"\0\0\xfe\xff", "UTF-32: convert it (iconv -f UTF-32 -t UTF-8)"),
    (b"\xff\xfe", "UTF-16: convert it (iconv -f UTF-16 -t UTF-8)"),
    (b"\xfe\xff", "UTF-16: convert it (iconv -f UTF-16 -t UTF-8)"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet: unpack it, or export it as CSV"),
    (b"BZh", "a bzip2 archive: unpack it (bunzip2), or pack it with gzip or zstd"),
    (b"\xfd7zXZ", "an xz archive: unpack it (unxz), or pack it with gzip or zstd"),
    (b"ARROW1", "an Arrow file: write it as Parquet"),
    (b"\x7fELF", "a program, and no data"),
    (b"SQLite format 3", "a database: export its rows as CSV"),
)
_BOM = b"\xef\xbb\xbf"
_LOOKS_LIKE_JSON = re.compile(rb"\s*(\{\s*\"|\[\s*\{)")
_LINE_OF_JSON = re.compile(rb"(?m)^\s*[\[{]")
_HEAD = 4096


@dataclass(slots=True)
class Source:
    """An open file. `stream` gives its unpacked bytes and stands at `start`, after a byte order mark."""

    path: Path
    kind: Kind
    size: int  # as it lies on the disk
    stream: BinaryIO
    raw: io.FileIO
    packing: str = ""
    start: int = 0
    parquet: ParquetFile | None = None

    def position(self) -> int:
        """How far in the file on the disk the reading is."""
        return self.raw.tell() if self.packing else self.stream.tell()

    def rows(self, name: str, cursor: Cursor, progress: Progress) -> Iterator[Read]:
        """All rows, from the start."""
        cursor.offset = self.start
        if self.parquet is not None:
            return self.parquet.rows(name, cursor, progress)
        if self.kind == "array":
            return json_array.rows(self.stream, name, cursor, progress)
        if self.kind == "text":
            return plain_text.rows(self.stream, name, cursor, progress)
        if self.kind in ("csv", "tsv"):
            return delimited.rows(self.stream, name, cursor, progress, separator=self.separator)
        return jsonl.rows(self.stream, name, cursor, progress)

    def rows_from(
        self, name: str, cursor: Cursor, progress: Progress, *, number: int, header: list[str]
    ) -> Iterator[Read]:
        """The rows from `cursor` on, which a reader of this file has shown, or from the start where it is at 0.

        `number` is that row's; `header` the columns of CSV. An archive must be at its start.
        """
        if self.parquet is not None:
            return self.parquet.rows(name, cursor, progress, number)
        if not number:
            if not self.packing:
                self.stream.seek(self.start)
            return self.rows(name, cursor, progress)
        self.stream.seek(cursor.offset)
        if self.kind == "array":
            return json_array.rows(self.stream, name, cursor, progress, number=number)
        cursor.line -= 1  # these count the lines before
        if self.kind == "text":
            return plain_text.rows(self.stream, name, cursor, progress)
        if self.kind in ("csv", "tsv"):
            return delimited.rows(self.stream, name, cursor, progress, separator=self.separator, header=header)
        return jsonl.rows(self.stream, name, cursor, progress)

    @property
    def separator(self) -> str:
        return "\t" if self.kind == "tsv" else ","

    def close(self) -> None:
        if self.parquet is not None:
            self.parquet.close()
        self.raw.close()

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def opened(path: Path) -> Source:
    """The file, ready to be read. Raises Unreadable for what is no data file, OSError for one that cannot be opened."""
    raw = _regular(path)
    try:
        return _told(path, raw)
    except BaseException:
        raw.close()
        raise


def _regular(path: Path) -> io.FileIO:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # O_NONBLOCK: a pipe must not wait
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        what = next((words for test, words in _NO_FILES if test(mode)), "no file")
        raise Unreadable(f"cannot be read: it is {what}", 0)
    return io.FileIO(descriptor)


def named_kind(path: Path) -> str:
    """The kind that a file's name says it is, "" where it says none: by it the same bytes may be other rows."""
    return _KINDS.get(_suffix(path.name.lower()), "")


def _suffix(name: str) -> str:
    """The ending that tells the kind: before that of an archive."""
    suffix = Path(name).suffix
    return Path(name).with_suffix("").suffix if suffix in _PACKED else suffix


def _told(path: Path, raw: io.FileIO) -> Source:
    size = os.fstat(raw.fileno()).st_size
    name = path.name.lower()
    head = raw.read(_HEAD) or b""
    raw.seek(0)
    packing = packing_of(head)
    suffix = Path(name).suffix
    if suffix in _PACKED and head and packing != _PACKED[suffix]:
        raise Unreadable(f"is named {suffix}, and is no {_PACKED[suffix]} archive: rename it", 0)
    suffix = _suffix(name)
    stream: BinaryIO
    if not packing:
        stream = io.BufferedReader(raw, limits.CHUNK)
    else:
        stream = inner = unpacked(raw, packing)
        head = inner.peek(_HEAD)[:_HEAD]
        if packing_of(head):
            raise Unreadable("is compressed twice: unpack it once")
        if head.startswith(b"PAR1"):
            raise Unreadable("is compressed Parquet, which compresses itself: unpack it")
    _refuse_foreign(head)
    start = len(_BOM) if head.startswith(_BOM) else 0
    kind = _kind(suffix, head[start:])
    source = Source(path, kind, size, stream, raw, packing, start)
    if kind == "parquet":
        source.parquet = ParquetFile(path)
    else:
        stream.read(start)
    return source


def _refuse_foreign(head: bytes) -> None:
    found = next((words for mark, words in _FOREIGN if head.startswith(mark)), "")
    if found:
        raise Unreadable(f"is {found}")
    even, odd = head[0:8:2], head[1:8:2]
    if len(head) >= 4 and ((not any(even) and all(odd)) or (not any(odd) and all(even))):
        order = "LE" if any(even) else "BE"
        raise Unreadable(f"is UTF-16 without a mark: convert it (iconv -f UTF-16{order} -t UTF-8)")


def _kind(suffix: str, head: bytes) -> Kind:
    """The kind of a file by its first bytes and its name. Raises Unreadable where they contradict each other."""
    if head.startswith(b"PAR1"):
        return "parquet"
    named = _KINDS.get(suffix)
    if named == "parquet" and head:
        raise Unreadable(f"is named {suffix}, and is no Parquet: copy or download it again", 0)
    opening = head.lstrip()[:1]
    if named in ("csv", "tsv", "text"):
        if _LOOKS_LIKE_JSON.match(head):
            raise Unreadable(f"is named {suffix}, and holds JSON: rename it to .jsonl")
        return named
    if opening and opening not in (b"{", b"[") and not _LINE_OF_JSON.search(head):
        if named:
            raise Unreadable(f"is named {suffix}, and does not begin with JSON: rename it to what it is (.csv, .txt)")
        raise Unreadable("is of no known kind: name it .jsonl, .json, .csv, .tsv, .txt or .parquet", 0)
    return "array" if opening == b"[" else "lines"


_NO_FILES = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe; write it to a file first"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
