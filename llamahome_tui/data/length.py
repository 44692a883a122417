"""What happens to rows that are too long: dropped, cut, split or refused, and never more dropped than was said.

The limit is known before the first row is read, so that rows can be dealt with as they come.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from llamahome_tui.data.caller import TRAIN, on
from llamahome_tui.data.check import MAX_LISTED, bad_rows
from llamahome_tui.data.encode import Encoded
from llamahome_tui.data.rows import Bad
from llamahome_tui.errors import DataError

if TYPE_CHECKING:
    from llamahome_tui.training.shape import Data

UNLIMITED = 1 << 62
_SHARE = 0.01  # of the training rows that may be dropped without a word in the spec

Piece: TypeAlias = "tuple[array[int], bytes | bytearray]"


def most_tokens(data: Data, context: int, caller: str = TRAIN) -> int:
    """Tokens a row may have: what the spec says, else the model's context (0: unknown, and no limit).

    Raises DataError where the spec wants more than the model was made for.
    """
    wanted = data.max_length
    if not isinstance(wanted, int):
        return context or UNLIMITED
    if context and wanted > context:
        raise DataError(
            f"data.max_length: {wanted} tokens are over the model's context of {context}",
            hint=on(caller, f"data.max_length={context}"),
        )
    return wanted


@dataclass(frozen=True, slots=True)
class LengthRule:
    """`long` of the spec for one limit in tokens. `consent`: the user wrote it, even if it is the default."""

    limit: int
    long: str
    consent: bool
    caller: str = TRAIN

    @property
    def drops(self) -> bool:
        """Whether rows that are too long are left out."""
        return self.long in ("drop", "error")

    def apply(self, row: Encoded) -> list[tuple[Piece, ...]]:
        """What is kept of a row: nothing, itself, its beginning, or its pieces; those of a pair are cut together.

        A piece without a learned token teaches nothing and is left out; a pair needs one on both sides.
        Raises DataError for a pair that would be split: half an answer is no better and no worse than another half.
        """
        if len(row.sequences) == 1 and len((only := row.sequences[0]).ids) <= self.limit:  # nearly all there are
            return [((only.ids, only.mask),)] if 1 in only.mask else []
        longest = max(len(one.ids) for one in row.sequences)
        if longest > self.limit and self.drops:
            return []
        if longest > self.limit and self.long == "split" and len(row.sequences) > 1:
            raise DataError(
                f"{row.file}:{row.line}: the pair is longer than {self.limit} tokens, and pairs cannot be split",
                code="data.split_pairs",
                hint=f"cut or drop them: {on(self.caller, 'data.long=truncate')}",
            )
        starts = range(0, longest if self.long == "split" else 1, min(self.limit, longest) or 1)
        pieces = (tuple(self._piece(one.ids, one.mask, start) for one in row.sequences) for start in starts)
        return [piece for piece in pieces if all(1 in mask for _, mask in piece)]

    def refuse(self, longest: Sequence[Bad], count: int, rows: int) -> None:
        """`count` of `rows` training rows are too long, and `longest` names the first of them.

        Raises DataError where the rule is `error`, or it would drop more than 1% unasked.
        """
        if not count:
            return
        if self.long == "error":
            raise bad_rows(longest, count, "data stats SPEC")
        if self.long == "drop" and not self.consent and count > rows * _SHARE:
            raise DataError(
                f"{count} of {rows} rows are longer than {self.limit} tokens, and more than 1% would be dropped",
                code="data.long",
                hint=f"say what to do with them: {on(self.caller, 'data.long=truncate')}",
                data={"bad": [one.as_dict() for one in longest[:MAX_LISTED]], "bad_count": count},
            )

    def too_long(self, file: str, line: int, tokens: int) -> Bad:
        """A row that is over the limit."""
        return Bad(file, line, "", f"is {tokens} tokens long, over {self.limit}")

    def _piece(self, ids: array[int], mask: bytes | bytearray, start: int) -> Piece:
        cut = bytearray(mask[start : start + self.limit])
        cut[:1] = b"\0" * len(cut[:1])  # nothing comes before a piece's first token that could predict it
        return ids[start : start + self.limit], cut
