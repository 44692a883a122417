"""The operations `system show`, `system watch` and `system doctor`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from llamahome_tui.context import Context
from llamahome_tui.outcome import Item, Outcome, Result
from llamahome_tui.resources.sampler import Sampler


def show(context: Context) -> Iterator[Outcome]:
    """GPUs, CPU, memory and disk now. What a device does not tell is null."""
    sampler = Sampler.of(context.places)
    snapshot = sampler.sample()
    sampler.stop()
    yield Result(snapshot.to_dict())


def watch(context: Context) -> Iterator[Outcome]:
    """The same once each `resources.interval_s`, until Ctrl+C."""
    interval = float(context.settings.resources.interval_s)
    sampler = Sampler.of(context.places, interval)
    try:
        due = time.monotonic()
        while True:
            snapshot = sampler.sample(max(1.0, interval))
            yield Item("system", snapshot.to_dict())
            due = max(due + interval, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
    finally:
        sampler.stop()


def doctor(context: Context) -> Iterator[Outcome]:
    """Every check of this machine; `ok` is false when something fails that training or the application needs."""
    from llamahome_tui.resources.checks import CHECKS, Patient, State

    sampler = Sampler.of(context.places)
    snapshot = sampler.sample()
    sampler.stop()
    python = str(context.settings.launch.python or sys.executable)
    patient = Patient(context.places, context.environ, snapshot, python)
    checks: list[dict[str, Any]] = []
    worst = State.OK
    for check in CHECKS:
        for finding in check(patient):
            checks.append({**asdict(finding), "state": finding.state.value})
            if finding.state is State.FAIL or (finding.state is State.WARN and worst is State.OK):
                worst = finding.state
    yield Result({"ok": worst is not State.FAIL, "state": worst.value, "checks": checks})
