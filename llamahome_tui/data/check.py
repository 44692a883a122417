"""Checking data files before anything heavy starts: every row is read and must be a sample; no model, no tokenizer."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llamahome_tui.data.formats import RowError, most_voted, shape_of, to_sample, unknown_format
from llamahome_tui.data.rows import Bad, Row, read_rows
from llamahome_tui.data.samples import Sample
from llamahome_tui.errors import DataError

NO_ROWS = "has no rows"
MAX_LISTED = 100  # bad rows that are named; the rest is counted
_LOOKED_AT = 50  # rows that a file's format is told from,
_LOOKED_BYTES = 32 << 20  # and no more than these
_APART = "give each format a file of its own, or name one in data.format"


@dataclass(frozen=True, slots=True)
class Validation:
    """What a look at every row found. `bad` names the first 100 of `bad_count`; `format` all formats, comma between."""

    rows: int
    format: str
    bad: tuple[Bad, ...]
    bad_count: int

    def as_dict(self) -> dict[str, Any]:
        """The result of `data validate` (CONTRACT)."""
        return {
            "rows": self.rows,
            "format": self.format,
            "bad": [one.as_dict() for one in self.bad],
            "bad_count": self.bad_count,
        }

    @property
    def is_empty(self) -> bool:
        """Whether there are no rows at all, good or bad."""
        return not self.rows and all(one.reason == NO_ROWS for one in self.bad)

    def with_bad_of(self, other: Validation) -> Validation:
        """The same with what is bad elsewhere too."""
        bad = (*self.bad, *other.bad)[:MAX_LISTED]
        return replace(self, bad=bad, bad_count=self.bad_count + other.bad_count)

    def raise_if_bad(self) -> None:
        """Raises DataError naming the first bad row and listing the others."""
        if self.bad_count:
            raise bad_rows(self.bad, self.bad_count)


def validate(
    paths: Sequence[Path],
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    group: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Validation:
    """Read every row of every file as a sample. Never raises for what stands in a file: it is in `bad`.

    `progress` is told bytes done and bytes in all; what it raises ends the reading and passes through.
    """
    rows = 0
    found: dict[str, None] = {}
    bad: list[Bad] = []
    count = 0
    sizes = [_size(path) for path in paths]
    for number, path in enumerate(paths):
        on_bytes = _told(progress, sum(sizes[:number]), sum(sizes)) if progress else None
        for read, known in samples(path, format, columns or {}, group, on_bytes):
            if known:
                found[known] = None
            if isinstance(read, Bad):
                count += 1
                if len(bad) < MAX_LISTED:
                    bad.append(read)
            else:
                rows += 1
    return Validation(rows, ", ".join(found), tuple(bad), count)


def samples(
    path: Path,
    format: str,
    columns: Mapping[str, str],
    group: str = "",
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[tuple[Sample | Bad, str]]:
    """(sample or Bad, format) for each row of a file, in order; a file without rows is one Bad.

    The format is that of most of the first rows. A row that has the columns of another one is bad, even if it could be
    read: files are not mixed by intent. Where the spec names a format, only what cannot be read as that is bad.
    """
    known = told_format(path, columns) if format == "auto" else format
    empty = True
    for read in read_rows(path, on_bytes):
        empty = False
        if isinstance(read, Bad):
            yield read, known
        elif not known:
            yield Bad(read.file, read.line, "", unknown_format([read])), ""
            return
        else:
            yield sample_of(read, known, columns, group, strict=format == "auto"), known
    if empty:
        yield Bad(str(path), 0, "", NO_ROWS), known


def told_format(path: Path, columns: Mapping[str, str] | None = None) -> str:
    """The format of a file by its first rows, "" where none is known. They are read, and not kept."""
    votes: list[str] = []
    at = 0

    def note(done: int) -> None:
        nonlocal at
        at = done

    for number, read in enumerate(read_rows(path, note), 1):
        if isinstance(read, Row):
            votes.append(shape_of(read.value, columns))
        if number >= _LOOKED_AT or (any(votes) and at > _LOOKED_BYTES):
            break
    return most_voted(votes)


def bad_rows(bad: Sequence[Bad], count: int, again: str = "") -> DataError:
    """One error for all bad rows; `data["bad"]` lists the first of them.

    `again` is the command that looks at them once more; empty: the one that reads the first one's file.
    """
    more = f" (and {count - 1} more)" if count > 1 else ""
    return DataError(
        f"{bad[0]}{more}",
        hint=f"mend or remove them, then: llamahome --batch {again or shlex.join(('data', 'validate', bad[0].file))}",
        data={"bad": [one.as_dict() for one in bad[:MAX_LISTED]], "bad_count": count},
    )


def sample_of(read: Row, known: str, columns: Mapping[str, str], group: str, *, strict: bool) -> Sample | Bad:
    """The row as a sample of the format `known`, or why it is none. `strict`: a row of another format is bad, too."""
    try:
        sample = to_sample(read, known, columns, group)
    except RowError as error:
        other = shape_of(read.value, columns)
        mixed = f": the row is {other}, and the file is {known}" if other not in (known, "", "text") else ""
        return Bad(read.file, read.line, error.field, error.reason + mixed)
    # Running text is no other format: a column text may stand beside those of any.
    if strict and (other := shape_of(read.value, columns)) not in (known, "", "text"):
        return Bad(read.file, read.line, "", f"is {other}, and the file is {known}: {_APART}")
    return sample


def _told(progress: Callable[[int, int], None], before: int, total: int) -> Callable[[int], None]:
    return lambda at: progress(before + at, total)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # reading it says why
