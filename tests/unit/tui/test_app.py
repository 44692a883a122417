"""The application as a whole: screens on first visit, keys, toasts, crashes, small terminals."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input

from llamahome_tui.config.places import Places
from llamahome_tui.errors import LlamaHomeError, SpecError
from llamahome_tui.jobs.view import summarise
from llamahome_tui.operations import OPERATIONS
from llamahome_tui.outcome import Level
from llamahome_tui.tui.app import SCREENS, LlamaHomeApp
from llamahome_tui.tui.palette import Palette, asks, known
from llamahome_tui.tui.runner import named, run_operation
from llamahome_tui.tui.screens.training import actions
from llamahome_tui.tui.screens.training.page import RunPage
from llamahome_tui.tui.widgets.confirm import Confirm
from llamahome_tui.tui.widgets.lines import Lines
from llamahome_tui.tui.widgets.prompt import Prompt
from llamahome_tui.tui.widgets.sheet import Sheet
from llamahome_tui.tui.widgets.table import Table
from tests.runfolder import live_run, make_run
from tests.unit.tui.conftest import MakeApp


async def until(pilot: Any, holds: Any, timeout: float = 10.0) -> Any:
    """Wait for a condition in the application's own loop."""
    for _ in range(int(timeout / 0.05)):
        if value := holds():
            return value
        await pilot.pause(0.05)
    raise AssertionError("never came true")


def shown(app: LlamaHomeApp) -> str:
    """The screen as text."""
    return "\n".join("".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips())


def toasts(app: LlamaHomeApp) -> str:
    return "\n".join(one.message for one in app._notifications)


async def test_every_screen_opens_by_its_key_and_is_made_on_first_visit(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        modules = [f"llamahome_tui.tui.screens.{name}.screen" for name in SCREENS if name != "training"]
        for number, (name, module) in enumerate(zip(SCREENS, modules, strict=False), 1):
            await pilot.press(str(number))
            await until(pilot, lambda name=name: name == app.screen.NAME)  # type: ignore[attr-defined]
            assert name == "training" or f"llamahome_tui.tui.screens.{name}.screen" in sys.modules, module
        await pilot.press("f2")
        await until(pilot, lambda: app.screen.NAME == "training")  # type: ignore[attr-defined]
        assert "torch" not in sys.modules or "pytest" in sys.modules


async def test_the_list_opens_a_run_and_q_goes_back(make_app: MakeApp, places: Places) -> None:
    run = make_run(places.state, "gsm8k", printed="hello from the run\n")
    app = make_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.screen.query_one(Table).rows)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunPage))
        await until(pilot, lambda: "hello from the run" in shown(app))
        text = shown(app)
        for part in ("completed", "400/400", "100%", "loss", "learning rate", "run completed", run.id):
            assert part in text, part
        await pilot.press("l")
        assert app.screen.has_class("-zoom-log")
        await pilot.press("q")
        await until(pilot, lambda: not isinstance(app.screen, RunPage))
        await pilot.press("q")
        await pilot.pause()
        assert app.is_running


async def test_deep_link_opens_the_run(make_app: MakeApp, places: Places) -> None:
    make_run(places.state, "older", begun=1_780_000_000.0)
    newest = make_run(places.state, "newest")
    app = make_app(run="latest")
    async with app.run_test() as pilot:
        page = await until(pilot, lambda: app.screen if isinstance(app.screen, RunPage) else None)
        assert page.run.id == newest.id


async def test_deep_link_to_nothing_says_so(make_app: MakeApp) -> None:
    app = make_app(run="nowhere")
    async with app.run_test(notifications=True) as pilot:
        await until(pilot, lambda: "nowhere" in toasts(app))


async def test_stop_asks_first_with_cancel_focused(make_app: MakeApp, places: Places) -> None:
    with live_run(places.state, "alive", done=100) as run:
        app = make_app()
        async with app.run_test() as pilot:
            await until(pilot, lambda: app.screen.query_one(Table).rows)
            await pilot.press("x")
            confirm = await until(pilot, lambda: app.screen if isinstance(app.screen, Confirm) else None)
            await until(pilot, lambda: confirm.focused is not None)
            assert confirm.focused.id == "cancel"
            await pilot.press("enter")
            await until(pilot, lambda: not isinstance(app.screen, Confirm))
            assert not list(run.control_dir.iterdir())
            await pilot.press("x")
            await until(pilot, lambda: isinstance(app.screen, Confirm))
            await pilot.press("y")
            await until(pilot, lambda: list(run.control_dir.iterdir()))


async def test_remove_shows_its_plan_and_deletes_after_a_yes(make_app: MakeApp, places: Places) -> None:
    run = make_run(places.state, "old")
    app = make_app()
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.screen.query_one(Table).rows)
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        assert "old" in shown(app)
        await pilot.press("tab", "enter")
        await until(pilot, lambda: not run.dir.exists())
        await until(pilot, lambda: not app.screen.query_one(Table).rows)


async def test_new_asks_for_a_spec_and_names_a_missing_file(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test() as pilot:
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, Prompt))
        await pilot.press(*"no.toml", "enter")
        await until(pilot, lambda: "no file no.toml" in shown(app))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, Prompt))


async def test_typing_replaces_the_spec_that_is_suggested(make_app: MakeApp, tmp_path: Path) -> None:
    (tmp_path / "only.toml").touch()
    app = make_app()
    app.context = dataclasses.replace(app.context, cwd=tmp_path)
    async with app.run_test() as pilot:
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, Prompt) and "only.toml" in shown(app))
        line = app.screen.query_one(Input)
        assert line.value == "only.toml"
        await pilot.press(*"no.toml")
        assert line.value == "no.toml"


async def test_marked_runs_that_go_on_are_named_and_the_others_deleted_by_plan(
    make_app: MakeApp, places: Places
) -> None:
    old = make_run(places.state, "old")
    with live_run(places.state, "alive", done=100) as live:
        app = make_app()
        async with app.run_test() as pilot:
            await until(pilot, lambda: len(app.screen.query_one(Table).rows) == 2)
            await pilot.press("a", "d")
            await until(pilot, lambda: isinstance(app.screen, Confirm))
            assert "Delete old" in shown(app)
            assert "alive has not ended" in toasts(app)
            await pilot.press("y")
            await until(pilot, lambda: not old.dir.exists())
            assert live.dir.exists()


def test_what_stopping_does_is_said_of_each_kind_of_run(places: Places) -> None:
    view = summarise(make_run(places.state, "old"))
    training = dataclasses.replace(view, status="running", kind="train")
    command = dataclasses.replace(view, status="running", kind="exec")
    waiting = dataclasses.replace(view, status="queued", kind="train")
    assert [line.split()[:3] for line in actions.what_stopping_does([training])] == [["It", "writes", "a"]]
    assert "checkpoint" not in " ".join(actions.what_stopping_does([command, waiting]))
    assert len(actions.what_stopping_does([training, command, waiting])) == 3


async def test_a_toast_in_view_is_not_shown_twice(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test() as pilot:
        await pilot.press("q", "q", "q")
        await until(pilot, lambda: "nothing to go back to" in toasts(app))
        assert toasts(app).count("nothing to go back to") == 1


async def test_an_unknown_theme_is_told_with_the_names_people_use(make_app: MakeApp) -> None:
    app = make_app(theme="nosuch")
    async with app.run_test() as pilot:
        await until(pilot, lambda: "no theme nosuch; known are dark, contrast, light" in toasts(app))


async def test_the_palette_has_every_operation_and_narrows(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("colon")
        await until(pilot, lambda: isinstance(app.screen, Palette))
        table = app.screen.query_one(Table)
        names = {row.id for row in table.rows}
        assert {operation.name for operation in OPERATIONS} <= names
        await pilot.press(*"config path")
        await until(pilot, lambda: table.rows[0].id == "config path" and len(table.rows) < 5)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Sheet))
        await until(pilot, lambda: "config.toml" in shown(app))


async def test_the_palette_fills_in_what_is_selected(make_app: MakeApp, places: Places) -> None:
    run = make_run(places.state, "chosen")
    app = make_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.screen.query_one(Table).rows)
        await pilot.press("ctrl+p")
        await until(pilot, lambda: isinstance(app.screen, Palette))
        await pilot.press(*"runs show", "enter")
        await until(pilot, lambda: isinstance(app.screen, Sheet))
        await until(pilot, lambda: run.id in shown(app))


def test_what_an_operation_asks_for() -> None:
    assert asks(named("runs show"), {"run": "x"}) == []
    assert [a.name for a in asks(named("runs show"), {})] == ["id"]
    assert [a.name for a in asks(named("runs tag"), {"run": "x"})] == ["tag"]
    assert known(named("runs tag"), {"run": "x"}) == {"id": "x"}
    assert asks(named("system show"), {}) == []


async def test_a_failure_is_one_toast_that_ends_in_its_hint_and_no_markup_is_parsed(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        app.report(LlamaHomeError("[bold]no[/bold] \x1b]52;c;aGk=\x07such", hint="see: llamahome --batch runs list"))
        run_operation(app, "runs show", {"id": "nowhere"})
        await until(pilot, lambda: "nowhere" in toasts(app))
        text = shown(app)
        assert "[bold]no[/bold] such" in text
        assert "\x1b" not in text.replace("\x1b[", "")


async def test_a_spec_that_cannot_train_is_refused_with_its_key(
    make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = 'model.id = "demo"\ndata.train = ["demo"]\nlora.targets = ["q_prj"]\n'
    (tmp_path / "wrong.toml").write_text(spec)
    app = make_app()
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await pilot.press("f2", "n")
        await until(pilot, lambda: isinstance(app.screen, Prompt))
        await pilot.press("enter")
        await until(pilot, lambda: "lora.targets: the model has no module named q_prj" in toasts(app))
        assert not list(app.context.places.runs.iterdir())


async def test_many_mistakes_are_a_sheet(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=(100, 30)) as pilot:
        mistakes = [{"file": "a.toml", "line": i, "key": f"k{i}", "reason": "unknown"} for i in range(1, 6)]
        app.report(SpecError("a.toml has 5 mistakes", hint="llamahome --batch train init", data={"errors": mistakes}))
        await until(pilot, lambda: isinstance(app.screen, Sheet))
        await until(pilot, lambda: "a.toml:5" in shown(app))


async def test_a_fault_is_reported_and_logged_without_values(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canarycanarycanarycanary")
    app = make_app()

    def broken(*_: Any, **__: Any) -> Any:
        secret = "hf_canarycanarycanarycanary"
        raise ValueError(f"it broke with {secret}")

    monkeypatch.setattr("llamahome_tui.resources.commands.show", broken)
    async with app.run_test(notifications=True) as pilot:
        run_operation(app, "system show")
        await until(pilot, lambda: "it broke" in toasts(app))
        assert "canary" not in toasts(app)
    log = (app.context.places.logs / "app/error.log").read_text()
    assert "ValueError" in log
    assert "canary" not in log


async def test_a_crash_prints_no_values_and_ends_in_one_line(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canarycanarycanarycanary")
    app = make_app()
    with pytest.raises(ZeroDivisionError):
        async with app.run_test() as pilot:
            token = "hf_canarycanarycanarycanary"

            def burst() -> None:
                secret = token
                _ = 1 / len(secret[:0])

            app.call_later(burst)
            await pilot.pause(0.3)
    assert "ZeroDivisionError" in app.crash
    printed = capsys.readouterr()
    assert "canary" not in printed.out + printed.err
    assert "canary" not in (app.context.places.logs / "app/error.log").read_text()


async def test_f37_twenty_by_five_and_back(make_app: MakeApp, places: Places) -> None:
    make_run(places.state, "small")
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.screen.query_one(Table).rows)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunPage))
        for size in ((20, 5), (1, 1), (40, 3), (200, 60), (80, 24)):
            await pilot.resize_terminal(*size)
            await pilot.pause(0.05)
        for key in ("question_mark", "q", "colon", "escape", "q", "1", "3", "4", "2"):
            await pilot.resize_terminal(20, 5)
            await pilot.press(key)
            await pilot.pause(0.05)
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "completed" in shown(app))


async def test_f37_ascii_draws_ascii_only(make_app: MakeApp, places: Places) -> None:
    make_run(places.state, "plain", printed="ok\n")
    app = make_app(ascii_only=True)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until(pilot, lambda: app.screen.query_one(Table).rows)
        app.toast("a word", Level.WARNING)
        await until(pilot, lambda: "a word" in shown(app))
        assert shown(app).isascii(), [line for line in shown(app).splitlines() if not line.isascii()]
        await pilot.press("enter")
        await until(pilot, lambda: "run completed" in shown(app))
        assert shown(app).isascii(), [line for line in shown(app).splitlines() if not line.isascii()]


async def test_quitting_does_not_wait_for_a_thread_that_hangs(make_app: MakeApp) -> None:
    import threading

    from llamahome_tui.tui.runner import Poll

    app = make_app()
    never = threading.Event()
    async with app.run_test() as pilot:
        poll = Poll(app, "hung", lambda: never.wait(), 0.1)
        poll.start()
        await pilot.press("ctrl+q")
        await asyncio.wait_for(asyncio.shield(app._task) if app._task else asyncio.sleep(0), 5)
    never.set()


async def test_help_lists_the_keys_of_this_screen_first(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("question_mark")
        await until(pilot, lambda: app.screen.query(Lines))
        assert "start a run from a spec file" in shown(app)
        await pilot.press("question_mark")
        await until(pilot, lambda: not isinstance(app.screen, Sheet))
