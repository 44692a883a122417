"""`E` in the list of runs and on a run's page: the form, what it refuses, and the job that comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from textual.widgets import Input

from llamahome_tui.config.places import Places
from llamahome_tui.errors import UsageError
from llamahome_tui.export import commands
from llamahome_tui.outcome import Accepted, Outcome, Result
from llamahome_tui.tui.app import LlamaHomeApp
from llamahome_tui.tui.screens.training.export_ask import arguments_of
from llamahome_tui.tui.screens.training.page import RunPage
from llamahome_tui.tui.widgets.form import Form
from tests.looking import shown_text, until
from tests.runfolder import make_run

MakeApp = Callable[..., LlamaHomeApp]
EMPTY = {"form": "adapter", "type": "f16", "checkpoint": "", "to": "", "tolerance": ""}


def test_what_is_typed_as_arguments() -> None:
    assert arguments_of("cow", EMPTY) == {"id": "cow", "merge": False}
    typed = {"form": "merged", "checkpoint": "best", "to": "out", "tolerance": "0.01"}
    assert arguments_of("cow", typed) == {
        "id": "cow", "merge": True, "checkpoint": "best", "to": "out", "tolerance": 0.01,
    }  # fmt: skip
    assert arguments_of("cow", EMPTY | {"form": "gguf", "type": "q4_k_m"}) == {
        "id": "cow", "merge": False, "format": "gguf", "type": "q4_k_m",
    }  # fmt: skip
    for wrong in ({"checkpoint": "newest"}, {"tolerance": "much"}, {"tolerance": "2"}):
        with pytest.raises(UsageError):
            arguments_of("cow", EMPTY | wrong)


@pytest.mark.parametrize("page", [True, False])
async def test_from_the_key_to_the_jobs_page(
    make_app: MakeApp, places: Places, monkeypatch: pytest.MonkeyPatch, page: bool
) -> None:
    job = make_run(places.state, "cow-export-merged", kind="export", done=3, steps=3, begun=1_790_000_000.0)
    run = make_run(places.state, "cow", steps=40, done=40, begun=1_790_000_100.0)
    asked: list[dict[str, Any]] = []

    def export(context: Any, **arguments: Any) -> Iterator[Outcome]:
        asked.append(arguments)
        yield Accepted(job.id)
        yield Result({"id": job.id, "path": "/x"}, changed=True)

    monkeypatch.setattr(commands, "export", export)
    app = make_app(screen="training", **({"run": run.id} if page else {}))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: (isinstance(app.screen, RunPage) and app.screen.view is not None) if page
                    else "cow-export-merged" in shown_text(app))  # fmt: skip
        await pilot.press("E")
        await until(pilot, lambda: isinstance(app.screen, Form) and bool(app.screen.query(Input)))
        assert "Export cow" in shown_text(app)
        await pilot.press("right", *(["right", "tab", "right"] if page else ["tab"]), "tab", "x", "enter")
        await until(pilot, lambda: "neither best, last, nor a step" in shown_text(app))
        await pilot.press("backspace", "enter")
        await until(pilot, lambda: isinstance(app.screen, RunPage) and app.screen.run.id == job.id)
        await until(pilot, lambda: "export" in shown_text(app))
    assert asked and asked[0]["id"] == run.id and asked[0]["merge"] is not page and asked[0]["detach"]
    assert asked[0].get("type") == ("bf16" if page else None)
