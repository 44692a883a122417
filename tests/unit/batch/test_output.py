"""The two writers: JSON Lines for programs, lines for people."""

from __future__ import annotations

import io
import json

from llamahome_tui.batch.output import JsonLines, to_json
from llamahome_tui.batch.people import People
from llamahome_tui.batch.progress import ProgressLine
from llamahome_tui.errors import DataError, NotFoundError, SpecError
from llamahome_tui.operations import find
from llamahome_tui.outcome import Accepted, Level, Note, Progress, Record, Result, Text


def people(name="runs list", **more):
    noun, _, verb = name.partition(" ")
    out, err = io.StringIO(), io.StringIO()
    return People(find(noun, verb), out, err, **more), out, err


def json_lines(name):
    noun, _, verb = name.partition(" ")
    out = io.StringIO()
    writer, _, err = people(name)
    return JsonLines(find(noun, verb), out, writer), out, err


def test_json_lines_follow_the_contract():
    writer, out, err = json_lines("train start")
    writer.show(Accepted("r1"))
    writer.show(Note("a hint"))
    writer.show(Text("for people"))
    writer.show(Record("r1", "trainer", {"seq": 1, "type": "progress"}))
    writer.show(Result({"id": "r1", "loss": float("nan")}, changed=True))
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [
        {"v": 1, "type": "accepted", "id": "r1"},
        {"v": 1, "type": "event", "run": "r1", "source": "trainer", "record": {"seq": 1, "type": "progress"}},
        {"v": 1, "type": "result", "ok": True, "changed": True, "data": {"id": "r1", "loss": None}},
    ]
    assert err.getvalue() == "a hint\n"


def test_an_error_is_the_last_json_line():
    writer, out, _ = json_lines("models show")
    writer.fail(NotFoundError("no such model", hint="see: llamahome --batch models list", code="model.not_found"))
    assert json.loads(out.getvalue()) == {
        "v": 1, "type": "error", "ok": False, "code": "model.not_found", "message": "no such model",
        "hint": "see: llamahome --batch models list", "exit": 4, "data": {},
    }  # fmt: skip


def test_a_stream_prints_its_text_as_json_too():
    writer, out, _ = json_lines("runs logs")
    writer.show(Text("line\n"))
    assert json.loads(out.getvalue()) == {"v": 1, "type": "text", "text": "line\n"}


def test_json_carries_no_byte_a_terminal_obeys():
    line = to_json({"name": "\x1b]52;c;x\x07\x9b31m\u202e", "inf": [float("inf")]})
    assert line.isascii() and line.isprintable()
    assert json.loads(line)["inf"] == [None]


def test_people_see_results_on_stdout_and_all_else_on_stderr():
    writer, out, err = people("generate")
    writer.show(Note("loading"))
    writer.show(Text("Hello "))
    writer.show(Text("you\x1b[31m"))
    writer.show(Note("careful", Level.WARNING))
    writer.show(Result({"text": "Hello you"}))
    assert out.getvalue() == "Hello you\n"
    assert err.getvalue() == "loading\nwarning: careful\n"


def test_quiet_leaves_results_and_errors():
    writer, out, err = people("runs list", quiet=True)
    writer.show(Note("n"))
    writer.show(Progress("p", 1, 2))
    writer.show(Accepted("r"))
    writer.show(Result([]))
    writer.fail(NotFoundError("gone"))
    assert "no runs" in out.getvalue()
    assert err.getvalue() == "llamahome: gone\n"


def test_every_mistake_is_listed_once_with_its_place():
    writer, _, err = people("train start")
    errors = [
        {"file": "s.toml", "line": 3, "key": "lora.rr", "reason": "no such key", "nearest": "lora.r"},
        {"file": "s.toml", "line": 0, "key": "name", "reason": "is missing"},
    ]
    writer.fail(SpecError("2 mistakes in s.toml", hint="see: x", data={"errors": errors}))
    assert err.getvalue().splitlines() == [
        "llamahome: 2 mistakes in s.toml",
        "  s.toml:3: lora.rr: no such key; did you mean lora.r?",
        "  s.toml: name: is missing",
        "see: x",
    ]


def test_rows_that_are_wrong_in_the_same_way_are_all_listed():
    writer, _, err = people("train start")
    bad = [{"file": "d.jsonl", "line": line, "field": "output", "reason": "is missing"} for line in (2, 3)]
    writer.fail(DataError("d.jsonl:2: output: is missing (and 1 more)", hint="see: x", data={"bad": bad}))
    assert err.getvalue().splitlines() == [
        "llamahome: d.jsonl:2: output: is missing (and 1 more)",
        "  d.jsonl:3: output: is missing",
        "see: x",
    ]


def test_shared_ways_out_are_said_once_and_rows_that_are_not_shown_are_counted():
    writer, _, err = people()
    reasons = ["is refused; ways out: this, or that"] * 98 + ["is refused; ways out: that"] * 2
    bad = [{"file": "d.jsonl", "line": line, "field": "", "reason": one} for line, one in enumerate(reasons, 1)]
    data = {"bad": bad, "bad_count": 250}
    writer.fail(DataError(f"d.jsonl:1: {reasons[0]} (and 249 more)", hint="see: x", data=data))
    lines = err.getvalue().splitlines()
    assert lines[1] == "  d.jsonl:2: is refused"
    assert lines[-2:] == ["  and 199 more", "see: x"]
    assert err.getvalue().count("ways out") == 1
    writer, _, err = people()
    writer.fail(DataError(f"d.jsonl:1: {reasons[0]}", data={"bad": bad[:1] + bad[-2:], "bad_count": 3}))
    assert err.getvalue().splitlines()[1:] == ["  d.jsonl:99: is refused; ways out: that", "  d.jsonl:100: is refused"]


def test_a_next_step_is_named_once():
    writer, _, err = people("runs show")
    writer.show(Result({"id": "r"}, hint="go on: llamahome x", next=("llamahome x", "llamahome y")))
    assert err.getvalue().splitlines() == ["go on: llamahome x", "llamahome y"]


def test_a_waiting_run_shows_its_place():
    writer, out, _ = people("runs list")
    writer.show(Result([{"id": "r", "status": "queued", "queue_position": 2}]))
    assert "queued #2" in out.getvalue()
    writer, out, _ = people("runs show")
    writer.show(Result({"id": "r", "status": "queued", "queue_position": 1, "reason": "it waits for its devices"}))
    assert "queued #1: it waits for its devices" in out.getvalue()


def test_escape_sequences_reach_neither_stream():
    writer, out, err = people("runs list")
    writer.show(Result([{"id": "\x1b]0;x\x07r", "status": "\x9b2J", "tags": ["\u202e"]}]))
    writer.fail(NotFoundError("\x1b[2Jgone", hint="\x07"))
    assert not set("\x1b\x07\x9b\u202e") & set(out.getvalue() + err.getvalue())


def test_progress_without_a_terminal_is_a_line_at_most_every_thirty_seconds():
    stream, now = io.StringIO(), [0.0]
    line = ProgressLine(stream, terminal=False, clock=lambda: now[0])
    for second in range(65):
        now[0] = float(second)
        line.update(f"step {second}", second / 100)
    assert stream.getvalue().splitlines() == ["0% step 0", "30% step 30", "60% step 60"]


def test_progress_on_a_terminal_repaints_one_line_and_clears_it():
    stream, now = io.StringIO(), [0.0]
    line = ProgressLine(stream, terminal=True, clock=lambda: now[0])
    line.update("a long state", 0.5)
    now[0] = 1.0
    line.update("b", 0.75)
    line.clear()
    shown = stream.getvalue()
    assert "\n" not in shown and "\x1b" not in shown
    assert "############............]  50% a long state" in shown
    assert shown.endswith("\r")


def test_a_followed_run_reads_as_a_story():
    writer, out, err = people("train start")
    learning = {"total": 1_500_000, "trainable": 20_000, "by_kind": {"q_proj": 12_000, "lm_head": 8000}}
    for record in (
        {"type": "start", "attempt": 1, "from_step": 0},
        {"type": "phase", "phase": "train", "parameters": learning},
        {"type": "progress", "step": 5, "steps": 10, "eta_s": 4.0},
        {"type": "phase", "phase": "eval"},
        {"type": "metrics", "step": 5, "loss": 1.5, "eval_loss": 1.25},
        {"type": "phase", "phase": "train"},
        {"type": "checkpoint", "step": 5, "bytes": 2048},
        {"type": "never heard of", "step": 5},
        {"type": "end", "reason": "completed"},
    ):
        writer.show(Record("r", "trainer", record))
    writer.show(Result({"id": "r", "status": "completed", "dir": "/x"}))
    assert out.getvalue() == "r  completed\n  /x\n"
    assert err.getvalue().splitlines() == [
        "attempt 1 starts at step 0",
        "phase: train, 20k of 1.5M parameters learn: q_proj 12k, lm_head 8000",
        "50% step 5/10  4.0 s left",
        "phase: eval",
        "step 5: eval_loss 1.25",
        "checkpoint at step 5 (2.0 KiB)",
        "run completed",
    ]
