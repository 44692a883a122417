"""`generate` as a user runs it: real models, real children, streamed and in batches, with and without a run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from llamahome_tui.config.places import Places
from llamahome_tui.demo.paths import demo_model_dir
from tests.conftest import RunCli, eventually, processes_of
from tests.forge import Forge
from tests.integration.trainer_runs import Bench

pytestmark = pytest.mark.torch


def test_the_embedded_model_answers(run_cli: RunCli) -> None:
    done = run_cli("generate", "demo", "--prompt", "-", stdin="Spell garden.\n")
    assert (done.status, done.out) == (0, "g-a-r-d-e-n\n"), done.err
    whole = run_cli(
        "generate", "demo", "--prompt", "Spell garden.", "--max-tokens", "4", "--json", env={"HF_TOKEN": "hf_x"}
    )
    assert len(whole.lines) == 1
    assert whole.data["text"] == "g-a-"
    assert (whole.data["tokens"], whole.data["finish"], whole.data["model"]) == (4, "length", "demo")
    assert whole.data["seconds"] > 0


@pytest.mark.slow
def test_sampling_follows_its_seed(run_cli: RunCli, tmp_path: Path) -> None:
    prompts = tmp_path / "p.txt"
    prompts.write_text("Tell me a story.\nWho are you?\nShout river!\n")

    def replies(*more: str) -> list[str]:
        done = run_cli("generate", "demo", "--input", str(prompts), "--json", "--max-tokens", "24", *more)
        return [row["text"] for row in done.data["replies"]]

    hot = ("--temperature", "2.5")
    first = replies(*hot, "--seed", "1")
    assert first == replies(*hot, "--seed", "1")
    assert first != replies(*hot, "--seed", "2")
    greedy = replies()
    assert greedy[2] == "RIVER"
    assert replies(*hot, "--top-p", "0.000001") == greedy


def test_a_run_writes_with_its_adapter(forge: Forge, places: Places, run_cli: RunCli, tmp_path: Path) -> None:
    data = tmp_path / "moo.jsonl"
    rows = [{"role": "user", "content": f"Say {w}."} for w in ("garden", "river", "honey", "bird") for _ in range(8)]
    data.write_text(
        "".join(json.dumps({"messages": [r, {"role": "assistant", "content": "moo"}]}) + "\n" for r in rows)
    )
    bench = Bench(forge, places, {k: v for k, v in os.environ.items() if k.startswith(("LLAMAHOME", "HF"))},
                  demo_model_dir(), data)  # fmt: skip
    run = bench.run("moo", data={"eval": 0}, training={"max_steps": 12, "learning_rate": 0.01},
                    checkpoint={"every_steps": 6, "every_minutes": 0.0})  # fmt: skip
    events = bench.finish(run)
    assert events[-1]["reason"] == "completed"

    taught = run_cli("generate", "latest", "--prompt", "Say garden.", "--json")
    assert (taught.data["text"], taught.data["run"]) == ("moo", run.id)
    assert taught.data["adapter"] == str(run.artifacts_dir / "adapter")
    named = run_cli("generate", "demo", "--adapter", run.id, "--checkpoint", "6", "--prompt", "Say garden.", "--json")
    assert named.data["adapter"] == str(run.checkpoints_dir / "step-6")
    base = run_cli("generate", "demo", "--prompt", "Say garden.", "--json")
    assert base.data["text"] == "garden"


def test_files_of_prompts(run_cli: RunCli, tmp_path: Path) -> None:
    prompts, out = tmp_path / "p.jsonl", tmp_path / "out.jsonl"
    prompts.write_text('{"prompt": "Shout river!", "id": 7}\n"Spell garden."\n')
    done = run_cli("generate", "demo", "--input", str(prompts), "--output", str(out), "--json")
    assert done.data["rows"] == 2 and done.last["changed"] is True
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row.get("id"), row["text"], row["line"]) for row in rows] == [(7, "RIVER", 1), (None, "g-a-r-d-e-n", 2)]
    before = out.stat()
    refused = run_cli("generate", "demo", "--input", str(prompts), "--output", str(out), "--json")
    assert (refused.status, refused.last["code"], out.stat().st_mtime_ns) == (2, "consent.missing", before.st_mtime_ns)


@pytest.mark.slow
def test_what_a_hostile_model_writes_is_cleaned(run_cli: RunCli, tmp_path: Path, forge: Forge, places: Places) -> None:
    evil = "\x1b]0;owned\x07\x1b[31mred\u202e"
    data = tmp_path / "evil.jsonl"
    chat = [{"role": "user", "content": "Say hi."}, {"role": "assistant", "content": evil}]
    data.write_text((json.dumps({"messages": chat}) + "\n") * 32)
    bench = Bench(forge, places, {k: v for k, v in os.environ.items() if k.startswith(("LLAMAHOME", "HF"))},
                  demo_model_dir(), data)  # fmt: skip
    run = bench.run("evil", data={"eval": 0}, training={"max_steps": 60, "learning_rate": 0.01, "global_batch": 8})
    bench.finish(run)
    raw = run_cli("generate", run.id, "--prompt", "Say hi.", "--json")
    assert "\x1b" in raw.data["text"] or "\u202e" in raw.data["text"]  # JSON escapes it
    assert "\x1b" not in raw.out
    shown = run_cli("generate", run.id, "--prompt", "Say hi.")
    assert not {"\x1b", "\x07", "\u202e"} & set(shown.out)


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (("demo",), 2, "usage"),
        (("demo", "--prompt", "x", "--input", "y"), 2, "usage"),
        (("demo", "--prompt", " "), 2, "usage"),
        (("demo", "--prompt", "x", "--max-tokens", "0"), 2, "usage"),
        (("demo", "--prompt", "x", "--top-p", "0"), 2, "usage"),
        (("demo", "--prompt", "x", "--checkpoint", "best"), 2, "usage"),
        (("demo", "--input", "none.txt"), 4, "data.not_found"),
        (("no/such", "--prompt", "x"), 4, "model.not_found"),
        (("demo", "--adapter", "nobody", "--prompt", "x"), 4, "run.not_found"),
    ],
)
def test_refusals_before_a_child_starts(run_cli: RunCli, words: tuple[str, ...], status: int, code: str) -> None:
    done = run_cli("generate", *words, "--json")
    assert (done.status, done.last["code"]) == (status, code)
    assert "llamahome --batch" in done.last["hint"]


@pytest.mark.slow
def test_a_prompt_beyond_the_context(run_cli: RunCli) -> None:
    done = run_cli("generate", "demo", "--prompt", "a" * 600, "--json")
    assert (done.status, done.last["code"], done.last["data"]["context"]) == (3, "generate.too_long", 512)


def test_an_interpreter_without_torch(run_cli: RunCli, tmp_path: Path) -> None:
    subprocess.run(["python3", "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    assert run_cli("config", "set", "launch.python", str(tmp_path / "bare/bin/python")).status == 0
    done = run_cli("generate", "demo", "--prompt", "x", "--json")
    assert (done.status, done.last["code"]) == (3, "train.missing")
    assert "pip install 'llamahome-tui[train]'" in done.last["hint"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_or_killed_parent_leaves_no_child(
    home: Path, start_cli: Callable[..., subprocess.Popen[str]], number: signal.Signals
) -> None:
    parent = start_cli("generate", "demo", "--prompt", "Hello", "--json")
    eventually(lambda: len(processes_of(home)) >= 2, "the child")
    os.kill(parent.pid, number)
    status = parent.wait(20)
    assert status == (130 if number is signal.SIGINT else -9)
    eventually(lambda: not processes_of(home), "the child's end", timeout=20)
