"""A run's journals folded for its page: attempts, events in order, replaced files, a long journal from its end."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from llamahome_tui.config.places import Places
from llamahome_tui.jobs.status import derive
from llamahome_tui.jobs.store import RunStore
from llamahome_tui.tui.screens.training.feed import Feed, LogTail
from llamahome_tui.tui.screens.training.listing import RunListing, rows, short
from llamahome_tui.tui.screens.training.story import Story
from tests.conftest import clean_environ
from tests.runfolder import EPOCH, live_run, make_run


def record(seq: int, type: str, **fields: object) -> dict[str, object]:
    return {"v": 1, "seq": seq, "t": EPOCH + seq, "mono": float(seq), "type": type, **fields}


def test_a_later_attempt_replaces_what_came_after_its_checkpoint() -> None:
    story = Story()
    story.take("trainer", [record(1, "start", attempt=1, from_step=0, steps=100)])
    story.take("trainer", [record(i + 1, "metrics", step=i, loss=5.0) for i in range(1, 61)])
    story.take("trainer", [record(62, "start", attempt=2, from_step=40, exact=True)])
    story.take("trainer", [record(63, "metrics", step=41, loss=1.0)])
    told = story.told()
    curve = told.curves["loss"]
    assert (told.attempt, told.steps, told.values["loss"]) == (2, 100, 1.0)
    assert curve.xs[-1] == 41
    assert max(x for x, y in zip(curve.xs, curve.ys, strict=True) if y == 5.0) <= 40
    assert told.missing == 0


def test_events_of_both_journals_stand_in_order_of_time() -> None:
    story = Story()
    story.take("trainer", [record(1, "start", attempt=1, from_step=0), record(9, "end", reason="completed")])
    story.take("supervisor", [{**record(1, "stall", seconds=600), "t": EPOCH + 5}])
    said = [line.split("  ")[1] for line, _ in story.told().events]
    assert said == ["attempt 1 starts at step 0", "stalled, seconds without a record: 600", "run completed"]
    assert story.told().missing == 7


def test_nan_is_a_gap_and_garbage_does_no_harm() -> None:
    story = Story()
    story.take("trainer", [record(1, "metrics", step=1, loss=None), record(2, "metrics", step="x"), record(3, "what")])
    story.take("trainer", [record(4, "progress"), record(5, "start"), record(6, "metrics", step=2, loss=1.5)])
    assert story.told().values["loss"] == 1.5


def test_a_long_journal_shows_its_end_at_once_and_then_all(places: Places) -> None:
    run = make_run(places.state, "long", done=0, end="")
    with run.events_path.open("a") as file:
        for seq in range(10, 40_010):
            line = record(seq, "metrics", step=seq, loss=1.0 + seq / 40_000, lr=1e-4, tokens_per_s=900.0, grad_norm=1.0)
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
    feed = Feed(run)
    first = feed.read()
    assert first.told.step == 40_009
    assert first.behind > 0.5
    assert feed.catching_up
    for _ in range(50):
        page = feed.read()
        if not feed.catching_up:
            break
    assert page.behind == 0
    assert page.told.records > 40_000
    assert min(page.told.curves["loss"].xs) < 100


def test_f22_a_replaced_journal_is_read_anew_and_said(places: Places) -> None:
    run = make_run(places.state, "swapped", done=100, end="")
    feed = Feed(run)
    assert feed.read().told.step == 100
    run.events_path.unlink()
    feed.read()
    run.events_path.write_text(json.dumps(record(1, "metrics", step=7, loss=1.0)) + "\n")
    for _ in range(3):
        page = feed.read()
    assert page.told.step == 7
    assert any("replaced" in note for note in page.notes)


def test_f17_bad_lines_are_counted(places: Places) -> None:
    run = make_run(places.state, "torn", done=50, end="")
    with run.events_path.open("ab") as file:
        file.write(b"\0" * 100 + b"\n" + b"{not json}\n" + b"x" * (5 << 20) + b"\n" + b'{"v":1,"seq":')
    feed = Feed(run)
    for _ in range(5):
        page = feed.read()
    assert page.told.step == 50
    assert any("unreadable" in note for note in page.notes)


def test_the_log_shows_what_a_terminal_would(tmp_path: Path) -> None:
    path = tmp_path / "out.log"
    path.write_bytes(b"first\r\n 10%|#   |\r 20%|##  |\r\n100%|####|\r")
    tail = LogTail(path)
    assert tail.poll()
    assert [line for line, _ in tail.lines()] == ["first", " 20%|##  |", "100%|####|"]
    assert not tail.poll()
    with path.open("ab") as file:
        file.write(b"\nlast\n")
    assert tail.poll()
    assert [line for line, _ in tail.lines()][-1] == "last"
    path.write_bytes(b"anew\n")
    assert tail.poll()
    assert [line for line, _ in tail.lines()] == ["anew"]


def test_the_log_begins_near_its_end_and_stays_bounded(tmp_path: Path) -> None:
    path = tmp_path / "out.log"
    path.write_bytes(b"".join(b"line %d\n" % i for i in range(200_000)))
    tail = LogTail(path, kept=100)
    tail.poll()
    lines = [line for line, _ in tail.lines()]
    assert len(lines) == 100
    assert lines[-1] == "line 199999"


def test_ended_runs_are_read_once_until_a_file_changes(places: Places) -> None:
    run = make_run(places.state, "done")
    seen: list[str] = []
    listing = RunListing(RunStore(places), {}, view=lambda run: seen.append(run.id) or _view(run), adopt=False)
    listing.read()
    listing.read()
    assert len(seen) == 1
    run.labels_path.write_text('{"title": "mine"}')
    assert rows(listing.read(), EPOCH + 60)[0].cells[1].text == "mine"
    assert len(seen) == 2


def test_a_live_run_has_its_numbers(places: Places) -> None:
    with live_run(places.state, "alive", done=100):
        listing = RunListing(RunStore(places), {}, adopt=False)
        (row,) = rows(listing.read(), EPOCH + 120)
    texts = [cell.text for cell in row.cells]
    assert texts[0] == "● running"
    assert texts[3] == "100/400"
    assert texts[6:8] == ["2m", "2m"]


def test_a_waiting_run_that_lost_its_supervisor_is_taken_up_again(places: Places) -> None:
    store = RunStore(places)
    run = store.create({"name": "waits", "kind": "exec", "command": [sys.executable, "-c", "print('here')"]})
    listing = RunListing(store, clean_environ(places.state.parent))
    assert listing.read()[0].status == "queued"
    until = time.monotonic() + 20
    while listing.read()[0].status != "completed":
        assert time.monotonic() < until, derive(run)
        time.sleep(0.1)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59.9, "59s"), (60, "1m"), (7199, "1h"), (9e5, "10d")])
def test_spans_are_short(seconds: float, text: str) -> None:
    assert short(seconds) == text


def _view(run):  # type: ignore[no-untyped-def]
    from llamahome_tui.jobs.view import summarise

    return summarise(run)
