"""What a data set is, in numbers: lengths, what is learned, what is cut off, what stands in it twice.

Rows stream through the same children, rules and table as in a preparation, so that the numbers are those of the run; of
each row a few numbers stay, and its words' hashes as far as `data/near.py` keeps them.
"""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from llamahome_tui.data.caller import TRAIN
from llamahome_tui.data.check import MAX_LISTED, samples
from llamahome_tui.data.encode import Encoded, Encoding
from llamahome_tui.data.figures import Bin, Lengths, Longest, Overlap, Place, Stats, Twin, Twins, histogram, lengths_of
from llamahome_tui.data.files import eval_file, expand, weights_by_file
from llamahome_tui.data.length import UNLIMITED, LengthRule, most_tokens
from llamahome_tui.data.near import Ints, Sketches, messages_of, words
from llamahome_tui.data.pool import Pool
from llamahome_tui.data.rows import Bad
from llamahome_tui.data.split import classes
from llamahome_tui.data.table import RowTable
from llamahome_tui.data.tokens import context_of
from llamahome_tui.errors import DataError
from llamahome_tui.training.auto import CALL_TOKENS, CPU_MICRO_TOKENS, Micro
from llamahome_tui.training.layout import padding_share

if TYPE_CHECKING:
    from llamahome_tui.data.samples import Sample
    from llamahome_tui.training.shape import Data

__all__ = [
    "Bin",
    "Lengths",
    "Longest",
    "Overlap",
    "Place",
    "Stats",
    "Twin",
    "Twins",
    "histogram",
    "stats",
]

_BATCH = 128  # rows that a child is given at once,
_BATCH_WORDS = 1 << 15  # and words in them
_OPEN_ENDED = "the chat template ends an answer with no token of its own: the model may not learn where to stop"
_EXAMPLES = 10
_LONGEST = 5
_MODES: tuple[Literal["plain", "sorted", "packed"], ...] = ("plain", "sorted", "packed")
Tell = Callable[[int, int], None]


def stats(
    data: Data,
    model_dir: Path,
    progress: Tell | None = None,
    *,
    global_batch: int = 16,
    batch_size: int | Literal["auto"] = "auto",
    seed: int = 42,
    workers: int = 1,
    now: datetime | None = None,
    caller: str = TRAIN,
) -> Stats:
    """Read, render and tokenise every row of what `data` names, and count.

    `progress` is told bytes read and bytes in all; what it raises ends the work. Padding is that of the trainer's
    micro-batches on a CPU, or of `batch_size` rows. A bad row is no error: it is in `bad`. Raises NotFoundError for a
    file that is not there, DataError for settings that fit no row, and what `Pool` raises; its hints end in `caller`.
    """
    reading = _Reading(data, model_dir, progress or _quiet, caller)
    with Pool(Encoding(model_dir.absolute(), data, now, caller), workers) as pool:
        for encoded in pool.encode(reading.batches()):
            reading.take(encoded)
    micro = Micro("rows", batch_size) if isinstance(batch_size, int) else Micro("tokens", CPU_MICRO_TOKENS)
    return reading.counted(global_batch, replace(micro, call=CALL_TOKENS["cpu"]), seed)


def _quiet(done: int, total: int) -> None:
    pass


@dataclass(slots=True)
class _Reading:
    """One reading of all files. Row numbers count good rows from 0; those of the eval file come last."""

    data: Data
    model_dir: Path
    progress: Tell
    caller: str
    files: list[Path] = field(init=False)
    held_file: Path | None = field(init=False)
    rule: LengthRule = field(init=False)
    table: RowTable = field(init=False)
    format: str = ""
    done: int = 0
    total: int = 0
    rows: int = 0  # for training
    tokens: int = 0
    learned: int = 0
    lost: int = 0
    untrained: int = 0
    sketches: Sketches = field(default_factory=Sketches)
    compared: bool = True  # whether rows still go to the sketches
    waiting: deque[tuple[bool, list[str]]] = field(default_factory=deque)  # rows under way: for training?, their words
    pieces: array[int] = field(default_factory=lambda: array("I"))  # tokens of both sides of what is kept, or and 0
    messages: Counter[str] = field(default_factory=Counter)
    bad: list[Bad] = field(default_factory=list)
    bad_count: int = 0
    warnings: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.held_file = eval_file(self.data.eval, self.data.train, Path("/"))
        train = expand(self.data.train, Path("/"))
        # A glob may well hold the eval file too; where nothing else is named, its rows are what is looked at.
        self.files = [path for path in train if path != self.held_file] or train
        if self.held_file in self.files:
            self.warnings[f"{self.held_file} is for evaluation, so nothing is left to train on"] = None
        limit = most_tokens(self.data, context_of(self.model_dir), self.caller)
        self.rule = LengthRule(limit, self.data.long, consent=True, caller=self.caller)
        self.table = RowTable(grouped=bool(self.data.group))
        self.total = sum(path.stat().st_size for path in self._all())

    def batches(self) -> Iterator[Sequence[Sample]]:
        """All good rows, file by file."""
        data = self.data
        before = 0
        for number, path in enumerate(self._all()):
            batch: list[Sample] = []
            size = 0
            for read, known in samples(path, data.format, data.columns, data.group, self._at(before)):
                self.format = self.format or known
                if isinstance(read, Bad):
                    self._note(read)
                    continue
                said = words(read)
                self.waiting.append((number < len(self.files), said if self.compared else []))
                if number < len(self.files):
                    self.messages.update(str(message["role"]) for message in messages_of(read))
                batch.append(read)
                size += len(said)
                if len(batch) == _BATCH or size >= _BATCH_WORDS:
                    yield batch
                    batch, size = [], 0
            before += path.stat().st_size
            if batch:
                yield batch

    def take(self, encoded: Sequence[Encoded | Bad]) -> None:
        """What became of a batch."""
        for one in encoded:
            for_training, said = self.waiting.popleft()
            if isinstance(one, Bad):
                self._note(one)
                continue
            self.compared = self.compared and self.sketches.add(said)
            kept = self.rule.apply(one)
            self.table.add(one, [max(len(ids) for ids, _ in piece) for piece in kept])
            for piece in kept:
                self.pieces.extend((len(piece[0][0]), len(piece[1][0]) if len(piece) > 1 else 0))
            if for_training:
                self._count(one)
        self.progress(self.done, self.total)

    def counted(self, global_batch: int, micro: Micro, seed: int) -> Stats:
        """The numbers of all that was taken."""
        rows = np.arange(self.rows)
        lengths = self.table.lengths[: self.rows]
        train, held = self._sides()
        both = np.frombuffer(self.pieces, np.uint32).reshape(-1, 2)[self._trained_on(train)].reshape(-1)
        kept = both[both > 0].astype(np.int64)
        longest = np.argsort(-lengths, kind="stable")[:_LONGEST]
        return Stats(
            rows=self.rows,
            format=self.format,
            tokens=self.tokens,
            trained_tokens=self.learned,
            tokens_per_epoch=int(kept.sum()),
            max_length=0 if self.rule.limit == UNLIMITED else self.rule.limit,
            long_rows=len(self.table.longer_than(self.rule.limit, rows)),
            lost_trained_tokens=self.lost,
            untrained_rows=self.untrained,
            lengths=lengths_of(lengths),
            longest=tuple(
                Longest(Place(file, line), tokens) for file, line, tokens in self.table.places(longest, _LONGEST)
            ),
            duplicates=self._duplicates(rows),
            overlap=self._overlap(train, held),
            padding={
                mode: round(padding_share(kept, global_batch=global_batch, micro=micro, seed=seed, mode=mode), 6)
                for mode in _MODES
            },
            messages=dict(self.messages),
            bad=tuple(self.bad),
            bad_count=self.bad_count,
            warnings=tuple(self.warnings),
        )

    def _all(self) -> list[Path]:
        held = self.held_file
        return [*self.files, *([held] if held and held not in self.files else [])]

    def _at(self, before: int) -> Callable[[int], None]:
        def on_bytes(at: int) -> None:
            self.done = before + at
            self.progress(self.done, self.total)

        return on_bytes

    def _note(self, bad: Bad) -> None:
        self.bad_count += 1
        if len(self.bad) < MAX_LISTED:
            self.bad.append(bad)

    def _count(self, row: Encoded) -> None:
        self.rows += 1
        within = 0
        for one in row.sequences:
            learned = one.mask.count(1)
            cut = one.mask[self.rule.limit :].count(1) if len(one.ids) > self.rule.limit else 0
            self.tokens += len(one.ids)
            self.learned += learned
            self.lost += cut
            within += learned - cut
        self.untrained += not within
        if row.open_ended:
            self.warnings["the chat template ends an answer with no token of its own: nothing may tell it to stop"] = (
                None
            )

    def _sides(self) -> tuple[Ints, Ints]:
        """Rows that are trained on and rows that are held out: of the eval file, or as the split would choose them."""
        try:
            train, held, _ = self.table.sides(self.data.eval, str(self.held_file or ""), self.data.split_seed)
        except DataError as error:
            self.warnings[error.message] = None
            return np.arange(self.rows), np.zeros(0, np.int64)
        return train, held

    def _trained_on(self, train: Ints) -> Ints:
        """The numbers of the pieces of one epoch."""
        counted = weights_by_file(self.data.train, self.data.weights, Path("/"))
        weights = {str(path): weight for path, weight in counted.items()}
        return self.table.pieces(self.table.weighted(self.table.kept(train), weights, self.data.split_seed))

    def _duplicates(self, rows: Ints) -> Twins:
        """Rows with an earlier one that says the same."""
        first = self._first()
        exact = rows[first[rows] != rows]
        near = self.sketches.near(self._within(rows[first[rows] == rows]))
        return self._found(exact, first[exact], near, len(self._within(rows)))

    def _overlap(self, train: Ints, held: Ints) -> Overlap:
        """Held-out rows that are also among those to train on; rows that a run would leave out for that count too."""
        if not len(held):
            return Overlap()
        first = self._first()
        train = np.setdiff1d(np.arange(self.rows), held) if self.held_file else train
        if not len(train):
            return Overlap()
        named, at = np.unique(first[train], return_index=True)  # the earliest of equal rows
        place = np.searchsorted(named, first[held]).clip(max=len(named) - 1)
        also = named[place] == first[held]
        near = self.sketches.near(self._within(held[~also]), self._within(np.sort(train[at])))
        found = self._found(held[also], train[at[place[also]]], near, len(self._within(held)))
        return Overlap("file" if self.held_file else "split", len(held), found)

    def _first(self) -> Ints:
        """For each row the number of the first one that is equal to it."""
        _, first, same = np.unique(classes(self.table.contents), return_index=True, return_inverse=True)
        found: Ints = first[same]
        return found

    def _within(self, rows: Ints) -> Ints:
        """Those of `rows` whose words are kept."""
        return rows[rows < len(self.sketches)]

    def _found(self, exact: Ints, twins: Ints, near: list[tuple[int, int, float]], compared: int) -> Twins:
        equal = zip(exact[:_EXAMPLES].tolist(), twins[:_EXAMPLES].tolist(), strict=True)
        shown = [*((row, twin, 1.0) for row, twin in equal), *near[:_EXAMPLES]]
        examples = tuple(Twin(self._place(row), self._place(twin), likeness) for row, twin, likeness in shown)
        return Twins(len(exact), len(near), compared, examples)

    def _place(self, row: int) -> Place:
        ((file, line, _),) = self.table.places(np.array([row]), 1)
        return Place(file, line)
