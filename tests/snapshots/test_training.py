"""The Training screen and what opens over it, as pictures at two sizes, from real run folders on a held clock."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from llamahome_tui.config.places import Places
from llamahome_tui.evaluation import commands
from llamahome_tui.jobs import answers
from llamahome_tui.jobs.answers import Answer
from llamahome_tui.outcome import Result
from llamahome_tui.resources.snapshot import Cpu, Disk, Gpu, GpuState, Memory, Snapshot
from llamahome_tui.start import surroundings
from llamahome_tui.tui.app import LlamaHomeApp
from llamahome_tui.tui.screens.training.evaluate_page import EvaluatePage
from llamahome_tui.tui.screens.training.compare_page import ComparePage
from llamahome_tui.tui.screens.training.page import RunPage
from llamahome_tui.tui.screens.training.report_page import ReportPage
from llamahome_tui.tui.screens.training.samples_page import SamplesPage
from llamahome_tui.tui.screens.training.screen import TrainingScreen
from llamahome_tui.tui.widgets.cells import Value
from llamahome_tui.tui.widgets.form import Form
from llamahome_tui.tui.widgets.table import Table
from tests.conftest import clean_environ
from tests.runfolder import EPOCH, live_run, make_run
from tests.unit.jobs.test_evaluations import result

SIZES = [(80, 24), (120, 40)]
GIB = 1024**3
PRINTED = "".join(
    f"{{'loss': {3 - i * 0.02:.4f}, 'learning_rate': 0.0002, 'epoch': {i / 100:.2f}}}\n" for i in range(80)
)


WRITTEN = tuple(
    ("sample", {"step": step, "prompt": prompt, "text": text})
    for step, text in (
        (0, "the the the of of the [b]and[/b] of the the"),
        (200, "The sea is is wide and the\nship is small is small"),
        (400, "The sea is wide,\nthe ship is small,\nand every tide\nbrings back them all."),
    )
    for prompt in ("Write four lines about the sea.", "Say hello.")
) + (
    ("control", {"request": "1", "op": "lr", "value": 1e-4, "outcome": "applied", "reason": "", "step": 120}),
    ("warning", {"step": 130, "message": "the loss is not finite: step skipped (1 of 5 in a row)"}),
)


class Sampled:
    """One snapshot for ever, in place of the sampler."""

    latest = Snapshot(
        t=EPOCH,
        state=GpuState.OK,
        gpus=tuple(
            Gpu(
                index=index,
                name="NVIDIA H100 80GB",
                uuid=f"GPU-{index}",
                memory_used_bytes=(61 - 40 * index) * GIB,
                memory_total_bytes=80 * GIB,
                utilization=97.0 - 60 * index,
                temperature_c=64.0 - 20 * index,
                power_w=412.0 - 250 * index,
                power_limit_w=700.0,
            )
            for index in range(2)
        ),
        cpu=Cpu(percent=37.0, cores=16, load=(4.2, 3.9, 3.1)),
        memory=Memory(total_bytes=128 * GIB, used_bytes=48 * GIB, available_bytes=80 * GIB),
        disk=(Disk("models", "/data", 2048 * GIB, 700 * GIB, 1348 * GIB),),
        driver="570.86",
    )


@pytest.fixture
def tmp_path(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """As deep as ever where tests run side by side: a report shows a path, and wraps it."""
    if not hasattr(request.config, "workerinput"):
        return tmp_path
    folder = tmp_path_factory.getbasetemp().parent / tmp_path.name
    folder.mkdir()
    return folder


@pytest.fixture
def state(places: Places, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state folder with a run in every state that can be made without a supervisor."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    with ExitStack() as stack:
        folder = places.state
        stack.enter_context(live_run(folder, "llama-dpo", begun=EPOCH, done=190, tags=("night",), printed=PRINTED))
        make_run(folder, "gsm8k", begun=EPOCH - 5400, tags=("math", "v2"), printed=PRINTED)
        trouble = {
            "code": "oom",
            "exception": "OutOfMemoryError",
            "message": "CUDA out of memory: 20 GiB asked, 3 GiB free",
            "hint": "lower the micro-batch: llamahome --batch runs resume broken --set training.batch_size=4",
        }
        extra = (("error", trouble),)
        make_run(folder, "broken", begun=EPOCH - 86_400, done=120, end="failed", model="Qwen/Qwen3-8B", extra=extra)
        make_run(folder, "support", begun=EPOCH - 400_000, done=230, end="stopped", model="meta-llama/Llama-3.2-1B")
        make_run(folder, "axolotl", begun=EPOCH - 900_000, kind="exec", command=("axolotl", "train", "x.yaml"))
        yield folder


def application(places: Places, **more: Any) -> LlamaHomeApp:
    context, _ = surroundings(clean_environ(places.state.parent), "tui")
    context = replace(context, cwd=Path("/home/you"))
    app = LlamaHomeApp(context, host="gpubox", clock=lambda: EPOCH + 120, sampling=False, **more)
    app.sampler = Sampled()  # type: ignore[assignment]
    return app


def after(
    *keys: str, run: str = "", ready: Callable[[LlamaHomeApp], Any] = lambda app: True
) -> Callable[[Pilot[Any]], Awaitable[None]]:
    """Wait for the list, select a run, press keys, and wait for what should be there."""

    async def before(pilot: Pilot[Any]) -> None:
        app = pilot.app
        assert isinstance(app, LlamaHomeApp)
        await _until(pilot, lambda: app.screen.query_one(Table)._loaded)
        await _until(pilot, lambda: _panel_painted(app))
        if run:
            table = app.screen.query_one(Table)
            table.select(next(row.id for row in table.rows if row.id.endswith(run)))
        await _until(pilot, lambda: _preview_painted(app))
        for key in keys:
            await pilot.press(key)
            await pilot.pause()
        await _until(pilot, lambda: ready(app) and _preview_painted(app))
        await pilot.pause(0.3)

    return before


def _panel_painted(app: LlamaHomeApp) -> bool:
    return any("48" in str(value.render()) for value in app.screen.query("ResourcePanel Value"))


def _preview_painted(app: LlamaHomeApp) -> bool:
    """Whether a tall terminal shows the selected run below the list, where there is one."""
    screen = app.screen
    if not isinstance(screen, TrainingScreen) or not screen.has_class("-tall") or screen.table.selected is None:
        return True
    preview = screen.preview
    return preview is not None and preview.display and screen.table.selected in preview.query_one(Value).text


def _page_ready(app: LlamaHomeApp) -> bool:
    return isinstance(app.screen, RunPage) and app.screen.view is not None


def _samples_ready(app: LlamaHomeApp) -> bool:
    return isinstance(app.screen, SamplesPage) and bool(app.screen.written)


def _evaluated(app: LlamaHomeApp) -> bool:
    return isinstance(app.screen, EvaluatePage) and not app.screen.going and bool(app.screen.query("#evaluated"))


def _report_ready(app: LlamaHomeApp) -> bool:
    return isinstance(app.screen, ReportPage) and app.screen.report is not None


def _compared(app: LlamaHomeApp) -> bool:
    return isinstance(app.screen, ComparePage) and app.screen.found is not None


async def _until(pilot: Pilot[Any], holds: Callable[[], Any]) -> None:
    for _ in range(200):
        if holds():
            return
        await pilot.pause(0.05)
    raise AssertionError("the screen never got there")


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "120x40"])
class TestTraining:
    """Each state of the screen at both sizes."""

    def test_empty(self, snap_compare: Any, places: Places, size: tuple[int, int]) -> None:
        assert snap_compare(application(places), terminal_size=size, run_before=after())

    def test_runs(self, snap_compare: Any, state: Path, places: Places, size: tuple[int, int]) -> None:
        assert snap_compare(application(places), terminal_size=size, run_before=after())

    def test_light(self, snap_compare: Any, state: Path, places: Places, size: tuple[int, int]) -> None:
        assert snap_compare(application(places, theme="light"), terminal_size=size, run_before=after())

    def test_contrast(self, snap_compare: Any, state: Path, places: Places, size: tuple[int, int]) -> None:
        assert snap_compare(application(places, theme="contrast"), terminal_size=size, run_before=after())

    def test_ascii(self, snap_compare: Any, state: Path, places: Places, size: tuple[int, int]) -> None:
        before = after("enter", run="gsm8k", ready=_page_ready)
        assert snap_compare(application(places, ascii_only=True), terminal_size=size, run_before=before)

    def test_filter(self, snap_compare: Any, state: Path, places: Places, size: tuple[int, int]) -> None:
        assert snap_compare(application(places), terminal_size=size, run_before=after("slash", "l", "l"))

    def test_live_run(self, snap_compare: Any, state: Path, places: Places, size: tuple[int, int]) -> None:
        before = after("enter", run="llama-dpo", ready=_page_ready)
        assert snap_compare(application(places), terminal_size=size, run_before=before)

    def test_completed_run(self, snap_compare: Any, state: Path, places: Places, size: tuple[int, int]) -> None:
        before = after("enter", run="gsm8k", ready=_page_ready)
        assert snap_compare(application(places), terminal_size=size, run_before=before)

    def test_failed_run(self, snap_compare: Any, state: Path, places: Places, size: tuple[int, int]) -> None:
        before = after("enter", run="broken", ready=_page_ready)
        assert snap_compare(application(places), terminal_size=size, run_before=before)

    def test_log_of_a_run(self, snap_compare: Any, state: Path, places: Places, size: tuple[int, int]) -> None:
        before = after("l", run="gsm8k", ready=_page_ready)
        assert snap_compare(application(places), terminal_size=size, run_before=before)

    def test_samples_of_a_run(self, snap_compare: Any, state: Path, places: Places, size: tuple[int, int]) -> None:
        make_run(places.state, "poet", begun=EPOCH - 7200, extra=WRITTEN)
        before = after("enter", "s", run="poet", ready=_samples_ready)
        assert snap_compare(application(places), terminal_size=size, run_before=before)

    def test_held_out_row_of_a_run(self, snap_compare: Any, state: Path, places: Places, size: tuple[int, int]) -> None:
        run = make_run(places.state, "poet", begun=EPOCH - 7200, extra=WRITTEN)
        asked = "What does the cow say to the moon, and how often?"
        for step, text in ((0, "the the of of the the of"), (200, "moo, twice,\nand then again"), (400, "moo, twice")):
            answers.leave(run, step, [Answer(0, asked, "moo, twice", text, text == "moo, twice")])
        before = after("enter", "s", "p", run="poet", ready=_samples_ready)
        assert snap_compare(application(places), terminal_size=size, run_before=before)

    def test_report_of_a_run(
        self, snap_compare: Any, state: Path, places: Places, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
    ) -> None:
        here = os.uname_result(("Linux", "gpubox", "6.1", "1", "x86_64"))
        monkeypatch.setattr(os, "uname", lambda: here)
        make_run(places.state, "poet", begun=EPOCH - 7200, extra=WRITTEN)
        before = after("enter", "o", run="poet", ready=_report_ready)
        assert snap_compare(application(places), terminal_size=size, run_before=before)

    def test_runs_compared(self, snap_compare: Any, state: Path, places: Places, size: tuple[int, int]) -> None:
        make_run(places.state, "gsm8k-short", begun=EPOCH - 5500, done=300, end="stopped", tags=("math",))
        before = after("space", "space", "equals_sign", run="gsm8k", ready=_compared)
        assert snap_compare(application(places), terminal_size=size, run_before=before)

    def test_stop(self, snap_compare: Any, state: Path, places: Places, size: tuple[int, int]) -> None:
        before = after("x", run="llama-dpo")
        assert snap_compare(application(places), terminal_size=size, run_before=before)

    def test_start(self, snap_compare: Any, state: Path, places: Places, size: tuple[int, int]) -> None:
        assert snap_compare(application(places), terminal_size=size, run_before=after("n"))

    def test_palette(self, snap_compare: Any, state: Path, places: Places, size: tuple[int, int]) -> None:
        assert snap_compare(application(places), terminal_size=size, run_before=after("colon", "r", "u", "n"))

    def test_help(self, snap_compare: Any, state: Path, places: Places, size: tuple[int, int]) -> None:
        assert snap_compare(application(places), terminal_size=size, run_before=after("question_mark"))

    def test_evaluate_form(self, snap_compare: Any, state: Path, places: Places, size: tuple[int, int]) -> None:
        before = after("enter", "v", run="gsm8k", ready=lambda app: isinstance(app.screen, Form))
        assert snap_compare(application(places), terminal_size=size, run_before=before)

    def test_evaluate_result(
        self, snap_compare: Any, state: Path, places: Places, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
    ) -> None:
        found = result(200) | {"left_out": 0, "kept": "artifacts/evaluate-20260921-141320-0a0b0c.json", "seconds": 74.0}
        found["samples"] = [found["samples"][0] | {"text": "mu, [b]twice[/b]", "base_score": 1.0}]
        monkeypatch.setattr(commands, "evaluate", lambda context, **_: (one for one in [Result(found)]))
        before = after("enter", "v", "enter", run="gsm8k", ready=_evaluated)
        assert snap_compare(application(places), terminal_size=size, run_before=before)
