"""Checking data files before anything heavy starts: every row is read and must be a chat; no model, no tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from llamahome_tui.data.formats import RowError, detect, to_sample, unknown_format
from llamahome_tui.data.rows import Bad, Read, Row, read_rows
from llamahome_tui.data.samples import Sample
from llamahome_tui.errors import DataError

MAX_LISTED = 100  # bad rows that are named; the rest is counted
_LOOKED_AT = 50


@dataclass(frozen=True, slots=True)
class Validation:
    """What a look at every row found. `bad` names the first 100 of `bad_count`."""

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

    def raise_if_bad(self) -> None:
        """Raises DataError naming the first bad row and listing the others."""
        if self.bad_count:
            raise bad_rows(self.bad, self.bad_count)


def validate(
    paths: Sequence[Path], format: str = "auto", columns: Mapping[str, str] | None = None, group: str = ""
) -> Validation:
    """Read every row of every file as a sample. Never raises for what stands in a file: it is in `bad`."""
    rows = 0
    found = ""
    bad: list[Bad] = []
    count = 0
    for path in paths:
        here = 0
        for read, known in samples(path, format, columns or {}, group):
            found = found or known
            if isinstance(read, Bad):
                count += 1
                bad += [read] if len(bad) < MAX_LISTED else []
            else:
                here += 1
        rows += here
    return Validation(rows, found, tuple(bad), count)


def samples(
    path: Path, format: str, columns: Mapping[str, str], group: str = "", on_bytes: Any = None
) -> Iterator[tuple[Sample | Bad, str]]:
    """(sample or Bad, format) for each row of a file, in order; a file without rows is one Bad."""
    reading = read_rows(path, on_bytes)
    first: list[Read] = list(islice(reading, _LOOKED_AT))
    good = [read for read in first if isinstance(read, Row)]
    if not first:
        yield Bad(str(path), 0, "", "the file is empty"), ""
        return
    known = detect(good, columns) if format == "auto" else format
    if not known:
        yield from ((read, "") for read in first if isinstance(read, Bad))
        if good:
            yield Bad(good[0].file, good[0].line, "", unknown_format(good)), ""
        return
    count = 0
    for read in chain(first, reading):
        if isinstance(read, Bad):
            yield read, known
            continue
        count += 1
        try:
            yield to_sample(read, known, columns, group), known
        except RowError as error:
            yield Bad(read.file, read.line, error.field, error.reason), known
    if not count and not any(isinstance(read, Bad) for read in first):
        yield Bad(str(path), 0, "", "the file has no rows"), known


def bad_rows(bad: Sequence[Bad], count: int) -> DataError:
    """One error for all bad rows; `data["bad"]` lists the first of them."""
    more = f" (and {count - 1} more)" if count > 1 else ""
    return DataError(
        f"{bad[0]}{more}",
        hint="mend or remove these rows, then llamahome --batch train start SPEC",
        data={"bad": [one.as_dict() for one in bad[:MAX_LISTED]], "bad_count": count},
    )
