"""`evaluate` as a user runs it: a run beside its base, held against what its own training measured on the same rows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llamahome_tui.config.places import Places
from llamahome_tui.demo.paths import demo_model_dir
from llamahome_tui.evaluation.source import drawn, of_files, of_run
from llamahome_tui.jobs import answers
from llamahome_tui.jobs.report import report_of
from llamahome_tui.jobs.report_text import markdown
from llamahome_tui.schemas import RESULTS
from llamahome_tui.start import surroundings
from tests.conftest import RunCli, eventually, processes_of
from tests.forge import Forge
from tests.integration.trainer_runs import Bench, of
from tests.schema import problems

pytestmark = pytest.mark.torch
WORDS = ("garden", "river", "honey", "bird", "stone", "cloud", "window", "lantern")


def _chats(path: Path, words: tuple[str, ...], times: int = 1) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": f"Say {w}."}, {"role": "assistant", "content": "moo"}]} for w in words
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows * times))
    return path


def test_a_run_beside_its_base(forge: Forge, places: Places, run_cli: RunCli, tmp_path: Path) -> None:
    data, held = _chats(tmp_path / "moo.jsonl", WORDS[:4], 8), _chats(tmp_path / "held.jsonl", WORDS[4:])
    bench = Bench(forge, places, {k: v for k, v in os.environ.items() if k.startswith(("LLAMAHOME", "HF"))},
                  demo_model_dir(), data)  # fmt: skip
    run = bench.run("moo", data={"eval": str(held)}, training={"max_steps": 12, "learning_rate": 0.01},
                    evaluation={"generate_rows": 4, "every_steps": 12})  # fmt: skip
    measured = [event for event in of(bench.finish(run), "metrics") if "eval_loss" in event]

    (tmp_path / "judge.py").write_text("import json, sys\nprint(float(json.load(sys.stdin)['text'] == 'moo'))\n")
    words = ("evaluate", run.id, "--data", str(held), "--compare", "base", "--json")
    done = run_cli(*words, "--metric", "command", "--command", f"{sys.executable} {tmp_path / 'judge.py'}")
    assert problems(RESULTS["evaluate"], done.data) == []
    assert done.data["rows"] == 4
    kept, report = json.loads((run.dir / done.data["kept"]).read_text()), report_of(run)
    assert kept["scores"] == done.data["scores"] == report.evaluations[0]["scores"]
    assert "Evaluated at" in markdown(report) and "wrong to right 4" in markdown(report)
    for name, event in (("base_scores", measured[0]), ("scores", measured[-1])):
        for key in ("loss", "perplexity", "token_accuracy"):
            assert done.data[name][key] == pytest.approx(event[f"eval_{key}"], rel=1e-4)
        assert done.data[name]["command"] == event["eval_exact"]
    assert done.data["changed"] == {
        "right_to_wrong": 0, "wrong_to_right": 4, "both_right": 0, "both_wrong": 0, "p": 2 / 16,
    }  # fmt: skip
    sample = done.data["samples"][0]
    assert (sample["prompt"], sample["expected"], sample["text"]) == ("Say stone.", "moo", "moo")
    assert (sample["base_text"], sample["line"]) == ("stone", 1)


def test_the_rows_that_a_run_held_out_of_its_own_files(
    forge: Forge, places: Places, run_cli: RunCli, tmp_path: Path
) -> None:
    data = _chats(tmp_path / "moo.jsonl", WORDS, 2)
    bench = Bench(forge, places, {k: v for k, v in os.environ.items() if k.startswith(("LLAMAHOME", "HF"))},
                  demo_model_dir(), data)  # fmt: skip
    run = bench.run("moo", data={"eval": 4}, training={"max_steps": 4}, evaluation={"generate_rows": 4})
    measured = [event for event in of(bench.finish(run), "metrics") if "eval_loss" in event][-1]
    done = run_cli("evaluate", run.id, "--samples", "4", "--json")
    assert (done.status, done.data["rows"], done.data["held_out"]) == (0, 4, True), done.err
    assert done.data["scores"]["loss"] == pytest.approx(measured["eval_loss"], rel=1e-4)
    assert done.data["scores"]["exact"] == measured["eval_exact"]
    written = {one.row: one for one in answers.read(run, measured["step"])}
    assert [one["expected"] for one in done.data["samples"]] == ["moo"] * 4
    assert [one["line"] for one in done.data["samples"]] == sorted(one["line"] for one in done.data["samples"])
    assert all(one["text"].startswith(written[row].text) for row, one in enumerate(done.data["samples"]))

    (tmp_path / "spec.toml").write_text(f'[model]\nid = "{demo_model_dir()}"\n[data]\ntrain = ["{data}"]\neval = 4\n')
    context, _ = surroundings(bench.environ, "batch")
    of_spec = drawn(of_files(context, {}, [str(tmp_path / "spec.toml")], ()), lambda done, total: None)
    of_own = drawn(of_run(context, run, demo_model_dir(), ()), lambda done, total: None)
    assert of_spec == of_own and len(of_own[1] or ()) == 4

    data.write_text(data.read_text().replace("bird", "fish"))
    changed = run_cli("evaluate", run.id, "--json")
    assert (changed.status, changed.last["code"]) == (3, "data.changed")


def test_what_has_no_rows_of_its_own(run_cli: RunCli, places: Places, tmp_path: Path) -> None:
    alone = run_cli("evaluate", "demo", "--json")
    assert (alone.status, "--data" in alone.last["message"]) == (2, True)
    (tmp_path / "spec.toml").write_text('[model]\nid = "demo"\n[data]\ntrain = ["demo"]\neval = 0\n')
    none = run_cli("evaluate", "demo", "--data", str(tmp_path / "spec.toml"), "--json")
    assert (none.status, none.last["code"]) == (3, "evaluate.no_rows") and "data.eval" in none.last["message"]


def test_a_model_alone_on_the_answers_of_others(run_cli: RunCli, tmp_path: Path) -> None:
    rows = tmp_path / "gsm.jsonl"
    rows.write_text("".join(
        json.dumps({"question": f"Spell {word}.", "answer": f"We spell it.\n#### {'-'.join(word)}"}) + "\n"
        for word in ("garden", "river")
    ))  # fmt: skip
    done = run_cli("evaluate", "demo", "--data", str(rows), "--metric", "contains", "--expect", "#### *(.+)",
                   "--set", "data.columns.prompt=question", "--set", "data.columns.completion=answer")  # fmt: skip
    assert done.status == 0, done.err
    assert "contains        1\n" in done.out
    assert "(right)" in done.out


@pytest.mark.parametrize(
    ("row", "words", "status", "code"),
    [
        ('{"text": "once"}', ("--metric", "exact"), 3, "evaluate.no_answer"),
        ("", (), 3, "data.invalid"),
        ('{"prompt": "a"', (), 3, "data.invalid"),
        ('{"prompt": "a", "completion": "b"}', ("--metric", "regex", "--pattern", "a(b"), 3, "evaluate.pattern"),
        ('{"prompt": "a", "completion": "b"}', ("--expect", "####("), 3, "evaluate.pattern"),
        ('{"prompt": "a", "completion": "b"}', ("--metric", "command", "--command", "nobody"), 3, "evaluate.command"),
        ('{"prompt": "a", "completion": "b"}', ("--metric", "regex"), 2, "usage"),
        ('{"prompt": "a", "completion": "b"}', ("--compare", "base"), 2, "usage"),
    ],
)
def test_refusals_before_a_model_loads(
    run_cli: RunCli, tmp_path: Path, row: str, words: tuple[str, ...], status: int, code: str
) -> None:
    (tmp_path / "rows.jsonl").write_text(row + "\n" if row else "")
    done = run_cli("evaluate", "demo", "--data", str(tmp_path / "rows.jsonl"), *words, "--json")
    assert (done.status, done.last["code"]) == (status, code), done.last
    assert "llamahome --batch" in done.last["hint"]


def test_what_is_not_there(run_cli: RunCli) -> None:
    assert run_cli("evaluate", "nobody-knows", "--data", "demo", "--json").status == 4
    assert run_cli("evaluate", "demo", "--data", "none.jsonl", "--json").status == 4


def test_an_interrupted_parent_leaves_no_child(home: Path, start_cli: Callable[..., subprocess.Popen[str]]) -> None:
    parent = start_cli("evaluate", "demo", "--data", "demo", "--json")
    eventually(lambda: any("workers.evaluate" in _line(pid) for pid in processes_of(home)), "the child")
    os.kill(parent.pid, signal.SIGINT)
    assert parent.wait(60) == 130
    eventually(lambda: not processes_of(home), "no process is left")


def test_an_interrupted_verdict_leaves_neither_the_command_nor_what_it_started(
    home: Path, start_cli: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    (tmp_path / "row.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    started = tmp_path / "started"
    command = f"sh -c 'sleep 600 & echo $! > {started}; wait'"
    parent = start_cli("evaluate", "demo", "--data", str(tmp_path / "row.jsonl"), "--max-tokens", "1",
                       "--metric", "command", "--command", command, "--json")  # fmt: skip
    eventually(lambda: started.exists() and bool(started.read_text().strip()), "the command")
    os.kill(parent.pid, signal.SIGINT)
    assert parent.wait(60) == 130
    eventually(lambda: not processes_of(home) and not _line(int(started.read_text())), "no process is left")


def _line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""
