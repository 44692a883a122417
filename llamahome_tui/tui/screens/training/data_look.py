"""Rows as the model sees them, one at a time: the newest one asked for wins, and a template that hangs delays nothing.

Templates are rendered in a child process with limits (`data/pool.py`), which stays open while rows are looked at. With
nothing asked for, the rows in view are counted one by one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llamahome_tui.data.inspect import Look, look_at
from llamahome_tui.data.rows import Bad
from llamahome_tui.errors import DataError, Interrupted, LlamaHomeError
from llamahome_tui.tui.screens.training.data_words import RowLine, fault_of

if TYPE_CHECKING:
    from llamahome_tui.data.pool import Pool

NO_MODEL = "data.no_model"
_KEPT = 64  # looks that are kept for going back and forth
_TURN_S = 0.1  # how long rows in view are counted before what came meanwhile is painted
_PATIENCE_S = 1.0  # a look that takes longer is given up for another row


@dataclass(frozen=True, slots=True)
class Count:
    """Tokens of a row and how many of them are learned, or why the model's template refuses it."""

    tokens: int = 0
    learned: int = 0
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Looked:
    """What is known of the row asked for last: its tokens, or a fault and what helps. `lacking`: there is no model."""

    number: int
    look: Look | None = None
    fault: str = ""
    hint: str = ""
    lacking: bool = False


@dataclass(frozen=True, slots=True)
class Looks:
    """The newest look, and the counts so far by row number."""

    looked: Looked | None = None
    counts: Mapping[int, Count] = field(default_factory=dict)


class Looker:
    """`want`, `count` and `close` come from the application's thread, `read` is called by one other."""

    def __init__(self, open_pool: Callable[[], Pool], kick: Callable[[], None]) -> None:
        self._open_pool, self._kick = open_pool, kick
        self._pool: Pool | None = None
        self._wanted: RowLine | None = None
        self._in_view: tuple[RowLine, ...] = ()
        self._looked: Looked | None = None
        self._kept: dict[int, Looked] = {}
        self._counts: dict[int, Count] = {}
        self._counting = True  # until a template hangs: it would again
        self._since = 0.0  # when the look that goes on now began; 0: none does
        self._closed = False

    def want(self, line: RowLine) -> None:
        """Look at this row now; what was asked for before does not matter any more."""
        if self._wanted is not None and line.number == self._wanted.number:
            return
        self._wanted = line
        if self._since and time.monotonic() - self._since > _PATIENCE_S:
            self._drop_pool()
        self._kick()

    def count(self, lines: Sequence[RowLine]) -> None:
        """These rows are in view: count their tokens when there is time."""
        missing = tuple(line for line in lines if line.sample is not None and line.number not in self._counts)
        if missing != self._in_view:
            self._in_view = missing
            self._kick()

    def close(self) -> None:
        """End the child process; nobody waits for it."""
        self._closed = True
        self._drop_pool()

    def _drop_pool(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            threading.Thread(target=pool.close, name="close pool", daemon=True).start()

    # The looking thread.

    def read(self) -> Looks:
        """Look at what is wanted, else count some of the rows in view; give what is known now."""
        line = self._wanted
        if line is not None and (self._looked is None or self._looked.number != line.number):
            looked = self._kept.get(line.number) or self._look(line)
            if looked is not None:
                self._remember(looked)
                self._looked = looked
        else:
            self._count_some()
        return Looks(self._looked, dict(self._counts))

    def _count_some(self) -> None:
        until = time.monotonic() + _TURN_S
        wanted = self._wanted
        for line in self._in_view:
            if line.number in self._counts:
                continue
            if not self._counting or self._wanted is not wanted or self._closed:
                return
            if time.monotonic() > until:
                self._kick()
                return
            looked = self._look(line)
            if looked is not None:
                self._remember(looked)

    def _look(self, line: RowLine) -> Looked | None:
        """One look; None where it was given up for another one."""
        if line.sample is None:
            return Looked(line.number, fault=line.fault)
        self._since = time.monotonic()
        pool = self._pool
        try:
            if pool is None:
                self._pool = pool = self._open_pool()
            if self._closed:
                self._drop_pool()
                return None
            return Looked(line.number, look_at(pool, line.sample, row=line.number + 1, format=line.format))
        except Interrupted:
            self._pool = None if self._pool is pool else self._pool
            return None
        except DataError as error:
            self._counting = self._counting and error.error_code != "template.unbounded"
            return Looked(line.number, fault=_reason(error), hint=error.hint)
        except LlamaHomeError as error:
            self._counting = False  # the model's files are at fault, not the row
            lacking = error.error_code == NO_MODEL
            return Looked(line.number, fault=error.message, hint=error.hint, lacking=lacking)
        finally:
            self._since = 0.0

    def _remember(self, looked: Looked) -> None:
        self._kept[looked.number] = looked
        while len(self._kept) > _KEPT:
            self._kept.pop(next(iter(self._kept)))
        if looked.lacking:
            return
        if looked.look is None:
            self._counts[looked.number] = Count(fault=looked.fault)
            return
        parts = looked.look.parts
        self._counts[looked.number] = Count(
            sum(len(part.ids) for part in parts), sum(part.trained_tokens for part in parts)
        )


def _reason(error: DataError) -> str:
    bad = error.data.get("bad")
    if isinstance(bad, list) and bad and isinstance(bad[0], dict):
        return fault_of(Bad("", 0, str(bad[0].get("field", "")), str(bad[0].get("reason", ""))))
    return error.message
