"""Parquet, read with pyarrow batch by batch; a line is a row's number, and what is null is not there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llamahome_tui.data import limits
from llamahome_tui.data.readers.cursor import Cursor, Progress, Unreadable
from llamahome_tui.data.row import Bad, Read, row_of

_BATCH_BYTES = 8 << 20
_MOST_ROWS = 1024


class ParquetFile:
    """An open file: how many rows it says it has, and its rows from any one on. Raises Unreadable."""

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ModuleNotFoundError:
            raise Unreadable(
                "is Parquet, and pyarrow is not installed: pip install 'llamahome-tui[parquet]'", 0
            ) from None
        self._path = path
        self._faults = (pyarrow.ArrowException, OSError, ValueError, OverflowError)
        try:
            self._file = pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 18)
            self._groups = [self._file.metadata.row_group(at) for at in range(self._file.metadata.num_row_groups)]
            names = self._file.schema_arrow.names
        except self._faults as error:
            raise Unreadable(_said(error), 0) from None
        if len(set(names)) < len(names):
            twice = next(name for at, name in enumerate(names) if name in names[:at])
            raise Unreadable(f'the column "{twice[:60]}" stands in the file twice', 0)
        for at, group in enumerate(self._groups):
            if any(_is_bomb(group.column(number)) for number in range(group.num_columns)):
                times = limits.MAX_UNPACKED_TIMES
                raise Unreadable(f"row group {at + 1} grows more than {times} times, as no data set does", 0)
        self.count: int = sum(group.num_rows for group in self._groups)

    def close(self) -> None:
        self._file.close()

    def rows(self, name: str, cursor: Cursor, progress: Progress, start: int = 0) -> Iterator[Read]:
        """The rows from number `start` (from 0) on."""
        number = 0
        for at, group in enumerate(self._groups):
            if number + group.num_rows <= start:
                number += group.num_rows
                continue
            for one in self._group(at, name, number, max(start - number, 0)):
                cursor.at(one.line, -1)
                yield one
            number += group.num_rows
            progress.tell(sum(self._packed_bytes(before) for before in self._groups[: at + 1]))

    def _group(self, at: int, name: str, before: int, skip: int) -> Iterator[Read]:
        group = self._groups[at]
        mean = max(group.total_byte_size, 1) // max(group.num_rows, 1) + 1
        batch_size = min(max(_BATCH_BYTES // mean, 1), _MOST_ROWS)
        passed = 0
        try:
            for batch in self._file.iter_batches(batch_size, row_groups=[at], use_threads=False):
                wanted = batch.slice(max(skip - passed, 0))
                yield from _rows(wanted, name, before + passed + batch.num_rows - wanted.num_rows + 1)
                passed += batch.num_rows
        except self._faults as error:
            raise Unreadable(_said(error)) from None
        except RecursionError:
            raise Unreadable("is nested too deep") from None

    @staticmethod
    def _packed_bytes(group: Any) -> int:
        return sum(group.column(at).total_compressed_size for at in range(group.num_columns))


def _is_bomb(chunk: Any) -> bool:
    most = max(limits.UNPACKED_ALLOWANCE, limits.MAX_UNPACKED_TIMES * int(chunk.total_compressed_size))
    return int(chunk.total_uncompressed_size) > most


def _rows(batch: Any, name: str, line: int) -> Iterator[Read]:
    """The rows of a batch; one by one where one of them may be too large to be copied, or cannot be decoded."""
    if batch.nbytes <= limits.MAX_ROW_BYTES:
        try:
            values = batch.to_pylist()
        except UnicodeDecodeError:
            values = None
        if values is not None:
            for at, value in enumerate(values):
                yield row_of(_plain(value), name, line + at)
            return
    for at in range(batch.num_rows):
        yield _one(batch.slice(at, 1), name, line + at)


def _one(row: Any, name: str, line: int) -> Read:
    if row.nbytes > limits.MAX_ROW_BYTES:
        return Bad(name, line, "", f"the row is longer than {limits.MAX_ROW_BYTES >> 20} MiB")
    value: dict[str, Any] = {}
    for field in row.schema.names:
        try:
            value[field] = row.column(field)[0].as_py()
        except UnicodeDecodeError as error:
            return Bad(name, line, field[:80], f"is not UTF-8 (0x{error.object[error.start]:02x} in this field)")
    return row_of(_plain(value), name, line)


def _plain(value: Any) -> Any:
    """A value as JSON would have it. Nulls within objects go: a column of objects gives each one the keys of all."""
    if isinstance(value, str | bool | int):
        return value
    if isinstance(value, dict):
        made = {name: _plain(one) for name, one in value.items()}
        return {name: one for name, one in made.items() if one is not None}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None  # how pandas writes what is missing
    if isinstance(value, bytes):
        return {"bytes": len(value)}  # no text: a format that wants one says so
    return None if value is None else str(value)


def _said(error: BaseException) -> str:
    first = (str(error).splitlines() or [""])[0]
    return f"is broken Parquet: {first[:160]}; copy or download it again"
