"""The data view on real files with the embedded model: rows, tokens, statistics and bad rows, by keys alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from llamahome_tui.config.places import Places
from llamahome_tui.tui.app import LlamaHomeApp
from llamahome_tui.tui.screens.training.data_page import DataPage
from llamahome_tui.tui.screens.training.data_subject import of_words
from llamahome_tui.tui.widgets.prompt import Prompt
from llamahome_tui.tui.widgets.tokens import TokenView
from tests.looking import shown_text, until
from tests.runfolder import make_run

MakeApp = Callable[..., LlamaHomeApp]
ROWS = 400
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def chat(asked: str, said: str) -> str:
    return json.dumps({"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]})


@pytest.fixture
def file(home: Path) -> Path:
    """400 rows: 397 chats, one without an answer, one that is no JSON, one that would act on a terminal."""
    rows = [chat(f"question {number}", f"answer {number}\nin two lines") for number in range(ROWS)]
    rows[100] = json.dumps({"messages": [{"role": "user", "content": "alone"}]})
    rows[200] = '{"messages": [broken \x1b[31m'
    rows[300] = chat("[@click=app.quit]press[/] \x1b]52;c;AAAA\x07", "\u202etxet neddih")
    path = Path.cwd() / "chats.jsonl"
    path.write_text("\n".join(rows) + "\n")
    return path


async def opened(app: LlamaHomeApp, pilot: Pilot[int], files: str, model: str = "demo", pane: str = "rows") -> DataPage:
    page = DataPage(of_words(app.context, files, model), pane)
    await app.push_screen(page)
    await until(pilot, lambda: page.is_current)
    return page


def shows(app: LlamaHomeApp, *texts: str) -> Callable[[], bool]:
    return lambda: all(text in shown_text(app) for text in texts)


async def test_rows_then_one_row_then_back(make_app: MakeApp, file: Path) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        page = await opened(app, pilot, "chats.jsonl")
        await until(pilot, shows(app, "Rows] 400", "question 0", "answer 0 in two"))
        await until(pilot, lambda: 0 in page._looks.counts)
        counted = page._looks.counts[0]
        assert counted.tokens > counted.learned > 0
        await pilot.press("j", "enter")
        await until(pilot, shows(app, "row 2 of 400", "chats.jsonl:2", "<|assistant|>answer 1⏎", "learned ("))
        assert "question 2" not in shown_text(app)
        await pilot.press("n")
        await until(pilot, shows(app, "row 3 of 400", "answer 2⏎"))
        await pilot.press("p", "p")
        await until(pilot, shows(app, "row 1 of 400", "answer 0⏎"))
        await pilot.press("q")
        await until(pilot, shows(app, "question 5"))
        assert page.rows.position == 0
        await pilot.press("q")
        await until(pilot, lambda: app.screen is not page)


async def test_learned_tokens_are_underlined_and_one_is_told(make_app: MakeApp, file: Path) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        page = await opened(app, pilot, "chats.jsonl")
        await until(pilot, shows(app, "question 0"))
        await pilot.press("enter")
        await until(pilot, shows(app, "answer 0⏎"))
        view = page.query_one(TokenView)
        underlined = "".join(
            segment.text
            for y in range(view.size.height)
            for segment in view.render_line(y)
            if segment.style is not None and segment.style.underline
        )
        assert underlined == "answer 0⏎in two lines<|end|>"
        assert "underlined: learned" in shown_text(app)
        await pilot.press("right")
        await until(pilot, shows(app, "token 1 of", "not learned", "special"))
        await pilot.press("l", "l", "h", "e")
        await until(pilot, shows(app, "token 2 of", "│"))
        await pilot.press("v")
        await until(pilot, shows(app, '"content": "question 0"'))
        await pilot.press("v")
        await until(pilot, shows(app, "<|user|>"))


async def test_wide_shows_both_and_the_newest_row_wins(make_app: MakeApp, file: Path) -> None:
    app = make_app()
    async with app.run_test(size=(120, 40)) as pilot:
        page = await opened(app, pilot, "chats.jsonl")
        await until(pilot, shows(app, "question 7", "row 1 of 400", "answer 0⏎"))
        await pilot.press("j", "j", "j", "j", "j")
        await until(pilot, shows(app, "row 6 of 400", "answer 5⏎"))
        await pilot.press("tab")
        await until(pilot, lambda: page.row.has_focus_within)
        await pilot.press("right")
        assert page.query_one(TokenView).step == 0
        await pilot.press("tab")
        assert page.rows.has_focus
        await pilot.press("G")
        await until(pilot, shows(app, "row 400 of 400", "answer 399⏎"))


async def test_the_filter_counts_and_leads_back(make_app: MakeApp, file: Path) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        page = await opened(app, pilot, "chats.jsonl")
        await until(pilot, shows(app, "question 0"))
        await pilot.press("slash", *"question 39", "enter")
        await until(pilot, shows(app, "/question 39", "14 rows", "question 399"))
        assert "question 38 " not in shown_text(app)
        await pilot.press(*"jjjjj", "enter")
        await until(pilot, shows(app, "row 392 of 400"))
        await pilot.press("q", "escape")
        await until(pilot, shows(app, "question 391", "question 388"))
        assert page.rows.position == 391
        await pilot.press("slash", *"bad", "enter")
        await until(pilot, shows(app, "2 rows", "✗ bad: messages", "✗ bad: is not JSON"))
        await pilot.press("escape", "slash", *"file:nowhere", "enter")
        await until(pilot, shows(app, "nothing matches the filter"))


async def test_bad_rows_lead_to_their_text(make_app: MakeApp, file: Path) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        page = await opened(app, pilot, "chats.jsonl")
        await pilot.press("b")
        await until(pilot, shows(app, "2 rows cannot be used, 398 can", " 101  chats.jsonl ", " 201  chats.jsonl "))
        await pilot.press("j", "enter")
        await until(pilot, shows(app, "row 201 of 400", '{"messages": [broken', "✗ is not JSON"))
        assert "\x1b" not in shown_text(app) and page.pane == "row"
        await pilot.press("q")
        await until(pilot, lambda: page.rows.position == 200)


async def test_statistics_are_counted_on_demand_and_drawn(make_app: MakeApp, file: Path) -> None:
    app = make_app()
    async with app.run_test(size=(120, 40)) as pilot:
        page = await opened(app, pilot, "chats.jsonl")
        assert page.stats.counted is None
        await pilot.press("t")
        await until(pilot, shows(app, "398 messages", "padding", "plain", "sorted", "rows by their number"), 60)
        await until(pilot, shows(app, "█", "duplicates", "2 rows cannot be used", "data stats"))
        assert page.subject_of_view.words == f"{file} --model demo"


async def test_rows_that_only_the_template_refuses_are_listed_once_they_are_known(
    make_app: MakeApp, file: Path
) -> None:
    (Path.cwd() / "strict.jinja").write_text(
        "{% for m in messages %}{% if m.content == 'question 7' %}{{ raise_exception('no sevens') }}{% endif %}"
        "<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    (Path.cwd() / "spec.toml").write_text(
        'name = "strict"\n[model]\nid = "demo"\n[data]\ntrain = ["chats.jsonl"]\ntemplate = "strict.jinja"\n'
    )
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, "spec.toml", "")
        await until(pilot, shows(app, "✗ bad: ", "no sevens"))  # the row in view is marked by itself
        await pilot.press("b")
        await until(pilot, shows(app, "2 rows cannot be used, 398 can"))
        await pilot.press("t")
        await until(pilot, shows(app, "397 messages"), 60)
        await pilot.press("b")
        await until(pilot, shows(app, "the template refuses 1 of these", " 8  chats.jsonl"))
        await pilot.press("G", "enter")
        await until(pilot, shows(app, "row 8 of 400", "no sevens"))


async def test_statistics_can_be_cancelled(make_app: MakeApp, home: Path) -> None:
    path = Path.cwd() / "many.jsonl"
    path.write_text("".join(chat(f"question {number} " * 40, "yes") + "\n" for number in range(20_000)))
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        page = await opened(app, pilot, "many.jsonl")
        await pilot.press("t")
        await until(pilot, shows(app, "x cancels", "counting tokens"))
        await pilot.press("x")
        await until(pilot, shows(app, "cancelled"))
        assert not page.stats.running
        await pilot.press("t")
        await until(pilot, lambda: page.stats.running)


async def test_a_template_that_hangs_freezes_nothing(make_app: MakeApp, file: Path, home: Path) -> None:
    (Path.cwd() / "loop.jinja").write_text(
        "{{ messages[0].content }}{% if '5' in messages[0].content %}" + LOOP + "{% endif %}"
    )
    spec = '[model]\nid = "demo"\n[data]\ntrain = ["chats.jsonl"]\ntemplate = "loop.jinja"\n'
    (Path.cwd() / "spec.toml").write_text('name = "loop"\n' + spec)
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, "spec.toml", "")
        await until(pilot, shows(app, "question 5"))
        await pilot.press("j", "j", "j", "j", "j", "enter")
        await until(pilot, shows(app, "row 6 of 400", "making tokens"))
        await pilot.pause(1.2)
        await pilot.press("v")
        await until(pilot, shows(app, '"content": "question 5"'))
        await pilot.press("v", "n")
        await until(pilot, shows(app, "row 7 of 400", "✗"))
        assert "making tokens" not in shown_text(app)


async def test_a_row_never_acts_on_the_terminal(make_app: MakeApp, file: Path) -> None:
    app = make_app()
    async with app.run_test(size=(120, 40)) as pilot:
        page = await opened(app, pilot, "chats.jsonl")
        await until(pilot, shows(app, "question 0"))
        await pilot.press("slash", *"press", "enter")
        await until(pilot, shows(app, "[@click=app.quit]press[/]", "row 301 of"))
        await until(pilot, shows(app, "\\u{1b}]52;c;AAAA", "\\u{202e}"))
        await pilot.press("v")
        await until(pilot, shows(app, '"messages": ['))
        assert not {"\x1b", "\x07", "\u202e"} & set(shown_text(app)) and page.is_current


async def test_pairs_show_both_answers(make_app: MakeApp, home: Path) -> None:
    (Path.cwd() / "pairs.jsonl").write_text(json.dumps({"prompt": "2+2?", "chosen": "four", "rejected": "five"}) + "\n")
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, "pairs.jsonl")
        await until(pilot, shows(app, "2+2?"))
        await pilot.press("enter")
        await until(pilot, shows(app, "chosen: ", "four<|end|>", "rejected: ", "five<|end|>", "preference"))


async def test_without_a_model_rows_are_shown_and_one_can_be_named(make_app: MakeApp, file: Path) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, "chats.jsonl", "")
        await until(pilot, shows(app, "question 0", "no model"))
        await pilot.press("enter")
        await until(pilot, shows(app, "no model is named", '"content": "question 0"'))
        await pilot.press("t")
        await until(pilot, shows(app, "no model is named"))
        await pilot.press("m")
        await until(pilot, lambda: isinstance(app.screen, Prompt))
        await pilot.press(*"demo", "enter")
        await until(pilot, shows(app, "for demo", "398 messages"), 60)
        await pilot.press("r", "enter")
        await until(pilot, shows(app, "<|user|>question 0"))


async def test_a_tiny_terminal_and_back(make_app: MakeApp, file: Path) -> None:
    app = make_app()
    async with app.run_test(size=(120, 40)) as pilot:
        page = await opened(app, pilot, "chats.jsonl")
        await until(pilot, shows(app, "question 0", "answer 0⏎"))
        for key in ("r", "enter", "v", "b", "t"):
            await pilot.press(key)
            for size in ((20, 5), (1, 1), (80, 24), (120, 40)):
                await pilot.resize_terminal(*size)
                await pilot.pause()
        await pilot.press("v", "r")
        await until(pilot, shows(app, "question 0", "answer 0"))
        assert page.is_current and not app.crash


async def test_a_file_of_nothing_and_one_that_is_not_there(make_app: MakeApp, home: Path) -> None:
    (Path.cwd() / "empty.jsonl").write_text("")
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, "empty.jsonl")
        await until(pilot, shows(app, "there are no rows in it"))
        await pilot.press("enter", "n", "v", "y", "slash", "x", "escape", "b")
        await until(pilot, shows(app, "1 row cannot be used", "empty"))
        await pilot.press("t")
        await until(pilot, shows(app, "none that can be used", "1 row cannot be used"), 60)
        assert "rows by their number" not in shown_text(app) and "length" not in shown_text(app)


async def test_a_format_nobody_knows_is_said_with_the_way_out(make_app: MakeApp, home: Path) -> None:
    (Path.cwd() / "questions.jsonl").write_text(json.dumps({"question": "2+2?", "answer": "4"}) + "\n")
    app = make_app()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, "questions.jsonl")
        await until(pilot, shows(app, "the format of the rows is not known", "prompt =", '"question", completion'))


async def test_what_a_list_says_never_acts_on_the_terminal(make_app: MakeApp, file: Path) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        page = await opened(app, pilot, "chats.jsonl")
        await until(pilot, shows(app, "question 0"))
        await pilot.press("slash", *"nothing has this")
        await until(pilot, shows(app, "nothing matches"))
        page.rows.explain("cannot read \x1b]52;c;AAAA\x07.jsonl")
        await until(pilot, shows(app, "cannot read"))
        assert not {"\x1b", "\x07"} & set(shown_text(app))


class TestOpening:
    """From the list, from a run's page, from the palette, and what is asked."""

    async def test_a_run_shows_its_own_data(self, make_app: MakeApp, places: Places, file: Path) -> None:
        run = make_run(places.state, "gsm8k")
        job = json.loads((run.dir / "spec.json").read_text())
        job["spec"] |= {"data": {"train": [str(file)]}}
        (run.dir / "spec.json").write_text(json.dumps(job))
        app = make_app()
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, shows(app, "gsm8k"))
            await pilot.press("D", "D")
            await until(pilot, shows(app, "question 0", "gsm8k  for demo"))
            assert len(app.screen_stack) == 2
            await pilot.press("q", "enter")
            await until(pilot, shows(app, "completed", "loss"))
            await pilot.press("D")
            await until(pilot, shows(app, "question 0", "gsm8k  for demo"))

    async def test_a_run_whose_file_is_gone_says_so(self, make_app: MakeApp, places: Places) -> None:
        run = make_run(places.state, "gsm8k")
        job = json.loads((run.dir / "spec.json").read_text())
        job["spec"] |= {"data": {"train": ["/nowhere/gone.jsonl"]}}
        (run.dir / "spec.json").write_text(json.dumps(job))
        make_run(places.state, "wrapped", kind="exec", command=("axolotl",), begun=1_700_000_000.0)
        app = make_app()
        async with app.run_test(size=(80, 24), notifications=True) as pilot:
            await until(pilot, shows(app, "gsm8k"))
            await pilot.press("D")
            await until(pilot, shows(app, "/nowhere/gone.jsonl is not there"))
            await pilot.press("j", "D")
            await until(pilot, shows(app, "wrapped is a command"))

    async def test_an_empty_list_asks_for_file_and_model(self, make_app: MakeApp, file: Path) -> None:
        app = make_app()
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, shows(app, "No runs yet", "D  "))
            await pilot.press("D")
            await until(pilot, lambda: isinstance(app.screen, Prompt))
            line = app.screen.query_one(Input)
            assert line.value == "chats.jsonl"  # the only data file here is suggested
            await pilot.press(*"nope", "enter")
            await until(pilot, shows(app, "is not there"))
            line.value = "ch"
            await pilot.press("tab", "enter")
            await until(pilot, shows(app, "The model that makes tokens"))
            await pilot.press(*"demo", "enter")
            await until(pilot, shows(app, "question 0", "for demo"))

    @pytest.mark.parametrize(("name", "seen"), [("data stats", "counting tokens"), ("data validate", "cannot be used")])
    async def test_the_palette_opens_the_view(self, make_app: MakeApp, file: Path, name: str, seen: str) -> None:
        app = make_app()
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, shows(app, "No runs yet"))
            await pilot.press("colon", *name, "enter")
            await until(pilot, lambda: isinstance(app.screen, Prompt))
            await pilot.press("enter")
            await until(pilot, shows(app, "The model"))
            await pilot.press(*"demo", "enter")
            await until(pilot, lambda: isinstance(app.screen, DataPage))
            await until(pilot, lambda: seen in shown_text(app) or "398 messages" in shown_text(app), 60)


def test_nothing_heavy_is_imported_for_it(home: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys, llamahome_tui.tui.screens.training.data_page, llamahome_tui.tui.screens.training.data_ask;"
        "print(sorted({'numpy', 'torch', 'transformers', 'tokenizers', 'jinja2', 'pyarrow'} & set(sys.modules)))"
    )
    said: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
