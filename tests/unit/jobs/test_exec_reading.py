"""Reading along in out.log: steps from bars, bars of evaluation, lines without bars, life signs, cuts and floods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.jobs.exec_child import Reading


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Log:
    """An out.log that grows, and the events that come of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.write_bytes(b"{'loss': 9.9} of an earlier attempt\n")
        self.clock = Clock()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.reading = Reading(path, lambda type, **fields: self.events.append((type, fields)), self.clock)

    def print(self, text: str, seconds: float = 0.0) -> None:
        with self.path.open("a") as file:
            file.write(text)
        for passing in (0.0, seconds):
            self.clock.now += passing
            while self.reading.poll():
                pass

    def metrics(self) -> list[tuple[int, float]]:
        return [(f["step"], f.get("loss", f.get("eval_loss"))) for kind, f in self.events if kind == "metrics"]

    def progress(self) -> list[tuple[int, int]]:
        return [(f["step"], f["steps"]) for kind, f in self.events if kind == "progress" and "step" in f]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "out.log")


def bar(done: int, total: int = 100, label: str = "") -> str:
    return f"\r{label}{done * 100 // total:3d}%|##  | {done}/{total} [00:01<00:09,  1.0it/s]"


def test_a_log_line_waits_for_the_bar_behind_it(log: Log) -> None:
    log.print(bar(9) + "\n{'loss': 1.0}\n")
    assert log.metrics() == []
    log.print(bar(10) + "\n")
    assert log.metrics() == [(10, 1.0)]


def test_without_a_bar_behind_it_it_does_not_wait_long(log: Log) -> None:
    log.print(bar(9) + "\n{'loss': 1.0}\n", seconds=1.0)
    assert log.metrics() == [(9, 1.0)]


def test_bars_of_evaluation_are_no_training_steps(log: Log) -> None:
    log.print(bar(20) + "\n{'loss': 1.0}\n" + bar(20) + "\n" + bar(3, 7) + "\n{'eval_loss': 2.0}\n" + bar(20) + "\n", 2)
    assert log.metrics() == [(20, 1.0), (20, 2.0)]
    assert {total for _, total in log.progress()} == {100}


def test_an_evaluation_before_training_is_found_out(log: Log) -> None:
    log.print(bar(7, 7) + "\n{'eval_loss': 2.0}\n", 1)
    log.print(bar(1) + "\n" + bar(10) + "\n{'loss': 1.0}\n" + bar(10) + "\n", 1)
    assert log.metrics()[-1] == (10, 1.0)
    log.print(bar(11) + "\n", 2)
    assert log.progress()[-1] == (11, 100)


def test_labelled_bars_are_other_work(log: Log) -> None:
    log.print(bar(500, 1000, "Map: ") + "\n", 2)
    assert log.events == []


def test_without_bars_the_lines_are_counted_and_named_steps_are_taken(log: Log) -> None:
    log.print("{'loss': 3.0}\n{'loss': 2.0}\n", 1)
    assert log.metrics() == [(1, 3.0), (2, 2.0)]
    log.print('{"loss": 1.0, "step": 50}\n', 1)
    assert log.metrics()[-1] == (50, 1.0)
    assert log.reading.totals["loss_first"] == 3.0 and log.reading.totals["loss_last"] == 1.0


def test_progress_is_told_once_a_second_and_at_the_end(log: Log) -> None:
    for done in range(1, 31):
        log.print(bar(done), seconds=0.1)
    assert 2 <= len(log.progress()) <= 4
    log.reading.finish()
    assert log.progress()[-1] == (30, 100)


def test_a_command_that_only_talks_shows_that_it_lives(log: Log) -> None:
    for _ in range(100):
        log.print("still here\n", seconds=1.0)
    told = [fields for kind, fields in log.events if kind == "progress"]
    assert 2 <= len(told) <= 4 and told[-1]["output_bytes"] > 0
    log.clock.now += 1000
    log.reading.poll()
    assert len([1 for kind, _ in log.events if kind == "progress"]) <= len(told) + 1


def test_a_cut_log_and_a_flood_are_survived(log: Log) -> None:
    log.print("x" * 3_000_000 + "\n")
    log.path.write_bytes(b"")
    log.print("{'loss': 1.0}\n", 1)
    log.reading.finish()
    assert log.metrics()[-1][1] == 1.0


def test_fields_of_the_frame_are_not_overwritten(log: Log) -> None:
    log.print("{'loss': 1.0, 'seq': 5, 't': 6, 'type': 7, 'v': 8, 'mono': 9}\n", 1)
    assert log.events == [("metrics", {"step": 1, "loss": 1.0})]
