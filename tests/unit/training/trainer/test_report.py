"""What a run says of itself: how often, and means that survive a resume."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("torch")

from llamahome_tui.training.auto import Micro
from llamahome_tui.training.trainer.counters import Counters
from llamahome_tui.training.trainer.report import Report
from llamahome_tui.training.trainer.step import Taken

pytestmark = pytest.mark.torch

TAKEN = Taken(loss=6.0, weight=3, trained=3, tokens=10, rows=2, grad_norm=0.5, applied=True, sound=True, data_s=0.01)


def run(counters: Counters, steps: int, *, log_every: int, total: int) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = []
    report = Report(
        lambda type, **fields: said.append({"type": type, **fields}),
        counters,
        total=total,
        log_every=log_every,
        epoch=lambda step: step / 10,
        metrics=lambda sums, weight: {name: value / weight for name, value in sums.items()},
    )
    for _ in range(steps):
        counters.step += 1
        counters.interval.loss += TAKEN.loss * counters.step
        counters.interval.trained += TAKEN.trained
        report.stepped(TAKEN, 0.1, 1e-4, lambda: 123)
    return said


def test_metrics_at_the_first_step_each_few_and_at_the_end() -> None:
    said = run(Counters(Micro("rows", 1), 0.1), 12, log_every=5, total=12)
    metrics = [e for e in said if e["type"] == "metrics"]
    assert [e["step"] for e in metrics] == [1, 5, 10, 12]
    assert metrics[0]["loss"] == 2.0 and metrics[1]["loss"] == 2 * (2 + 3 + 4 + 5) / 4
    assert metrics[1] | {"lr": 1e-4, "tokens_per_s": 100.0, "samples_per_s": 20.0, "data_wait": 0.1} == metrics[1]
    assert metrics[1]["memory_peak_bytes"] == 123


def test_rates_count_trained_tokens_and_the_share_of_the_peak() -> None:
    counters, said = Counters(Micro("rows", 1), 0.1), []
    report = Report(
        lambda type, **fields: said.append({"type": type, **fields}),
        counters,
        total=9,
        log_every=2,
        epoch=float,
        metrics=lambda sums, weight: dict(sums),
        flops=lambda tokens, squares: 100.0 * tokens + squares,
        peak_flops=20_000.0,
    )
    for _ in range(2):
        counters.step += 1
        report.stepped(replace(TAKEN, squares=500), 0.1, 1e-4, lambda: 1)
    metrics = [e for e in said if e["type"] == "metrics"]
    assert [e["trained_tokens_per_s"] for e in metrics] == [30.0, 30.0]
    assert [e["mfu"] for e in metrics] == [0.75, 0.75]  # (100 x 10 + 500) / (0.1 x 20,000), of each interval alone
    unknown = run(Counters(Micro("rows", 1), 0.1), 1, log_every=1, total=9)
    assert unknown[-1]["mfu"] is None


def test_progress_is_no_flood_and_ends_at_the_end() -> None:
    said = [e for e in run(Counters(Micro("rows", 1), 0.1), 200, log_every=1000, total=200) if e["type"] == "progress"]
    assert len(said) <= 3 and said[-1]["step"] == 200 and said[-1]["eta_s"] == 0.0


def test_a_resume_within_an_interval_reports_the_same_mean() -> None:
    counters = Counters(Micro("rows", 1), 0.1)
    run(counters, 7, log_every=10, total=20)
    saved = Counters.from_dict(counters.to_dict())
    after = run(saved, 3, log_every=10, total=20)
    whole = run(Counters(Micro("rows", 1), 0.1), 10, log_every=10, total=20)
    assert after[-1]["loss"] == whole[-1]["loss"]


def test_an_interval_of_skipped_steps_has_no_loss() -> None:
    counters = Counters(Micro("rows", 1), 0.1)
    said: list[dict[str, Any]] = []
    report = Report(lambda type, **f: said.append(f), counters, total=9, log_every=1, epoch=float, metrics=dict)
    counters.step = 1
    bad = Taken(float("nan"), 3, 3, 10, 2, float("nan"), applied=False, sound=False, data_s=0.0)
    report.stepped(bad, 0.1, 1e-4, lambda: 1)
    assert said[-1]["loss"] is None and said[-1]["grad_norm"] is None and counters.loss_first is None
