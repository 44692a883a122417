"""What happens to rows that are too long: dropped, cut, split or refused, and never more dropped than was said."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llamahome_tui.data.check import MAX_LISTED, bad_rows
from llamahome_tui.data.rows import Bad
from llamahome_tui.errors import DataError

if TYPE_CHECKING:
    from llamahome_tui.data.examples import Writer
    from llamahome_tui.training.spec import Data

_SHARE = 0.01  # of the training rows that may be dropped without a word in the spec


@dataclass(slots=True)
class TokenRow:
    """A tokenised row and where it comes from. `content` is the hash of its text."""

    ids: array[int]
    mask: bytearray
    content: bytes
    group: str
    file: str
    line: int

    def too_long(self, limit: int) -> Bad:
        """This row as one that is over the limit."""
        return Bad(self.file, self.line, "", f"is {len(self.ids)} tokens long, over {limit}")


def max_length(data: Data, rows: Sequence[TokenRow], context: int) -> int:
    """Tokens a row may have. auto: the longest row, capped by the model's context (0: unknown).

    Raises DataError where the spec wants more than the model was made for.
    """
    wanted = data.max_length
    if isinstance(wanted, int):
        if context and wanted > context:
            raise DataError(
                f"data.max_length: {wanted} tokens are over the model's context of {context}",
                hint=f"llamahome --batch train start SPEC --set data.max_length={context}",
            )
        return wanted
    longest = max((len(row.ids) for row in rows), default=0)
    return min(longest, context) if context else longest


@dataclass(frozen=True, slots=True)
class LengthRule:
    """`long` of the spec for one limit in tokens. `consent`: the user wrote it, even if it is the default."""

    limit: int
    long: str
    consent: bool

    def refuse(self, rows: Sequence[TokenRow]) -> None:
        """Raises DataError where rows are too long and the rule is `error`, or it would drop more than 1% unasked."""
        too_long = [row for row in rows if len(row.ids) > self.limit]
        if not too_long:
            return
        bad = [row.too_long(self.limit) for row in too_long[:MAX_LISTED]]
        if self.long == "error":
            raise bad_rows(bad, len(too_long))
        if self.long == "drop" and not self.consent and len(too_long) > len(rows) * _SHARE:
            raise DataError(
                f"{len(too_long)} of {len(rows)} rows are longer than {self.limit} tokens, "
                "and more than 1% would be dropped",
                code="data.long",
                hint="say what to do with them: llamahome --batch train start SPEC --set data.long=truncate",
                data={"bad": [one.as_dict() for one in bad], "bad_count": len(too_long)},
            )

    def apply(
        self, rows: Sequence[TokenRow], numbers: Sequence[int], writer: Writer
    ) -> tuple[list[int], dict[str, int]]:
        """Give the rows to the writer, as they are, cut, or in pieces; their numbers there, and what was left out.

        Pieces without a learned token teach nothing and are left out; a row of which none stays is `untrained`.
        """
        kept: list[int] = []
        lost = {"long": 0, "untrained": 0}
        for number in numbers:
            row = rows[number]
            if len(row.ids) > self.limit and self.long in ("drop", "error"):
                lost["long"] += 1
                continue
            learns = False
            for ids, mask in self._pieces(row):
                mask[:1] = b"\0"  # nothing comes before a piece's first token that could predict it
                if any(mask):
                    learns = True
                    kept.append(len(writer))
                    writer.add(ids, mask)
            lost["untrained"] += not learns
        return kept, lost

    def _pieces(self, row: TokenRow) -> list[tuple[array[int], bytearray]]:
        if len(row.ids) <= self.limit:
            return [(row.ids, row.mask)]
        starts = range(0, len(row.ids) if self.long == "split" else 1, self.limit)
        return [(row.ids[start : start + self.limit], row.mask[start : start + self.limit]) for start in starts]
