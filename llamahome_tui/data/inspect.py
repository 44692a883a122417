"""One row as the model sees it, token by token; the pieces of a part, joined, are its text, whatever the tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from llamahome_tui.data.browse import RowIndex
from llamahome_tui.data.check import bad_rows, sample_of, told_format
from llamahome_tui.data.files import expand
from llamahome_tui.data.formats import unknown_format
from llamahome_tui.data.rows import Bad, Row
from llamahome_tui.errors import NotFoundError

if TYPE_CHECKING:
    from llamahome_tui.data.pool import Pool
    from llamahome_tui.data.samples import Sample
    from llamahome_tui.training.shape import Data


_LOOK: Final = "data inspect SPEC"


@dataclass(frozen=True, slots=True)
class Part:
    """A sequence of a row. `mask` and `special` have one byte per token: 1 where it is learned, where it is special.

    `title` is "" or, for a pair, "chosen" and "rejected". A token that brings no whole character of its own (the second
    half of an emoji) has the piece "".
    """

    title: str
    text: str
    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    mask: bytes
    special: bytes

    @property
    def trained_tokens(self) -> int:
        """How many tokens of it are learned."""
        return self.mask.count(1)

    def as_dict(self) -> dict[str, Any]:
        """This part as `data inspect` prints it (CONTRACT)."""
        return {
            "text": self.text,
            "ids": list(self.ids),
            "pieces": list(self.pieces),
            "mask": list(self.mask),
            "special": list(self.special),
            "trained_tokens": self.trained_tokens,
        }


@dataclass(frozen=True, slots=True)
class Look:
    """A row that was looked at; `row` counts from 1 over all files."""

    row: int
    file: str
    line: int
    format: str
    parts: tuple[Part, ...]

    def as_dict(self) -> dict[str, Any]:
        """The result of `data inspect`: the first part at the top, the parts of a pair under their titles as well."""
        where = {"row": self.row, "file": self.file, "line": self.line, "format": self.format}
        titled = {part.title: part.as_dict() for part in self.parts if part.title}
        return {**where, **self.parts[0].as_dict(), **titled}


def inspect(data: Data, model_dir: Path, row: int, *, now: datetime | None = None, again: str = "") -> Look:
    """Row number `row` (from 1, over all training files) of what `data` names.

    Raises NotFoundError `data.no_row` where there are not so many, DataError for a row that cannot be used, and what
    `Pool` raises. `again` is the command that looks once more, which hints end in.
    """
    from llamahome_tui.data.encode import Encoding
    from llamahome_tui.data.pool import Pool

    sample, known = _sample(data, row)
    if isinstance(sample, Bad):
        raise bad_rows([sample], 1, again)
    with Pool(Encoding(model_dir, data, now, again or _LOOK)) as pool:
        return look_at(pool, sample, row=row, format=known, again=again)


def look_at(pool: Pool, sample: Sample, *, row: int, format: str, again: str = "") -> Look:
    """A sample through a pool that is open already. Raises DataError where its template or mask fails."""
    seen = pool.look(sample)
    if isinstance(seen, Bad):
        raise bad_rows([seen], 1, again)
    parts = tuple(
        Part(part.title, part.text, part.ids, pieces(part.text, part.offsets, part.mask), part.mask, part.special)
        for part in seen.parts
    )
    return Look(row, sample.file, sample.line, format, parts)


def _sample(data: Data, row: int) -> tuple[Sample | Bad, str]:
    """The row as a sample, or what is wrong with it, and its format."""
    if row < 1:
        raise _no_row(row, "the first is 1", 1, {})
    before = 0
    files = expand(data.train, Path("/"))
    for path in files:
        index = RowIndex(path)
        try:
            while not index.done and row > before + index.count:
                index.scan(0)
            found = index.read(row - before - 1, 1)
        finally:
            index.close()
        if found:
            return _read_as(path, data, found[0])
        before += index.count
    if not before:
        return Bad(str(files[0]), 0, "", "has no rows"), ""
    raise _no_row(row, f"the data has {before} row{'s' * (before > 1)}", before, {"rows": before})


def _no_row(row: int, why: str, there: int, known: Mapping[str, int]) -> NotFoundError:
    return NotFoundError(
        f"there is no row {row}: {why}",
        code="data.no_row",
        hint=f"one that is there: llamahome --batch data inspect FILE --model ID --row {there}",
        data={"row": row, **known},
    )


def _read_as(path: Path, data: Data, read: Row | Bad) -> tuple[Sample | Bad, str]:
    known = told_format(path, data.columns) if data.format == "auto" else data.format
    if isinstance(read, Bad):
        return read, known
    if not known:
        return Bad(read.file, read.line, "", unknown_format([read])), ""
    return sample_of(read, known, data.columns, data.group, strict=data.format == "auto"), known


def pieces(text: str, offsets: Sequence[tuple[int, int]], mask: Sequence[int] = b"") -> tuple[str, ...]:
    """The text of each token; joined they are `text`. `offsets` are the tokens' character spans.

    Of several tokens that make one character the first has it. White space between tokens, which some tokenizers leave
    out, stands with the one before it, but with one that is not learned rather than with one that is.
    """
    starts: list[int] = []
    reached = 0
    for at, (start, end) in enumerate(offsets):
        gap = at > 0 and start > reached
        to_next = gap and bool(mask) and bool(mask[at - 1]) and not mask[at]
        starts.append(min(start, len(text)) if gap and not to_next else reached)
        reached = max(reached, starts[-1], min(end, len(text)))
    return tuple(text[start:end] for start, end in pairwise([*starts, len(text)]))
