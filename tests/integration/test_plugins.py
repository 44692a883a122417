"""Plug-ins as a user has them: installed by pip, used by the real commands, and broken ones that harm nobody."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from tests.plugin_packages import BROKEN, EXAMPLE, HERE, box, install, write_quiz
from tests.tinymodel import write_model


@dataclass
class Home:
    """A machine with plug-ins."""

    folder: Path
    packages: tuple[Path, ...]

    def run(self, *words: str, code: int = 0) -> dict[str, Any]:
        """The last line of a command's JSON."""
        environ = {key: value for key, value in os.environ.items() if not key.startswith("LLAMAHOME")} | {
            "LLAMAHOME_HOME": str(self.folder / "home"),
            "HF_HOME": str(self.folder / "hf"),
            "PYTHONPATH": os.pathsep.join([*map(str, self.packages), str(HERE.parent.parent)]),
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "llamahome_tui", "--batch", *words, "--json"]
        done = subprocess.run(command, env=environ, cwd=self.folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == code, done.stdout + done.stderr
        last: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return last


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(EXAMPLE, tmp_path_factory.mktemp("example"))


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(BROKEN, tmp_path_factory.mktemp("broken"))


def spec(folder: Path, model: Path, data: Path) -> Path:
    lines = [
        f'model.id = "{model}"', f'data.train = ["{data}"]', "data.eval = 8", 'method.kind = "weighted"',
        "method.beta = 0.5", "training.max_steps = 4", "training.global_batch = 4", "training.log_every = 1",
        'report.to = ["lines"]',
    ]  # fmt: skip
    path = folder / "plugged.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.slow
@pytest.mark.torch
def test_a_run_by_hand_with_everything_of_a_package(tmp_path: Path, example: Path) -> None:
    pytest.importorskip("torch")
    home = Home(tmp_path, (example,))
    data = write_quiz(tmp_path / "quiz.jsonl")
    model = box(tmp_path / "boxed", write_model(tmp_path / "model"))
    told = home.run("data", "validate", str(data))["data"]
    assert (told["rows"], told["format"], told["bad"]) == (40, "quiz", [])
    started = home.run("train", "start", str(spec(tmp_path, model, data)))["data"]
    assert started["status"] == "completed"
    folder = Path(started["dir"])
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    losses = {e["step"]: e["loss"] for e in events if e["type"] == "metrics" and "loss" in e}
    sent = [json.loads(line) for line in (folder / "sinks" / "lines" / "lines.jsonl").read_text().splitlines()]
    assert {one["step"]: one["loss"] for one in sent if "loss" in one} == losses and set(losses) == {1, 2, 3, 4}
    assert not [e for e in events if e["type"] == "warning"]


def test_a_row_that_its_format_refuses_is_named(tmp_path: Path, example: Path) -> None:
    home = Home(tmp_path, (example,))
    data = write_quiz(tmp_path / "quiz.jsonl", 3)
    with data.open("a") as stream:
        stream.write('{"question": "?", "choices": ["a"], "right": 7}\n{"question": "?", "choices": 5, "right": 0}\n')
    bad = home.run("data", "validate", str(data), code=3)["data"]["bad"]
    assert [one["line"] for one in bad] == [4, 5]
    assert bad[0]["reason"] == "is no row of quiz: right is 7, and there are 1 choices"
    assert "TypeError" in bad[1]["reason"]


def test_names_of_plug_ins_are_known_where_a_spec_is_checked(tmp_path: Path, example: Path) -> None:
    home = Home(tmp_path, (example,))
    path = spec(tmp_path, tmp_path / "model", write_quiz(tmp_path / "quiz.jsonl"))
    mistyped = ("method.kind=weigted", "data.format=quizz", "report.to=line")
    error = home.run("train", "start", str(path), *(word for one in mistyped for word in ("--set", one)), code=3)
    said = {one["key"]: one["reason"] for one in error["data"]["errors"]}
    assert 'did you mean "weighted"?' in said["method.kind"] and 'did you mean "quiz"?' in said["data.format"]
    assert 'did you mean "lines"?' in said["report.to"]
    known = home.run("data", "formats")["data"]
    assert known[-1]["name"] == "quiz" and known[-1]["learned"] == "the right choice"


def test_what_a_package_brings_is_listed_where_one_chooses(tmp_path: Path, example: Path, broken: Path) -> None:
    home = Home(tmp_path, (example,))
    schema = home.run("schema", "spec")["data"]["properties"]
    assert "weighted" in schema["method"]["properties"]["kind"]["enum"]
    assert "quiz" in schema["data"]["properties"]["format"]["enum"]
    assert schema["report"]["properties"]["to"]["items"]["enum"] == ["tensorboard", "wandb", "trackio", "lines"]
    text = home.run("train", "init", "--method", "weighted")["data"]["text"]
    spec = tomllib.loads(text)
    assert (spec["method"], "loss" in text) == ({"kind": "weighted", "beta": 0.1}, True)
    assert "simpo | weighted" in text and "labels | quiz" in text and "trackio, lines" in text
    for shell in ("bash", "fish"):
        assert "kto simpo weighted" in home.run("completion", shell)["data"]["text"]
    assert "weighted" in home.run("train", "init", "--method", "weigted", code=2)["message"]
    both = Home(
        tmp_path, (example, broken)
    )  # one that does not survive its import is listed, and named where it is used
    assert "unfinished" in both.run("schema", "spec")["data"]["properties"]["method"]["properties"]["kind"]["enum"]
    assert both.run("train", "init", "--method", "unfinished", code=3)["code"] == "plugin.broken"


def test_what_is_broken_is_named_and_breaks_nothing(tmp_path: Path, example: Path, broken: Path) -> None:
    home = Home(tmp_path, (example, broken))
    assert home.run("runs", "list")["data"] == []
    data = write_quiz(tmp_path / "quiz.jsonl")
    assert home.run("data", "validate", str(data))["data"]["format"] == "quiz"
    assert "wrong" not in [one["name"] for one in home.run("data", "formats")["data"]]
    path = spec(tmp_path, tmp_path / "model", data)
    error = home.run("train", "start", str(path), "--set", "method.kind=unfinished", code=3)
    said = {one["key"]: one["reason"] for one in error["data"]["errors"]}
    assert "llamahome-broken 0.1" in said["method.kind"] and "RuntimeError: half done" in said["method.kind"]
    assert "both bring lines" in said["report.to"], "two packages have that name, and none is guessed"
    error = home.run("data", "validate", str(data), "--set", "data.format=wrong", code=3)
    assert error["code"] == "plugin.broken" and "is a list, and has to be a PluggedFormat" in error["message"]
    checks = [one for one in home.run("system", "doctor")["data"]["checks"] if one["name"] == "plug-ins"]
    warned = " | ".join(one["message"] for one in checks if one["state"] == "warn")
    assert "half done" in warned and "sft already" in warned and "both bring lines" in warned and "wrong" in warned
    assert {one["message"].split()[0] for one in checks if one["state"] == "ok"} == {"weighted", "quiz", "boxed"}


def test_a_folder_that_a_model_format_refuses_is_no_model(tmp_path: Path, example: Path) -> None:
    home = Home(tmp_path, (example,))
    folder = tmp_path / "boxed"
    folder.mkdir()
    with ZipFile(folder / "model.zip", "w") as made:
        made.writestr("weights.bin", "x")
    error = home.run("data", "inspect", str(write_quiz(tmp_path / "quiz.jsonl")), "--model", str(folder), code=3)
    assert error["code"] == "model.not_adapted" and "model.zip has no config.json" in error["message"]
    assert not list((tmp_path / "home" / "cache").rglob(".making-*"))


def test_the_page_shows_the_code_that_runs() -> None:
    """Each block of docs/extending.md is a whole file of the example package, and each of its files is shown."""
    page = (HERE.parent.parent / "docs" / "extending.md").read_text()
    shown = dict(re.findall(r"`([\w/.]+)`:\n\n```\w+\n(.*?)```", page, re.DOTALL))
    files = [path for path in EXAMPLE.rglob("*") if path.suffix in (".py", ".toml") and path.stat().st_size]
    assert {str(path.relative_to(EXAMPLE)): path.read_text() for path in files} == shown
