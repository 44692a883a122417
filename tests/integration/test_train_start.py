"""`train start`: what is wrong is said in one sentence with its exit code before a run exists; what is right trains."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.jobs.queue import Queue
from llamahome_tui.jobs.store import RunStore
from llamahome_tui.schemas import RESULTS
from tests.conftest import Finished, eventually
from tests.runfolder import make_run
from tests.schema import problems
from tests.tinymodel import write_chats, write_model

Cli = Callable[..., Finished]

GOOD = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'


def nothing_is_left(home: Path) -> None:
    runs = home / "state" / "runs"
    assert not runs.exists() or not [entry.name for entry in runs.iterdir()]
    assert not Queue(home / "state").entries()


def refused(said: Finished, exit_code: int, code: str, *words: str) -> dict[str, Any]:
    """The one JSON line of a refusal."""
    assert said.status == exit_code, said
    (line,) = said.lines
    assert line["type"] == "error" and line["ok"] is False and line["code"] == code and line["exit"] == exit_code, line
    assert line["hint"], line
    for word in words:
        assert word in line["message"], line["message"]
    return line


def spec(folder: Path, text: str) -> str:
    path = folder / "spec.toml"
    path.write_text(text)
    return str(path)


# --- refusals -------------------------------------------------------------------------------------------------------


def test_three_mistakes_are_three_errors(run_cli: Cli, home: Path, tmp_path: Path) -> None:
    path = spec(
        tmp_path, '[model]\nid = "demo"\n[data]\ntrain = ["demo"]\n[training]\nepocs = 3\nclip = "a"\n[lora]\nr = 0\n'
    )
    line = refused(run_cli("train", "start", path, "--json"), 3, "spec.invalid", "3 mistakes")
    assert [(e["line"], e["key"]) for e in line["data"]["errors"]] == [
        (6, "training.epocs"),
        (7, "training.clip"),
        (9, "lora.r"),
    ]
    assert line["data"]["errors"][0]["nearest"] == "training.epochs"
    nothing_is_left(home)


@pytest.mark.parametrize(
    ("words", "exit_code", "code"),
    [
        ((), 2, "usage"),
        (("nowhere.toml",), 4, "spec.not_found"),
        (("--model", "demo"), 2, "usage"),
        (("nowhere.toml", "--model", "demo", "--data", "demo"), 2, "usage"),
        (("--model", "demo", "--data", "demo", "--set", "training.epoch=2"), 3, "spec.invalid"),
        (("--model", "demo", "--data", "demo", "--name", "a b"), 3, "spec.invalid"),
        (("--model", "demo", "--data", "demo", "--detach", "--foreground"), 2, "usage"),
        (("--model", "./nowhere", "--data", "demo"), 4, "model.not_found"),
        (("--model", "nobody/nothing", "--data", "demo"), 4, "model.not_found"),
        (("--model", "demo", "--data", "nowhere.jsonl"), 4, "data.not_found"),
        (("--model", "demo", "--data", "demo", "--set", "launch.devices=[9]"), 5, "resource.devices"),
        (("--model", "demo", "--data", "demo", "--set", "launch.python=/no/such/python"), 3, "launch.python"),
    ],
)
def test_bad_words(run_cli: Cli, home: Path, words: tuple[str, ...], exit_code: int, code: str) -> None:
    refused(run_cli("train", "start", *words, "--json"), exit_code, code)
    nothing_is_left(home)


@pytest.mark.parametrize(
    ("content", "line", "field", "word"),
    [
        (f'{GOOD}\n{{"messages": [{{"role": "user"}}]}}\n', 2, "messages[0].content", "missing"),
        ('{"instruction": "a", "output": "b"}\n{"instruction": "a"}\n', 2, "output", ""),
        ('{"instruction": "a", "output": "b"}\n{"instruction": \n', 2, "", ""),
        ("", 0, "", "has no rows"),
    ],
)  # fmt: skip
def test_bad_rows(run_cli: Cli, home: Path, tmp_path: Path, content: str, line: int, field: str, word: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    said = refused(
        run_cli("train", "start", "--model", "demo", "--data", str(path), "--json"), 3, "data.invalid", str(path)
    )
    bad = said["data"]["bad"][0]
    assert (bad["file"], bad["line"]) == (str(path), line)
    assert field in bad["field"] and word in bad["reason"]
    nothing_is_left(home)


def demo_copy(tmp_path: Path) -> Path:
    from llamahome_tui.demo.paths import demo_model_dir

    folder = tmp_path / "model"
    shutil.copytree(demo_model_dir(), folder)
    return folder


@pytest.mark.parametrize(
    ("damage", "exit_code"),
    [
        (lambda folder: (folder / "config.json").unlink(), {3, 4, 8}),
        (lambda folder: (folder / "tokenizer.json").unlink(), {3, 4, 8}),
        (lambda folder: (folder / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 40) + b"{}"), {8}),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(
                (folder / "model.safetensors").read_bytes()[:-100]
            ),
            {8},
        ),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"<html>not found</html>"), {8}),
    ],
)
def test_a_broken_model_is_refused(
    run_cli: Cli, home: Path, tmp_path: Path, damage: Callable[[Path], object], exit_code: set[int]
) -> None:
    folder = demo_copy(tmp_path)
    damage(folder)
    said = run_cli("train", "start", "--model", str(folder), "--data", "demo", "--json")
    assert said.status in exit_code, said
    assert said.last["type"] == "error" and str(folder) in said.last["message"] and said.last["hint"]
    nothing_is_left(home)


def test_without_torch_it_says_which_command_helps(run_cli: Cli, home: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    python = str(bare / "bin" / "python")
    words = ("train", "start", "--model", "demo", "--data", "demo", "--json", "--set", f"launch.python={python}")
    line = refused(run_cli(*words), 3, "launch.no_torch", "torch", python)
    assert "install" in line["hint"] and line["data"]["python"] == python
    nothing_is_left(home)


PAIRS = '{"prompt": "a", "chosen": "b", "rejected": "c"}'
CANNOT: dict[str, tuple[dict[str, str], str, str]] = {
    "unknown-target": ({"lora.targets": '["q_proj", "q_prj"]'}, "model.unknown_target", "lora.targets"),
    "fp16-on-cpu": ({"training.precision": "fp16"}, "training.precision", "training.precision"),
    "quantised-in-full": (
        {"lora.enabled": "false", "model.quantization": "nf4"}, "spec.invalid", "model.quantization"
    ),
    "base-quantised-in-full": ({"lora.enabled": "false", "model.id": "QUANTISED"}, "model.quantised", "lora.enabled"),
    "batch-over-data": ({"training.global_batch": "100000"}, "training.batch_over_data", "training.global_batch"),
    "batch-over-what-is-left": (
        {"data.train": "ROWS", "data.eval": "8", "training.global_batch": "13"},
        "training.batch_over_data", "training.global_batch",
    ),
    "over-the-context": ({"data.max_length": "1000000"}, "data.invalid", "data.max_length"),
    "adapter-of-another": ({"model.adapter": "ADAPTER"}, "model.adapter", "model.adapter"),
    "dpo-on-answers": ({"method.kind": "dpo"}, "data.wrong_kind", "method.kind"),
    "sft-on-pairs": ({"data.train": "PAIRS"}, "data.wrong_kind", "method.kind"),
    "eval-of-no-rows": ({"data.eval": "EMPTY"}, "data.invalid", "data.eval"),
    "patience-without-eval": ({"data.eval": "0", "evaluation.patience": "2"}, "spec.invalid", "evaluation.patience"),
    "unknown-sink": ({"report.to": "nowhere"}, "spec.invalid", "report.to"),
    "sink-not-here": ({"report.to": "trackio"}, "report.not_installed", "report.to"),
}  # fmt: skip


@pytest.mark.parametrize("name", CANNOT)
def test_what_cannot_be_is_refused_with_its_key_before_anything_loads(
    run_cli: Cli, home: Path, tmp_path: Path, name: str
) -> None:
    """Torch is one that nobody can import, and every third is started in another way."""
    settings, code, key = CANNOT[name]
    other = demo_copy(tmp_path)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
    (tmp_path / "adapter").mkdir()
    adapter = {"peft_type": "LORA", "base_model_name_or_path": str(other)}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(adapter))
    (tmp_path / "rows.jsonl").write_text("".join(GOOD.replace('"a"', f'"{n}"') + "\n" for n in range(20)))
    (tmp_path / "pairs.jsonl").write_text((PAIRS + "\n") * 20)
    (tmp_path / "empty.jsonl").touch()
    places = {
        "ADAPTER": tmp_path / "adapter", "QUANTISED": other, "ROWS": tmp_path / "rows.jsonl",
        "PAIRS": tmp_path / "pairs.jsonl", "EMPTY": tmp_path / "empty.jsonl",
    }  # fmt: skip
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={places.get(value, value)}")]
    words += [(), ("--detach",), ("--foreground",)][list(CANNOT).index(name) % 3]
    (tmp_path / "no" / "torch").mkdir(parents=True)
    (tmp_path / "no" / "torch" / "__init__.py").write_text("raise SystemExit('torch was imported')")
    env = {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(tmp_path / "no")}
    said = run_cli("train", "start", "--model", "demo", "--data", "demo", "--json", *words, env=env)
    line = refused(said, 3, code, key)
    assert "llamahome --batch" in line["hint"] or "pip install" in line["hint"]
    nothing_is_left(home)


def test_a_plan_tells_what_would_learn_and_makes_nothing(run_cli: Cli, home: Path) -> None:
    words = ("train", "plan", "--model", "demo", "--data", "demo")
    planned = run_cli(*words, "--set", "lora.targets=q_proj", "--set", "lora.r=4", "--json").data
    assert problems(RESULTS["train plan"], planned) == []
    assert planned["trainable_parameters"] == 4 * 4 * (160 + 160)  # layers, rank, and the sides of a q_proj
    assert [kind["name"] for kind in planned["by_kind"] if kind["trainable"]] == ["q_proj"]
    assert planned["fits"] and planned["predicted_bytes"] == sum(planned["parts"].values()) < planned["free_bytes"]
    assert planned["alternatives"] == [] and planned["time_source"] is None
    assert planned["tokens_per_epoch"] > planned["rows"] > 2000 and planned["rows_source"] == "all rows"
    refused(run_cli(*words, "--set", "lora.targets=q_projj", "--json"), 3, "model.unknown_target", "lora.targets")
    nothing_is_left(home)


def test_a_config_alone_is_planned_for_another_gpu_and_fitted(run_cli: Cli, home: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(
        json.dumps({
            "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256,
        })
    )  # fmt: skip
    spec = tmp_path / "big.toml"
    spec.write_text('# mine\n[model]\nid = "./model" # eight billion\n[data]\ntrain = ["demo"]\n[lora]\nr = 32\n')
    words = ("train", "plan", str(spec))
    planned = run_cli(*words, "--memory", "16GiB", "--fit", "1", "--json").data
    assert problems(RESULTS["train plan"], planned) == []
    assert (planned["parameters"], planned["trainable_parameters"]) == (8_030_261_248, 83_886_080)
    assert not planned["fits"] and planned["written"] == planned["alternatives"][0]["set"]
    assert "--max-lora-rank 32" in planned["warnings"][0]
    assert spec.read_text().startswith('# mine\n[model]\nid = "./model" # eight billion\nquantization = "nf4"\n')
    said = run_cli(*words, "--gpu", "A100 80GB")
    assert "fits in 80.0 GiB on A100 80GB" in said.out and "of its data sheet" in said.out
    refused(run_cli(*words, "--gpu", "A1000 80GB", "--json"), 4, "gpu.not_found", "A100 80GB")
    refused(run_cli("train", "plan", "-", "--fit", "1", "--json"), 2, "usage", "--fit")
    nothing_is_left(home)


@pytest.mark.parametrize(
    ("settings", "code", "key"),
    [
        (("report.to=trackio",), "report.not_installed", "report.to"),
        (("training.precision=fp16",), "training.precision", "training.precision"),
        (("evaluation.patience=2", "evaluation.every_steps=0"), "spec.invalid", "evaluation.patience"),
        (("checkpoint.mirror=/nowhere/at/all",), "checkpoint.mirror", "checkpoint.mirror"),
    ],
)
def test_a_resume_is_refused_the_same_and_the_run_keeps_its_spec(
    run_cli: Cli, home: Path, settings: tuple[str, ...], code: str, key: str
) -> None:
    run = make_run(home / "state", "kept", done=100, end="stopped")
    job = json.loads((run.dir / "spec.json").read_text())
    job["spec"] |= {"name": "kept", "data": {"train": ["demo"]}}
    (run.dir / "spec.json").write_text(json.dumps(job))
    words = [word for one in settings for word in ("--set", one)]
    said = run_cli("runs", "resume", run.id, *words, "--json", env={"CUDA_VISIBLE_DEVICES": ""})
    refused(said, 3, code, key)
    assert RunStore(home / "state").resolve(run.id).effective_job()["spec"] == job["spec"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB; skipped where one may not be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no right to mount a file system here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_F30_a_full_disk_is_refused_before_anything_starts(run_cli: Cli, small_disk: Path) -> None:
    state = small_disk / "home"
    state.mkdir()
    words = ("--model", "demo", "--data", "demo", "--json")
    small = refused(run_cli("train", "start", *words, env={"LLAMAHOME_HOME": str(state)}), 5, "disk.full")
    assert small["data"]["needed_bytes"] > small["data"]["free_bytes"] > 0
    with pytest.raises(OSError, match="No space"), (small_disk / "filler").open("wb") as file:
        while True:
            file.write(b"x" * 65536)
            file.flush()
    for line in (("train", "start", *words), ("runs", "exec", "--name", "x", "--json", "--", "true")):
        said = run_cli(*line, env={"LLAMAHOME_HOME": str(state)})
        assert said.status == 5, said
        assert said.last["data"]["needed_bytes"] > said.last["data"]["free_bytes"]
    assert [entry.name for entry in (state / "state" / "runs").iterdir()] == []


def test_F23_a_read_only_state_folder_is_refused(run_cli: Cli, small_disk: Path) -> None:
    for folder in ("state", "cache", "data", "config"):
        (small_disk / folder).mkdir(mode=0o700)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    env = {"LLAMAHOME_HOME": str(small_disk)}
    for words in (
        ("train", "start", "--model", "demo", "--data", "demo"),
        ("runs", "exec", "--name", "x", "--", "true"),
    ):
        said = run_cli(*words[:2], "--json", *words[2:], env=env)
        assert said.status == 3 and said.last["code"] == "places.not_writable", said
        assert str(small_disk) in said.last["message"]
    listed = run_cli("runs", "list", "--json", env=env)
    assert listed.status == 0 and listed.data == []


# --- what trains ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.torch
def test_a_spec_on_stdin_trains_to_its_end(run_cli: Cli, home: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "tiny")
    write_chats(tmp_path / "chats.jsonl", 40)
    text = (
        'name = "piped"\ntags = ["a"]\n[model]\nid = "tiny"\n[data]\ntrain = ["chats.jsonl"]\neval = 4\n'
        "[training]\nmax_steps = 4\nglobal_batch = 4\nlog_every = 1\n"
    )
    done = run_cli("train", "start", "-", "--json", stdin=text, cwd=tmp_path, env={"HF_TOKEN": "hf_canarycanarycanary"})
    assert done.status == 0, done
    assert done.lines[0]["type"] == "accepted"
    assert done.data["status"] == "completed" and done.last["changed"] is True
    shown = run_cli("runs", "show", "latest", "--json").data
    assert (shown["name"], shown["tags"], shown["step"], shown["steps"]) == ("piped", ["a"], 4, 4)
    assert shown["best"]["metric"] == "eval_loss" and Path(shown["best"]["path"]).is_dir()
    assert shown["checkpoints"] and all(c["complete"] for c in shown["checkpoints"])
    assert [a["kind"] for a in shown["artifacts"]] == ["adapter", "report", "report"] and Path(
        shown["artifacts"][0]["path"]
    ).is_dir()
    assert shown["memory"]["measured_bytes"] > 0 and shown["elapsed_s"] > 0
    access = (home / "state" / "logs" / "app" / "access.log").read_text()
    request = json.loads((Path(done.data["dir"]) / "spec.json").read_text())["request_id"]
    assert request in access and f'"request_id":"{request}"' in (Path(done.data["dir"]) / "events.jsonl").read_text()
    found = subprocess.run(["grep", "-r", "hf_canary", str(home)], capture_output=True, text=True)
    assert found.stdout == ""

    # Or-resume: the same line is idempotent, more steps go on, another spec is another run.
    again = run_cli("train", "start", "-", "--or-resume", "--json", stdin=text, cwd=tmp_path)
    assert again.status == 0 and again.last["changed"] is False and again.data["id"] == done.data["id"]
    other = text.replace("eval = 4", "eval = 8")
    refused(
        run_cli("train", "start", "-", "--or-resume", "--json", stdin=other, cwd=tmp_path),
        2,
        "run.other_spec",
        "data.eval",
    )
    elsewhere = text.replace('id = "tiny"', 'id = "demo"')
    words = ("train", "start", "-", "--or-resume", "--json")
    refused(run_cli(*words, stdin=elsewhere, cwd=tmp_path), 2, "run.other_spec", "model.id")
    longer = text.replace("max_steps = 4", "max_steps = 6")
    more = run_cli("train", "start", "-", "--or-resume", "--json", stdin=longer, cwd=tmp_path)
    assert more.status == 0 and more.data["id"] == done.data["id"] and more.data["attempt"] == 2
    shown = run_cli("runs", "show", "latest", "--json").data
    assert (shown["step"], shown["steps"]) == (6, 6) and shown["recoveries"][0]["from_step"] == 4
    assert len(RunStore(home / "state").list()) == 1

    fixed = run_cli("runs", "resume", "latest", "--set", "lora.r=4", "--set", "training.max_steps=8", "--json")
    line = refused(fixed, 3, "spec.fixed", "lora.r")
    assert [e["key"] for e in line["data"]["errors"]] == ["lora.r"]
    refused(run_cli("runs", "resume", "latest", "--set", "training.epocs=1", "--json"), 3, "spec.invalid")
    changed = run_cli(
        "runs", "resume", "latest", "--set", "training.learning_rate=1e-5", "--set", "training.max_steps=7", "--json"
    )
    assert changed.status == 0, changed
    recovery = run_cli("runs", "show", "latest", "--json").data["recoveries"][-1]
    assert recovery["exact"] is False and "learning_rate" in recovery["reason"]


@pytest.mark.slow
@pytest.mark.torch
def test_in_the_foreground_sigterm_is_checkpoint_and_exit(
    run_cli: Cli, start_cli: Any, home: Path, tmp_path: Path
) -> None:
    write_model(tmp_path / "tiny")
    write_chats(tmp_path / "chats.jsonl", 200)
    words = (
        "--model", str(tmp_path / "tiny"), "--data", str(tmp_path / "chats.jsonl"), "--name", "front", "--json",
        "--set", "training.max_steps=100000", "--set", "data.eval=0", "--set", "training.log_every=1",
    )  # fmt: skip
    process = start_cli("train", "start", *words, "--foreground")
    run = eventually(lambda: next(iter(RunStore(home / "state").list()), None), "the run", timeout=60)
    eventually(lambda: run.events_path.exists() and '"type":"metrics"' in run.events_path.read_text(), timeout=90)
    # No session of its own: all of it goes with the container.
    sessions = {os.getsid(pid) for pid in (process.pid, json.loads(run.events_path.open().readline())["pid"])}
    assert sessions == {process.pid}
    busy = run_cli("train", "start", *words)
    refused(busy, 10, "run.name_busy", run.id)
    taken = run_cli("train", "start", *words, "--name", "other", "--no-queue")
    refused(taken, 10, "queue.devices_taken", run.id)
    # Joining a live run never passes off another spec as this one.
    other = run_cli("train", "start", *words, "--or-resume", "--detach", "--set", "lora.r=4")
    refused(other, 2, "run.other_spec", "lora.r")
    joined = run_cli("train", "start", *words, "--or-resume", "--detach", "--set", "training.log_every=2")
    assert (joined.status, joined.data["id"], joined.last["changed"]) == (0, run.id, False)
    assert "goes on as it began; this spec differs in training.log_every" in joined.err
    same = run_cli("train", "start", *words, "--or-resume", "--detach")
    assert (same.status, same.err) == (0, "")
    for request, outcome in (("save", "applied"), ("lr=1e-5", "applied")):
        assert run_cli("runs", "control", run.id, request, "--json").data["outcome"] == outcome
    process.send_signal(signal.SIGUSR1)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    last = json.loads(out.splitlines()[-1])
    assert last["data"]["status"] == "paused"
    # The same line again, as a requeued Slurm job runs it: this attempt is in the foreground too.
    before = run.events_path.stat().st_size
    process = start_cli("train", "start", *words, "--foreground", "--or-resume")
    eventually(lambda: '"type":"metrics"' in run.events_path.read_text()[before:], timeout=90)
    starts = [record for record in map(json.loads, run.events_path.open()) if record["type"] == "start"]
    assert [record["attempt"] for record in starts] == [1, 2]
    assert os.getsid(starts[-1]["pid"]) == process.pid
    process.send_signal(signal.SIGUSR1)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out.splitlines()[-1])["data"]["status"] == "paused"
    resumed = run_cli("runs", "control", run.id, "continue", "--json")
    assert resumed.status == 0 and resumed.last["changed"] is True
    eventually(lambda: run_cli("runs", "show", run.id, "--json").data["status"] == "running", timeout=60, every=0.5)
    stopped = run_cli("runs", "stop", run.id, "--json")
    assert stopped.data["status"] == "stopped"
    shown = run_cli("runs", "show", run.id, "--json").data
    assert all(recovery["exact"] for recovery in shown["recoveries"]) and shown["attempt"] == 3
