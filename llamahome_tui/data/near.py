"""Rows that say nearly the same thing: candidates by MinHash and banding, each of them verified by its words.

MinHash: A. Broder, "On the resemblance and containment of documents", 1997; banding: Leskovec, Rajaraman, Ullman,
"Mining of Massive Datasets", chapter 3. A row is the set of its triples of words; two rows are near where the Jaccard
index of their sets is at least 0.8.
"""

from __future__ import annotations

import json
import re
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamahome_tui.data.samples import Pair, Sample, Text, chats_of

THRESHOLD = 0.8
MAX_TRIPLES = 1 << 25  # 128 MiB of them; rows that come after are not compared
_TRIPLE = 3
_HASHES = 64
_BAND = 4  # hashes that must agree for a pair to be looked at: 0.8 is then found with a probability of 0.9998
_NEIGHBOURS = 4  # earlier rows of a band's bucket that a row is held against, beside the bucket's first
_LIKELY = 0.6  # of the hashes: four standard deviations below what a pair at the threshold agrees in
_AT_ONCE = 2000
_PAIRS_AT_ONCE = 1 << 16
# Letters and digits that stand together; scripts without spaces between words (Chinese, Japanese) one by one.
_ALONE = "\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(f"[{_ALONE}]|[^\\W_{_ALONE}]+")

Ints = NDArray[np.int64]


def messages_of(sample: Sample) -> Iterator[Mapping[str, Any]]:
    """The messages of a row, each once: a pair's two chats begin alike, and a text is one message of no role."""
    if isinstance(sample, Text):
        yield {"role": "text", "content": sample.text}
        return
    first, *others = chats_of(sample)
    yield from first.messages
    if isinstance(sample, Pair):
        yield from (one for one in others[0].messages if one not in first.messages)


def words(sample: Sample) -> list[str]:
    """What a row says, in words without case or punctuation; system prompts are left out, as whole files share them."""
    said = []
    for message in messages_of(sample):
        if message["role"] not in ("system", "developer"):
            said.append(str(message.get("content") or ""))
            if message.get("tool_calls"):
                said.append(json.dumps(message["tool_calls"], ensure_ascii=False, default=str))
    return _WORD.findall("\n".join(said).casefold())


class Sketches:
    """What is kept of each row to find near ones: 64 hashes, and its triples of words as 32-bit hashes."""

    def __init__(self, limit: int = MAX_TRIPLES) -> None:
        self._limit = limit
        self._waiting: list[array[int]] = []
        self._triples = array("I")
        self._ends = array("q", [0])
        self._hashes = array("I")
        drawn = np.random.default_rng(1997).integers(1, 1 << 63, size=(2, _HASHES), dtype=np.uint64)
        self._factors, self._terms = drawn[0] | np.uint64(1), drawn[1]

    def __len__(self) -> int:
        """Rows that are compared; those added once the limit is reached are not."""
        return len(self._ends) - 1 + len(self._waiting)

    def add(self, words: Sequence[str]) -> bool:
        """One more row, its number being the count of those before; False where the limit is reached."""
        if len(self._triples) >= self._limit:
            return False
        hashed = array("Q", [zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in words])
        hashed.extend([0] * (_TRIPLE - len(hashed)))
        self._waiting.append(hashed)
        if len(self._waiting) == _AT_ONCE:
            self._take_in()
        return True

    def near(self, rows: Ints, against: Ints | None = None) -> list[tuple[int, int, float]]:
        """(row, twin, likeness) for each of `rows` that is near a row before it in `rows`, or near one of `against`.

        The order of `rows` and `against` is theirs; one twin each.
        """
        self._take_in()
        if not len(rows):
            return []
        order = rows if against is None else np.concatenate((against, rows))
        held = 0 if against is None else len(against)
        if against is not None and not held:
            return []
        hashes = np.frombuffer(self._hashes, dtype=np.uint32).reshape(-1, _HASHES)
        pairs, likely = self._candidates(hashes, order, held)
        found: list[tuple[int, int, float]] = []
        done = -1
        # The likeliest twin of each row first.
        for at in np.lexsort((-likely, pairs[:, 0])):
            row, twin = int(order[pairs[at, 0]]), int(order[pairs[at, 1]])
            if row == done:
                continue
            likeness = self._likeness(row, twin)
            if likeness >= THRESHOLD:
                found.append((row, twin, likeness))
                done = row
        return found

    def _candidates(self, hashes: NDArray[np.uint32], order: Ints, held: int) -> tuple[Ints, NDArray[np.float64]]:
        """Pairs of places in `order`, the later one first, that agree in a band, and their share of agreeing hashes."""
        count = len(order)
        known = np.zeros(0, dtype=np.int64)
        shares = np.zeros(0)
        for band in range(0, _HASHES, _BAND):
            key = np.zeros(count, dtype=np.uint64)
            for column in range(band, band + _BAND):
                key = (key ^ hashes[order, column]) * np.uint64(0x9E3779B97F4A7C15)
                key ^= key >> np.uint64(29)
            codes = np.setdiff1d(_neighbours(key, held), known, assume_unique=True)
            agree = np.zeros(len(codes))
            for at in range(0, len(codes), _PAIRS_AT_ONCE):
                part = slice(at, at + _PAIRS_AT_ONCE)
                left, right = order[codes[part] // count], order[codes[part] % count]
                agree[part] = (hashes[left] == hashes[right]).mean(axis=1)
            likely = agree >= _LIKELY
            known = np.concatenate((known, codes[likely]))
            shares = np.concatenate((shares, agree[likely]))
        return np.stack((known // count, known % count), axis=1), shares

    def _likeness(self, one: int, other: int) -> float:
        """The Jaccard index of two rows' sets of triples."""
        left, right = self._set(one), self._set(other)
        places = np.minimum(np.searchsorted(right, left), len(right) - 1)
        shared = int((right[places] == left).sum())
        return shared / (len(left) + len(right) - shared)

    def _set(self, row: int) -> NDArray[np.uint32]:
        return np.frombuffer(self._triples, dtype=np.uint32)[self._ends[row] : self._ends[row + 1]]

    def _take_in(self) -> None:
        """Turn the rows that wait into sets of triples and their hashes, all at once."""
        if not self._waiting:
            return
        lengths = np.array([len(one) for one in self._waiting])
        said = np.concatenate([np.frombuffer(one, dtype=np.uint64) for one in self._waiting])
        self._waiting = []
        mixed = np.zeros(len(said) - _TRIPLE + 1, dtype=np.uint64)
        for at in range(_TRIPLE):
            mixed = (mixed ^ said[at : len(said) - _TRIPLE + 1 + at]) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(32)
        row = np.repeat(np.arange(len(lengths), dtype=np.uint64), lengths)
        whole = row[: len(mixed)] == row[_TRIPLE - 1 :]  # triples that do not reach into the next row
        unique = np.unique((row[: len(mixed)][whole] << np.uint64(32)) | (mixed[whole] & np.uint64(0xFFFFFFFF)))
        counts = np.bincount((unique >> np.uint64(32)).astype(np.int64), minlength=len(lengths))
        starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
        triples = unique & np.uint64(0xFFFFFFFF)
        smallest = np.empty((len(lengths), _HASHES), dtype=np.uint32)
        for at in range(_HASHES):
            values = (triples * self._factors[at] + self._terms[at]) >> np.uint64(32)
            smallest[:, at] = np.minimum.reduceat(values, starts[:-1])
        before = self._ends[-1]
        self._triples.frombytes(triples.astype(np.uint32).tobytes())
        self._ends.frombytes((starts[1:] + before).tobytes())
        self._hashes.frombytes(smallest.tobytes())


def _neighbours(key: NDArray[np.uint64], held: int) -> Ints:
    """Codes (place * count + earlier place), sorted, of rows with equal keys; with `held` the earlier is under it and
    the later is not."""
    count = len(key)
    order = np.argsort(key, kind="stable")
    places = np.arange(count)
    new = np.ones(count, dtype=bool)
    new[1:] = key[order][1:] != key[order][:-1]
    start = np.maximum.accumulate(np.where(new, places, 0))
    if held:
        is_held = order < held  # they come first in each bucket
        before = np.cumsum(is_held)
        last = start + before - (before[start] - is_held[start]) - 1
        last[is_held] = -1
    else:
        last = places - 1
    found = []
    for back in range(_NEIGHBOURS):
        there = last - back >= start
        found.append(order[there] * count + order[(last - back)[there]])
    there = last >= start
    found.append(order[there] * count + order[start[there]])
    codes: Ints = np.unique(np.concatenate(found)).astype(np.int64)
    return codes
