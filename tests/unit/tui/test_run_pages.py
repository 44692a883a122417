"""What opens over a run's page: its samples by prompt and step, its report, and the words it can be asked."""

from __future__ import annotations

from collections.abc import Callable

from llamahome_tui.config.places import Places
from llamahome_tui.jobs import answers
from llamahome_tui.jobs.answers import Answer
from llamahome_tui.tui.app import LlamaHomeApp
from llamahome_tui.tui.screens.training.page import RunPage
from llamahome_tui.tui.screens.training.report_page import ReportPage
from llamahome_tui.tui.screens.training.samples_page import SamplesPage
from llamahome_tui.tui.widgets.cells import Value
from llamahome_tui.tui.widgets.lines import Lines
from llamahome_tui.tui.widgets.prompt import Prompt
from tests.looking import shown_text, until
from tests.runfolder import make_run

MakeApp = Callable[..., LlamaHomeApp]
HOSTILE = "\x1b]52;c;AAAA\x07[@click=app.quit]quit[/nothing]"
WRITTEN = tuple(
    ("sample", {"step": step, "prompt": prompt, "text": f"{prompt} at {step} {HOSTILE}"})
    for step in (0, 20, 40)
    for prompt in ("first", "second")
)


def captions(app: LlamaHomeApp) -> tuple[str, str]:
    left, right = (app.screen.query_one(f"#caption-{side}", Value).text for side in ("left", "right"))
    return left, right


async def test_two_steps_side_by_side_and_all_of_them(make_app: MakeApp, places: Places) -> None:
    run = make_run(places.state, "poet", steps=40, done=40, extra=WRITTEN)
    app = make_app(screen="training", run=run.id)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, RunPage) and app.screen.view is not None)
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, SamplesPage) and bool(app.screen.written))
        assert captions(app) == ("Step 0", "Step 40, the newest")
        await pilot.press("left")
        assert captions(app) == ("Step 0", "Step 20")
        await pilot.press("right_square_bracket")
        assert not app.screen.query_one("#pane-right").display  # the same step twice
        await pilot.press("right", "right")
        assert captions(app) == ("Step 20", "Step 40, the newest")
        await pilot.press("n")
        await until(pilot, lambda: "second at 40 [@click=app.quit]quit[/nothing]" in shown_text(app))
        assert "\x1b" not in shown_text(app)
        await pilot.press("v")
        await until(
            pilot, lambda: "Step 0" in shown_text(app) and app.screen.query_one("#samples-all", Lines).has_focus
        )
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, RunPage))
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, ReportPage) and app.screen.report is not None)
        await until(pilot, lambda: "Sample: first" in shown_text(app))


async def test_held_out_rows_stand_behind_the_prompts_beside_what_is_expected(
    make_app: MakeApp, places: Places
) -> None:
    run = make_run(places.state, "poet", steps=40, done=40, extra=WRITTEN)
    for step, text in ((0, f"the {HOSTILE}"), (40, "moo")):
        answers.leave(run, step, [Answer(0, f"say {HOSTILE}", "moo", text, text == "moo")])
    app = make_app(screen="training", run=run.id)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, RunPage) and app.screen.view is not None)
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, SamplesPage) and bool(app.screen.written))
        assert not app.screen.query_one("#samples-expected").display
        await pilot.press("p")
        await until(pilot, lambda: "Held-out row 3 of 3: say" in shown_text(app))
        assert "expected: moo" in shown_text(app) and "\x1b" not in shown_text(app)
        assert captions(app) == ("Step 0: wrong", "Step 40, the newest: right")
        answers.leave(run, 60, [Answer(0, "say", "moo", "mu", False)])
        await until(pilot, lambda: captions(app)[1] == "Step 60, the newest: wrong")


async def test_a_word_a_run_does_not_know_keeps_the_question_open(make_app: MakeApp, places: Places) -> None:
    run = make_run(places.state, "poet", steps=40, done=40)
    app = make_app(screen="training", run=run.id)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, RunPage) and app.screen.view is not None)
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, Prompt))
        await pilot.press(*"lr", "equals_sign", *"9e9", "enter")
        await until(pilot, lambda: "no learning rate" in shown_text(app))
        assert isinstance(app.screen, Prompt)


async def test_every_metric_has_a_plot_of_its_own(make_app: MakeApp, places: Places) -> None:
    told = {"samples_per_s": 12.5, "memory_peak_bytes": 3 << 30, "mfu": None, "data_wait": 0.025}
    extra = tuple(("metrics", {"step": step, **told}) for step in (10, 20, 40))
    run = make_run(places.state, "poet", steps=40, done=40, extra=extra)
    app = make_app(screen="training", run=run.id)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, RunPage) and app.screen.view is not None)
        assert "data wait" not in shown_text(app)
        await pilot.press("p")
        await until(pilot, lambda: "data wait  2.5%" in shown_text(app))
        text = shown_text(app)
        for said in ("samples/s  12.5", "peak memory  3.0 GiB", "gradient norm", "trained tok/s", "MFU", "not known"):
            assert said in text, text
        await pilot.press("p")
        await until(pilot, lambda: "data wait" not in shown_text(app))
