"""What `runs control` says to a run that cannot do what is asked, in each state it may be in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from llamahome_tui.context import Context
from llamahome_tui.errors import LlamaHomeError
from llamahome_tui.jobs import control
from llamahome_tui.jobs.commands.changing import ask
from llamahome_tui.jobs.identity import Identity
from llamahome_tui.jobs.store import Run, RunStore
from llamahome_tui.jobs.submit import submit
from llamahome_tui.outcome import Result
from tests.runfolder import make_run


def ended(end: str) -> Callable[[Context], Run]:
    return lambda context: make_run(context.places.state, "a-run", done=20, end=end)


def elsewhere(context: Context) -> Run:
    there = replace(Identity.mine(), host="another-host")
    return make_run(context.places.state, "a-run", done=20, end="", identity=there)


def queued(context: Context) -> Run:
    return submit(context, {"name": "a-run", "kind": "train", "spec": {}})


@pytest.mark.parametrize(
    ("made", "word", "code", "exit_code", "says", "then"),
    [
        (ended("completed"), "save", "run.not_live", 2, "is completed: save is for a live run", "runs show"),
        (ended("completed"), "continue", "run.not_live", 2, "continue is for a paused run", "runs show"),
        (ended("stopped"), "lr=1e-4", "run.not_live", 2, "is stopped: lr is for a live run", "runs resume"),
        (ended("failed"), "eval", "run.not_live", 2, "is failed", "runs resume"),
        (ended("paused"), "sample", "run.not_live", 2, "is paused", "continue"),
        (ended("paused"), "pause", "run.not_live", 2, "is paused", "continue"),
        (ended("completed"), "lr=fast", "control.bad_value", 3, "'fast' is no learning rate", "lr=1e-4"),
        (elsewhere, "save", "run.remote", 10, "another-host", "log in there"),
        (elsewhere, "stop", "run.remote", 10, "another-host", "log in there"),
        (queued, "save", "control.refused", 2, "has not begun, and there is nothing to save", "runs watch"),
        (queued, "lr=1e-4", "control.refused", 2, "its schedule starts with its spec", "runs watch"),
        (queued, "pause", "control.refused", 2, "there is nothing to pause", "runs move"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_leaves_no_request(
    context: Context, made: Callable[[Context], Run], word: str, code: str, exit_code: int, says: str, then: str
) -> None:
    run = made(context)
    with pytest.raises(LlamaHomeError) as refused:
        list(ask(context, run.id, word))
    error = refused.value
    assert (error.error_code, error.exit) == (code, exit_code)
    assert says in error.message and then in error.hint and "\n" not in error.message
    assert control.requests(run) == []


def test_to_stop_is_a_word_of_control_too(context: Context) -> None:
    run = ended("completed")(context)
    *_, last = ask(context, run.id, "stop")
    assert isinstance(last, Result) and last.data["status"] == "completed" and not last.changed
    waiting = RunStore(context.places).create({"name": "b", "kind": "train", "spec": {}})
    stopped: Any = list(ask(context, waiting.id, "stop"))[-1]
    assert stopped.data["status"] == "stopped" and stopped.changed
