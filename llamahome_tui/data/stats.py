"""What a data set is, in numbers: lengths, what is learned, what is cut off, what stands in it twice.

Rows stream through: of each one only a few numbers stay.
"""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from llamahome_tui.data import split
from llamahome_tui.data.check import MAX_LISTED, samples
from llamahome_tui.data.encode import Encoded, Encoding
from llamahome_tui.data.files import eval_file, expand
from llamahome_tui.data.near import Ints, Sketches, messages_of, words
from llamahome_tui.data.pool import Pool
from llamahome_tui.data.rows import Bad
from llamahome_tui.data.tokens import context_of
from llamahome_tui.training.auto import CALL_TOKENS, CPU_MICRO_TOKENS, Micro
from llamahome_tui.training.layout import padding_share

if TYPE_CHECKING:
    from llamahome_tui.data.samples import Sample
    from llamahome_tui.training.shape import Data

_BATCH = 128  # rows that a child is given at once
_BARS = 16
_EXAMPLES = 10
_LONGEST = 5
_MODES: tuple[Literal["plain", "sorted", "packed"], ...] = ("plain", "sorted", "packed")
Tell = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Bin:
    """A bar of a histogram: so many rows have at least `start` and fewer than `end` tokens."""

    start: int
    end: int
    rows: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of a row, over all rows; of a pair its longer side counts."""

    min: int
    mean: float
    p50: int
    p90: int
    p95: int
    p99: int
    max: int
    histogram: tuple[Bin, ...]

    def as_dict(self) -> dict[str, Any]:
        """As `data stats` prints it."""
        numbers = {name: getattr(self, name) for name in ("min", "mean", "p50", "p90", "p95", "p99", "max")}
        return {**numbers, "histogram": [{"from": b.start, "to": b.end, "rows": b.rows} for b in self.histogram]}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Twin:
    """A row and an earlier one that says the same, or nearly: `likeness` is their Jaccard index, 1 where equal."""

    row: Place
    twin: Place
    likeness: float

    def as_dict(self) -> dict[str, Any]:
        """As `data stats` prints it."""
        return {"row": str(self.row), "twin": str(self.twin), "likeness": round(self.likeness, 4)}


@dataclass(frozen=True, slots=True)
class Twins:
    """Rows that stand twice: `exact` and `near` count those that have an earlier twin, `compared` those looked at.

    `compared` is below the number of rows only where more text came than is kept for comparing near ones.
    """

    exact: int = 0
    near: int = 0
    compared: int = 0
    examples: tuple[Twin, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As `data stats` prints it."""
        examples = [twin.as_dict() for twin in self.examples]
        return {"exact": self.exact, "near": self.near, "compared": self.compared, "examples": examples}


@dataclass(frozen=True, slots=True)
class Overlap:
    """Rows for evaluation that also stand, exactly or nearly, among those trained on.

    `against` says where the evaluation rows come from: a file, the split that training would make, or none.
    """

    against: Literal["file", "split", "none"] = "none"
    rows: int = 0
    twins: Twins = Twins()

    def as_dict(self) -> dict[str, Any]:
        """As `data stats` prints it."""
        return {"against": self.against, "rows": self.rows, **self.twins.as_dict()}


@dataclass(frozen=True, slots=True)
class Longest:
    """One of the longest rows."""

    place: Place
    tokens: int


@dataclass(frozen=True, slots=True)
class Stats:
    """All of it. `tokens` and what is counted of them are of the training rows as they are read, before any cut.

    `rows` are those for training, held-out ones of a split included; rows of an eval file are only in `overlap`.
    `max_length` is 0 where nothing limits a row. `padding` has a share for each way of batching, of all tokens that are
    computed. `bad` lists the first of `bad_count` rows that cannot be used; they are in no other number.
    """

    rows: int
    format: str
    tokens: int
    trained_tokens: int
    tokens_per_epoch: int
    max_length: int
    long_rows: int
    lost_trained_tokens: int
    untrained_rows: int
    lengths: Lengths
    longest: tuple[Longest, ...]
    duplicates: Twins
    overlap: Overlap
    padding: dict[str, float]
    messages: dict[str, int]
    bad: tuple[Bad, ...] = ()
    bad_count: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def trained_share(self) -> float:
        """Of all tokens, the share that is learned."""
        return self.trained_tokens / self.tokens if self.tokens else 0.0

    @property
    def long_share(self) -> float:
        """Of all rows, the share that is over `max_length`."""
        return self.long_rows / self.rows if self.rows else 0.0

    @property
    def lost_share(self) -> float:
        """Of all tokens to learn, the share that is past `max_length`."""
        return self.lost_trained_tokens / self.trained_tokens if self.trained_tokens else 0.0

    def as_dict(self) -> dict[str, Any]:
        """The result of `data stats` (CONTRACT)."""
        return {
            "rows": self.rows,
            "format": self.format,
            "tokens": self.tokens,
            "trained_tokens": self.trained_tokens,
            "trained_share": round(self.trained_share, 6),
            "tokens_per_epoch": self.tokens_per_epoch,
            "max_length": self.max_length,
            "long_rows": self.long_rows,
            "long_share": round(self.long_share, 6),
            "lost_trained_tokens": self.lost_trained_tokens,
            "lost_trained_share": round(self.lost_share, 6),
            "untrained_rows": self.untrained_rows,
            "lengths": self.lengths.as_dict(),
            "longest": [{"file": o.place.file, "line": o.place.line, "tokens": o.tokens} for o in self.longest],
            "duplicates": self.duplicates.as_dict(),
            "overlap": self.overlap.as_dict(),
            "padding": dict(self.padding),
            "messages": [{"role": role, "count": count} for role, count in self.messages.items()],
            "bad": [one.as_dict() for one in self.bad],
            "bad_count": self.bad_count,
            "warnings": list(self.warnings),
        }


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
) -> Stats:
    """Read, render and tokenise every row of what `data` names, and count.

    `progress` is told bytes read and bytes in all; what it raises ends the work. Padding is that of the trainer's
    micro-batches on a CPU, or of `batch_size` rows. Never raises for a bad row: it is in `bad`. Raises NotFoundError
    for a file that is not there, and what `Pool` raises.
    """
    reading = _Reading(data, model_dir, progress or _quiet, now)
    with Pool(Encoding(model_dir, data, now), workers) as pool:
        for encoded in pool.encode(reading.batches()):
            reading.take(encoded)
    micro = Micro("rows", batch_size) if isinstance(batch_size, int) else Micro("tokens", CPU_MICRO_TOKENS)
    micro = replace(micro, call=CALL_TOKENS["cpu"])
    return reading.counted(global_batch, micro, seed)


def histogram(lengths: NDArray[np.int64]) -> tuple[Bin, ...]:
    """Bars of one round width; what is past the 99th percentile shares the last one, so that it hides nothing."""
    if not len(lengths):
        return ()
    least, most = int(lengths.min()), int(lengths.max())
    usual = _percentile(lengths, 99)
    width = _round_width(max(1, usual - least) / _BARS)
    edges = list(range(least // width * width, usual + width + 1, width))
    if edges[-1] <= most:
        edges.append(most + 1)
    counts, _ = np.histogram(lengths, bins=np.asarray([*edges[:-1], max(edges[-1], most + 1)]))
    found = [Bin(a, b, int(n)) for a, b, n in zip(edges, edges[1:], counts, strict=False)]
    while len(found) > 1 and not found[-1].rows:
        found.pop()
    return tuple(found)


def _round_width(least: float) -> int:
    """The smallest of 1, 2, 5, 10, 20, 50 ... that is not below `least`."""
    scale = 1
    while True:
        for width in (scale, 2 * scale, 5 * scale):
            if width >= least:
                return width
        scale *= 10


def _percentile(lengths: NDArray[np.int64], percent: int) -> int:
    return int(np.percentile(lengths, percent, method="inverted_cdf"))


def _lengths(lengths: NDArray[np.int64]) -> Lengths:
    if not len(lengths):
        return Lengths(0, 0.0, 0, 0, 0, 0, 0, ())
    p50, p90, p95, p99 = (_percentile(lengths, percent) for percent in (50, 90, 95, 99))
    mean = round(float(lengths.mean()), 2)
    return Lengths(int(lengths.min()), mean, p50, p90, p95, p99, int(lengths.max()), histogram(lengths))


def _quiet(done: int, total: int) -> None:
    pass


@dataclass(slots=True)
class _Reading:
    """One reading of all files: what is kept of each row, as columns. Row numbers count good rows from 0."""

    data: Data
    model_dir: Path
    progress: Tell
    now: datetime | None
    files: list[Path] = field(init=False)
    held_file: Path | None = field(init=False)
    limit: int = field(init=False)  # 0: none
    format: str = ""
    done: int = 0
    total: int = 0
    trained_rows: int = 0  # those before this number are of the training files
    sketches: Sketches = field(default_factory=Sketches)
    sketched: bool = True
    waiting: deque[tuple[bool, list[str]]] = field(default_factory=deque)  # of rows under way: for training?, words
    file: array[int] = field(default_factory=lambda: array("I"))
    line: array[int] = field(default_factory=lambda: array("q"))
    longer: array[int] = field(default_factory=lambda: array("q"))  # tokens of the longer sequence
    learned: array[int] = field(default_factory=lambda: array("q"))
    lost: array[int] = field(default_factory=lambda: array("q"))
    sequences: array[int] = field(default_factory=lambda: array("q"))  # tokens of each sequence; a pair has two
    per_row: array[int] = field(default_factory=lambda: array("B"))
    contents: bytearray = field(default_factory=bytearray)
    groups: array[int] = field(default_factory=lambda: array("Q"))
    messages: Counter[str] = field(default_factory=Counter)
    bad: list[Bad] = field(default_factory=list)
    bad_count: int = 0
    open_ended: bool = False

    def __post_init__(self) -> None:
        self.files = expand(self.data.train, Path("/"))
        self.held_file = eval_file(self.data.eval, self.data.train, Path("/"))
        context = context_of(self.model_dir)
        wanted = self.data.max_length
        self.limit = wanted if isinstance(wanted, int) else context
        self.total = sum(path.stat().st_size for path in self._all())

    def batches(self) -> Iterator[Sequence[Sample]]:
        """All rows, file by file."""
        batch: list[Sample] = []
        before = 0
        for number, path in enumerate(self._all()):
            for_training = number < len(self.files)
            reading = samples(path, self.data.format, self.data.columns, self.data.group, self._at(before))
            for read, known in reading:
                self.format = self.format or known
                if isinstance(read, Bad):
                    self._note(read)
                    continue
                self._expect(read, for_training)
                batch.append(read)
                if len(batch) == _BATCH:
                    yield batch
                    batch = []
            before += path.stat().st_size
        if batch:
            yield batch

    def take(self, encoded: Sequence[Encoded | Bad]) -> None:
        """What became of a batch."""
        names = {str(path): number for number, path in enumerate(self._all())}
        for one in encoded:
            for_training, said = self.waiting.popleft()
            if isinstance(one, Bad):
                self._note(one)
                continue
            self.trained_rows += for_training
            self.sketched = self.sketched and self.sketches.add(said)
            self.file.append(names[one.file])
            self.line.append(one.line)
            lengths = [len(sequence.ids) for sequence in one.sequences]
            learned = [sequence.mask.count(1) for sequence in one.sequences]
            self.longer.append(max(lengths))
            self.learned.append(sum(learned))
            cut = self.limit if self.limit and max(lengths) > self.limit else 0
            self.lost.append(sum(sequence.mask[cut:].count(1) for sequence in one.sequences) if cut else 0)
            self.sequences.extend(lengths)
            self.per_row.append(len(lengths))
            self.contents += one.content
            self.groups.append(split.group_hash(one.group))
            self.open_ended = self.open_ended or one.open_ended
        self.progress(self.done, self.total)

    def counted(self, global_batch: int, micro: Micro, seed: int) -> Stats:
        """The numbers of all that was taken."""
        rows = self.trained_rows
        longer, learned, lost = (_column(column)[:rows] for column in (self.longer, self.learned, self.lost))
        owner = np.repeat(np.arange(len(self.per_row)), _column(self.per_row))
        sequences = _column(self.sequences)
        train, held = self._sides()
        kept = self._kept(sequences[np.isin(owner, train)])
        return Stats(
            rows=rows,
            format=self.format,
            tokens=int(sequences[owner < rows].sum()),
            trained_tokens=int(learned.sum()),
            tokens_per_epoch=int(kept.sum()),
            max_length=self.limit,
            long_rows=int((longer > self.limit).sum()) if self.limit else 0,
            lost_trained_tokens=int(lost.sum()),
            untrained_rows=int((learned - lost == 0).sum()),
            lengths=_lengths(longer),
            longest=tuple(
                Longest(self._place(int(row)), int(longer[row]))
                for row in np.argsort(-longer, kind="stable")[:_LONGEST]
            ),
            duplicates=self._twins(np.arange(rows)),
            overlap=self._overlap(train, held),
            padding={
                mode: round(padding_share(kept, global_batch=global_batch, micro=micro, seed=seed, mode=mode), 6)
                for mode in _MODES
            },
            messages=dict(self.messages),
            bad=tuple(self.bad),
            bad_count=self.bad_count,
            warnings=self._warnings(),
        )

    def _all(self) -> list[Path]:
        return [*self.files, *([self.held_file] if self.held_file else [])]

    def _at(self, before: int) -> Callable[[int], None]:
        def on_bytes(at: int) -> None:
            self.done = before + at
            self.progress(self.done, self.total)

        return on_bytes

    def _note(self, bad: Bad) -> None:
        self.bad_count += 1
        if len(self.bad) < MAX_LISTED:
            self.bad.append(bad)

    def _expect(self, sample: Sample, for_training: bool) -> None:
        if for_training:
            self.messages.update(str(message["role"]) for message in messages_of(sample))
        self.waiting.append((for_training, words(sample) if self.sketched else []))

    def _place(self, row: int) -> Place:
        return Place(str(self._all()[self.file[row]]), self.line[row])

    def _kept(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sequences of one epoch as `long` leaves them."""
        if not self.limit:
            return lengths
        long = lengths > self.limit
        if self.data.long == "split":
            pieces = [np.full(length // self.limit, self.limit) for length in lengths[long]]
            rests = lengths[long] % self.limit
            return np.concatenate((lengths[~long], *pieces, rests[rests > 0]))
        return np.minimum(lengths, self.limit) if self.data.long == "truncate" else lengths[~long]

    def _sides(self) -> tuple[Ints, Ints]:
        """Row numbers that are trained on and held out: of the eval file, or as the split would choose them."""
        rows = self.trained_rows
        if self.held_file:
            return np.arange(rows), np.arange(rows, len(self.line))
        setting = self.data.eval
        count = split.wanted_rows(setting, rows) if rows and setting else 0
        if not count:
            return np.arange(rows), np.zeros(0, dtype=np.int64)
        groups = np.frombuffer(self.groups, dtype=np.uint64) if self.data.group else None
        held = split.hold_out(split.hashes_of(self.contents), groups, count, self.data.split_seed)
        return np.setdiff1d(np.arange(rows), held), held

    def _twins(self, rows: Ints) -> Twins:
        """Rows with an earlier one that says the same."""
        first = self._first()
        exact = rows[first[rows] != rows]
        near = self.sketches.near(self._compared(rows[first[rows] == rows]))
        return self._found(exact, first[exact], near, int((rows < len(self.sketches)).sum()))

    def _overlap(self, train: Ints, held: Ints) -> Overlap:
        if not len(held):
            return Overlap()
        first = self._first()
        twins = dict(zip(first[train[::-1]].tolist(), train[::-1].tolist(), strict=True))  # the earliest stays
        also = np.isin(first[held], first[train])
        exact = held[also]
        twin = np.asarray([twins[row] for row in first[exact].tolist()], dtype=np.int64)
        once = train[np.unique(first[train], return_index=True)[1]]
        near = self.sketches.near(self._compared(held[~also]), self._compared(np.sort(once)))
        compared = int((held < len(self.sketches)).sum())
        found = self._found(exact, twin, near, compared)
        return Overlap("file" if self.held_file else "split", len(held), found)

    def _first(self) -> Ints:
        """For each row the number of the first one that is equal to it."""
        _, first, same = np.unique(
            split.classes(split.hashes_of(self.contents)), return_index=True, return_inverse=True
        )
        found: Ints = first[same]
        return found

    def _compared(self, rows: Ints) -> Ints:
        return rows[rows < len(self.sketches)]

    def _found(self, exact: Ints, twins: Ints, near: list[tuple[int, int, float]], compared: int) -> Twins:
        equal = zip(exact[:_EXAMPLES].tolist(), twins[:_EXAMPLES].tolist(), strict=True)
        shown = [*((row, twin, 1.0) for row, twin in equal), *near[:_EXAMPLES]]
        examples = tuple(Twin(self._place(row), self._place(twin), likeness) for row, twin, likeness in shown)
        return Twins(len(exact), len(near), compared, examples)

    def _warnings(self) -> tuple[str, ...]:
        said = []
        if self.open_ended:
            said.append("the chat template ends an answer with no token of its own: nothing may tell it to stop")
        return tuple(said)


def _column(values: array[int]) -> NDArray[np.int64]:
    return np.frombuffer(values, dtype=values.typecode).astype(np.int64) if values else np.zeros(0, np.int64)
