"""Rows are a stream: ten times the file takes no more memory; and reading them against bare json.loads of the lines."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.performance.rows_stream import MIB, WORK, apart, make

pytestmark = pytest.mark.performance

ROUNDS = 5
SLACK = 1.5
SMALL, LARGE = 20 * MIB, 200 * MIB
MEMORY = 1.1  # of the small file's peak
VALIDATED = 0.3  # of the speed of json.loads
INDEXED = 4.0


def test_memory_does_not_grow_with_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    peaks: dict[str, list[float]] = {}
    for size in (SMALL, LARGE):
        path = tmp_path / f"{size}.jsonl"
        count = make(path, size)
        for work in ("validate", "index"):
            rows, _, peak = apart(work, path)
            assert rows == count
            peaks.setdefault(work, []).append(peak)
    with capsys.disabled():
        for work, (small, large) in peaks.items():
            print(
                f"\n{work}: peak {small:.1f} MiB for {SMALL // MIB} MiB, {large:.1f} MiB for {LARGE // MIB} MiB:"
                f" ratio {large / small:.2f} (at most {MEMORY})"
            )
    assert all(large <= small * MEMORY * SLACK for small, large in peaks.values())


def test_speed_against_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "d.jsonl"
    make(path, SMALL)
    seconds: dict[str, list[float]] = {work: [] for work in WORK}
    for _ in range(ROUNDS):
        for work, does in WORK.items():
            seconds[work].append(_seconds(does, path))
    rates = {work: SMALL / MIB / statistics.median(times) for work, times in seconds.items()}
    with capsys.disabled():
        print(
            f"\nrows of chats: json.loads {rates['bare']:.0f} MiB/s;"
            f" validate {rates['validate']:.0f}, ratio {rates['validate'] / rates['bare']:.2f} (at least {VALIDATED});"
            f" index {rates['index']:.0f}, ratio {rates['index'] / rates['bare']:.1f} (at least {INDEXED})"
        )
    assert rates["validate"] / rates["bare"] >= VALIDATED / SLACK
    assert rates["index"] / rates["bare"] >= INDEXED / SLACK


def _seconds(does: Callable[[Path], int], path: Path) -> float:
    begun = time.process_time()
    does(path)
    return time.process_time() - begun
