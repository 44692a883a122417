"""The rows of an evaluation as tokens: all of them are read, what cannot be used is refused, then some are drawn."""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from llamahome_tui.data.check import MAX_LISTED, bad_rows, samples
from llamahome_tui.data.encode import Encoded, Encoding
from llamahome_tui.data.rows import Bad
from llamahome_tui.data.samples import Judged, Pair, Sample, Text, chats_of
from llamahome_tui.data.tokens import context_of
from llamahome_tui.errors import DataError
from llamahome_tui.training.shape import Data

_TOGETHER = 64
_CALLER = "evaluate MODEL --data FILE"  # what hints end in


@dataclass(frozen=True, slots=True)
class Asked:
    """A row: its tokens, and what a person or a command is shown of it."""

    row: Encoded
    messages: tuple[dict[str, Any], ...]  # before the answer; none of a running text

    @property
    def prompt(self) -> str:
        """The last message before the answer."""
        return str(self.messages[-1].get("content") or "") if self.messages else ""


@dataclass(frozen=True, slots=True)
class Rows:
    """What is asked, and how many rows were left out as longer than the model's context."""

    asked: tuple[Asked, ...]
    kind: str  # text | rows | pairs | labels
    long: int


def read(
    paths: Sequence[Path],
    data: Data,
    model_dir: Path,
    most: int,
    seed: int,
    progress: Callable[[int, int], None],
    only: Container[int] | None = None,
    now: datetime | None = None,
) -> Rows:
    """The rows of these files (of them `only` those with these numbers), `most` (0: all) drawn by the seed, in order.

    `now` is the date that a template may write.
    Raises DataError for bad rows, rows without an answer, files of several kinds, and where nothing is left.
    """
    from llamahome_tui.data.pool import Pool

    bad: list[Bad] = []
    every: list[Sample] = []
    number = 0
    for path in paths:
        for read_one, _ in samples(path, data.format, data.columns, data.group):
            if isinstance(read_one, Bad):
                bad.append(read_one)
                continue
            if only is None or number in only:
                every.append(read_one)
            number += 1
    if bad:
        raise bad_rows(bad[:MAX_LISTED], len(bad))
    kinds = {_kind(one): one for one in reversed(every)}
    if len(kinds) > 1:
        other = next(iter(kinds.values()))
        raise bad_rows([Bad(other.file, other.line, "", "is of another kind than the rows before it")], 1)
    chosen = every
    if 0 < most < len(every):
        chosen = [every[at] for at in sorted(random.Random(seed).sample(range(len(every)), most))]
    found: list[Asked] = []
    limit = context_of(model_dir)
    long = 0
    with Pool(Encoding(model_dir, data, now, caller=_CALLER)) as pool:
        done = 0
        for part in pool.encode(_parts(chosen)):
            for one, sample in zip(part, chosen[done : done + len(part)], strict=True):
                if isinstance(one, Bad):
                    bad.append(one)
                elif not all(1 in sequence.mask for sequence in one.sequences):
                    bad.append(Bad(one.file, one.line, "", "has no answer that counts"))
                elif limit and max(len(sequence.ids) for sequence in one.sequences) > limit:
                    long += 1
                else:
                    found.append(Asked(one, _messages(sample)))
            done += len(part)
            progress(done, len(chosen))
    if bad:
        raise bad_rows(bad[:MAX_LISTED], len(bad))
    if not found:
        raise DataError(
            f"{paths[0]}: no row is left to evaluate: {long} are longer than the model's context of {limit} tokens",
            code="data.long",
            hint="see the lengths: llamahome --batch data stats FILE --model ID",
        )
    return Rows(tuple(found), next(iter(kinds)), long)


def _kind(sample: Sample) -> str:
    if isinstance(sample, Pair):
        return "pairs"
    return "labels" if isinstance(sample, Judged) else "text" if isinstance(sample, Text) else "rows"


def _messages(sample: Sample) -> tuple[dict[str, Any], ...]:
    chats = chats_of(sample)
    return tuple(dict(message) for message in chats[0].prompt) if chats else ()


def _parts(chosen: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
    return (chosen[at : at + _TOGETHER] for at in range(0, len(chosen), _TOGETHER))
