"""Looking at rows: the newest one asked for wins, a look that takes long is given up for it, nothing is left open."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from llamahome_tui.data.encode import Seen, SeenPart
from llamahome_tui.data.rows import Bad
from llamahome_tui.data.samples import Text
from llamahome_tui.errors import DataError, Interrupted, LlamaHomeError
from llamahome_tui.tui.screens.training import data_look
from llamahome_tui.tui.screens.training.data_look import Count, Looker
from llamahome_tui.tui.screens.training.data_words import RowLine


class Pool:
    """Answers at once, but hangs on a row that says so, as a template may."""

    def __init__(self) -> None:
        self.looked: list[str] = []
        self.closed = threading.Event()
        self.hangs = threading.Event()

    def look(self, sample: Text) -> Seen | Bad:
        self.looked.append(sample.text)
        if sample.text == "hang":
            self.hangs.set()
            assert self.closed.wait(10)
            raise Interrupted("closed")
        if sample.text == "endless":
            raise DataError("the template does not end", code="template.unbounded", hint="mend it")
        if sample.text == "refused":
            return Bad("f.jsonl", 3, "messages[0]", "the template wants another role")
        words = tuple(sample.text.split())
        offsets, at = [], 0
        for word in words:
            offsets.append((at, at + len(word)))
            at += len(word) + 1
        part = SeenPart("", sample.text, tuple(range(len(words))), tuple(offsets), bytes(len(words)), bytes(len(words)))
        return Seen((part,))

    def close(self) -> None:
        self.closed.set()


def row(number: int, text: str) -> RowLine:
    return RowLine(number, "f.jsonl", number + 1, "text", text, sample=Text(text, "f.jsonl", number + 1))


@pytest.fixture
def pools() -> list[Pool]:
    return []


@pytest.fixture
def looker(pools: list[Pool]) -> Looker:
    def open_pool() -> Any:
        pools.append(Pool())
        return pools[-1]

    return Looker(open_pool, lambda: None)


def test_what_was_asked_last_is_looked_at_and_one_pool_serves(looker: Looker, pools: list[Pool]) -> None:
    assert looker.read().looked is None and not pools
    looker.want(row(0, "one"))
    looker.want(row(1, "two words"))
    looks = looker.read()
    assert looks.looked is not None and looks.looked.number == 1 and looks.looked.look is not None
    assert looks.counts == {1: Count(2, 0)}
    looker.want(row(0, "one"))
    looker.read()
    looker.want(row(1, "two words"))  # known from before
    assert looker.read().looked.number == 1  # type: ignore[union-attr]
    assert len(pools) == 1 and pools[0].looked == ["two words", "one"]


def test_rows_in_view_are_counted_when_nothing_is_asked(looker: Looker, pools: list[Pool]) -> None:
    bad = RowLine(9, "f.jsonl", 10, "text", fault="is empty")
    looker.count([row(0, "a b"), bad, row(1, "refused")])
    counts = looker.read().counts
    assert counts == {0: Count(2, 0), 1: Count(fault="messages[0]: the template wants another role")}
    looker.read()
    assert pools[0].looked == ["a b", "refused"]


def test_without_a_model_no_row_has_a_number_of_tokens() -> None:
    def no_model() -> Any:
        raise LlamaHomeError("no model here", code=data_look.NO_MODEL)

    looker = Looker(no_model, lambda: None)
    looker.want(row(0, "one"))
    looks = looker.read()
    assert looks.looked is not None and looks.looked.lacking
    assert looks.counts == {}


def test_a_template_without_end_is_a_sentence_and_stops_the_counting(looker: Looker, pools: list[Pool]) -> None:
    looker.want(row(0, "endless"))
    looked = looker.read().looked
    assert looked is not None and (looked.fault, looked.hint) == ("the template does not end", "mend it")
    looker.count([row(1, "one")])
    assert 1 not in looker.read().counts
    looker.want(row(1, "one"))
    assert 1 in looker.read().counts


def test_a_look_that_hangs_is_given_up_for_another_row(
    looker: Looker, pools: list[Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_look, "_PATIENCE_S", 0.05)
    looker.want(row(0, "hang"))
    reading = threading.Thread(target=looker.read)
    reading.start()
    while not pools:
        time.sleep(0.01)
    assert pools[0].hangs.wait(5)
    time.sleep(0.1)
    looker.want(row(1, "one"))
    reading.join(5)
    assert not reading.is_alive() and pools[0].closed.is_set()
    looks = looker.read()
    assert looks.looked is not None and looks.looked.number == 1 and 0 not in looks.counts
    assert len(pools) == 2


def test_closing_ends_a_look_that_hangs(looker: Looker, pools: list[Pool]) -> None:
    looker.want(row(0, "hang"))
    reading = threading.Thread(target=looker.read)
    reading.start()
    while not pools:
        time.sleep(0.01)
    looker.close()
    reading.join(5)
    assert not reading.is_alive() and pools[0].closed.wait(5)
