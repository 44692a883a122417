"""How long the rows of a spec are, told before a run: from data prepared earlier, from small files, or from a sample.

Large files are never read for it: what is then said is an estimate, and `source` says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from llamahome_tui.data.check import samples
from llamahome_tui.data.encode import Encoding
from llamahome_tui.data.files import eval_file, expand
from llamahome_tui.data.pool import Pool
from llamahome_tui.data.prepare import prepare, prepared
from llamahome_tui.data.rows import Bad
from llamahome_tui.data.tokens import context_of
from llamahome_tui.training.methods import data_of, method_of

if TYPE_CHECKING:
    from llamahome_tui.data.examples import Examples
    from llamahome_tui.training.spec import Spec

_HASHED: Final = 64 << 20  # bytes of data whose hash, which finds what was prepared of them, takes no time
_QUICK: Final = 1 << 20  # bytes that are prepared in about a second
_SAMPLE: Final = 64  # rows of each file
_UNKNOWN: Final = 2048  # tokens of a row where nothing tells


@dataclass(frozen=True, slots=True)
class Ahead:
    """Rows of an epoch, tokens of the longest sequence and of all; `source` says in words how that is known."""

    rows: int
    longest: int
    tokens: int
    exact: bool
    source: str


def ahead(spec: Spec, model_dir: Path, cache: Path, rows: int, *, quick: bool = False) -> Ahead:
    """What is to be expected of `rows` rows; with `quick` no more than a sample is tokenised. Raises as `prepare`.

    A model without a tokenizer tells nothing: its rows are taken to be as long as they may be.
    """
    if not (model_dir / "tokenizer.json").is_file():
        return _unread(spec, model_dir, rows)
    size = sum(path.stat().st_size for path in _files(spec))
    if size <= _HASHED and (found := prepared(spec, model_dir, cache)) is not None:
        return _exact(found.train, "data that were prepared before")
    if size <= _QUICK and not quick:
        return _exact(prepare(spec, model_dir, None).train, "all rows")
    return _sampled(spec, model_dir, rows)


def _files(spec: Spec) -> list[Path]:
    held = eval_file(spec.data.eval, spec.data.train, Path("/"))
    return [path for path in expand(spec.data.train, Path("/")) if path != held]


def _most(spec: Spec, model_dir: Path) -> int:
    """Tokens that a row may have; 0 where nothing limits it."""
    context = context_of(model_dir) or 0
    said = spec.data.max_length
    return context if said == "auto" else min(said, context) if context else said


def _unread(spec: Spec, model_dir: Path, rows: int) -> Ahead:
    most = _most(spec, model_dir)
    length = most if spec.data.max_length != "auto" else min(most or _UNKNOWN, _UNKNOWN)
    return Ahead(rows, length, rows * length, False, f"rows taken to be {length} tokens long")


def _exact(train: Examples, source: str) -> Ahead:
    return Ahead(len(train), int(train.longest.max()), int(train.lengths.sum()), True, source)


def _sampled(spec: Spec, model_dir: Path, rows: int) -> Ahead:
    data = data_of(spec)
    lengths: list[list[int]] = []
    with Pool(Encoding(model_dir.absolute(), data, None)) as pool:
        for path in _files(spec):
            reading = samples(path, data.format, data.columns, data.group)
            first = [read for read, _ in islice(reading, _SAMPLE) if not isinstance(read, Bad)]
            for batch in pool.encode(first[at : at + 16] for at in range(0, len(first), 16)):
                lengths += [[len(one.ids) for one in row.sequences] for row in batch if not isinstance(row, Bad)]
    if not lengths:
        return _unread(spec, model_dir, rows)
    most = _most(spec, model_dir)
    longest = max(max(row) for row in lengths)
    longest = min(longest, most) if most else longest
    mean = sum(min(length, longest) for row in lengths for length in row) / len(lengths)
    return Ahead(rows, longest, round(rows * mean), False, f"an estimate from {len(lengths)} rows")


def sequences_of(spec: Spec) -> int:
    """Sequences that one row becomes: two of a pair."""
    return 2 if method_of(spec.method.kind).rows == "pairs" else 1
