"""What `data stats` finds, as values: lengths and their histogram, twins, overlap; every face shows these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llamahome_tui.data.rows import Bad

_BARS = 16


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


def lengths_of(lengths: NDArray[np.int64]) -> Lengths:
    """The figures of so many tokens a row."""
    if not len(lengths):
        return Lengths(0, 0.0, 0, 0, 0, 0, 0, ())
    p50, p90, p95, p99 = (_percentile(lengths, percent) for percent in (50, 90, 95, 99))
    mean = round(float(lengths.mean()), 2)
    return Lengths(int(lengths.min()), mean, p50, p90, p95, p99, int(lengths.max()), histogram(lengths))
