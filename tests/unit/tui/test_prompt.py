"""The prompt: tab goes on as far as there is one way, shows the ways where there are more, and an empty answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from textual.widgets import Input

from llamahome_tui.tui.app import LlamaHomeApp
from llamahome_tui.tui.screens.training.data_ask import files_from
from llamahome_tui.tui.widgets.prompt import Prompt
from tests.looking import shown_text, until

WAYS = [f"train-{number:02}.jsonl" for number in range(9)]


def _ways(typed: str) -> list[str]:
    return [way for way in WAYS if way.startswith(typed)]


async def test_tab_completes(make_app: Callable[..., LlamaHomeApp]) -> None:
    answers: list[str | None] = []
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        app.push_screen(Prompt("File", complete=_ways), answers.append)
        await until(pilot, lambda: isinstance(app.screen, Prompt) and bool(app.screen.query(Input)))
        await pilot.press("t", "tab")
        line = app.screen.query_one(Input)
        assert line.value == "train-0"
        await until(pilot, lambda: "train-05.jsonl" in shown_text(app) and "and 3 more" in shown_text(app))
        await pilot.press("7", "tab")
        assert line.value == "train-07.jsonl" and "train-05" not in shown_text(app)
        await pilot.press("x", "tab")
        assert line.value == "train-07.jsonlx"
        await pilot.press("backspace", "enter")
        await until(pilot, lambda: answers == ["train-07.jsonl"])


async def test_only_an_optional_answer_may_be_empty(make_app: Callable[..., LlamaHomeApp]) -> None:
    answers: list[str | None] = []
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        app.push_screen(Prompt("Needed"), answers.append)
        await until(pilot, lambda: isinstance(app.screen, Prompt) and bool(app.screen.query(Input)))
        await pilot.press("enter", "tab")
        assert isinstance(app.screen, Prompt)
        await pilot.press("escape")
        await until(pilot, lambda: answers == [None])
        app.push_screen(Prompt("Optional", optional=True), answers.append)
        await until(pilot, lambda: isinstance(app.screen, Prompt) and bool(app.screen.query(Input)))
        await pilot.press("enter")
        await until(pilot, lambda: answers == [None, ""])


def test_files_are_completed_by_their_last_word(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.json", "notes.md", "spec.toml", "pyproject.toml", ".hidden.jsonl", "with space.csv"):
        (tmp_path / name).touch()
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "c.parquet").touch()
    assert files_from(tmp_path, "") == ["'with space.csv'", "a.json", "b.jsonl", "sets/", "spec.toml"]
    assert files_from(tmp_path, "a.json se") == ["a.json sets/"]
    assert files_from(tmp_path, "sets/") == ["sets/c.parquet"]
    assert files_from(tmp_path, f"{tmp_path}/b") == [f"{tmp_path}/b.jsonl"]
    assert files_from(tmp_path, "nowhere/") == []
