"""Means over the steps that count, each interval by its seconds."""

from __future__ import annotations

import pytest

from llamahome_tui.jobs.throughput import Throughput


def metrics(rate: float, seconds: float | None = None, **more: float | None) -> dict[str, float | None]:
    told = {"trained_tokens_per_s": rate, "samples_per_s": rate / 10, **more}
    return told if seconds is None else told | {"interval_s": seconds}


def test_an_interval_counts_by_its_seconds_and_what_is_not_told_not_at_all() -> None:
    found = Throughput(8)
    found.take(10, metrics(100.0, 30.0, mfu=0.2))
    found.take(20, metrics(400.0, 10.0, mfu=None))
    found.take(20, {"eval_loss": 1.0})
    told = found.told()
    assert told["trained_tokens_per_s"] == pytest.approx((100 * 30 + 400 * 10) / 40)
    assert told["mfu"] == pytest.approx(0.2) and told["tokens_per_s"] is None and told["steps_s"] == 40.0


def test_what_is_trained_again_is_void() -> None:
    found = Throughput(8)
    for step in (10, 20, 30):
        found.take(step, metrics(step, 10.0))
    found.begin(20)
    found.take(30, metrics(90.0, 10.0))
    assert found.told()["trained_tokens_per_s"] == pytest.approx((10 + 20 + 90) / 3)


def test_without_seconds_they_follow_from_rows_and_rate() -> None:
    found = Throughput(8)
    found.take(1, metrics(100.0))
    found.take(5, metrics(200.0))
    assert found.told()["steps_s"] == pytest.approx(8 / 10 + 32 / 20)


def test_a_long_run_is_bounded_and_gives_the_same_mean() -> None:
    found = Throughput(1)
    for step in range(1, 10_001):
        found.take(step, metrics(float(step), 2.0))
    assert found.told()["trained_tokens_per_s"] == pytest.approx(5000.5) and found.told()["steps_s"] == 20_000.0
    assert len(found._parts) <= 2048 and Throughput(1).told()["mfu"] is None
