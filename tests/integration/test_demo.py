"""The promise of `demo`: a real run of the real command, a base that lacks the skill, and a model that learned it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamahome_tui.config.places import Places
from llamahome_tui.demo.paths import demo_eval_file, demo_model_dir, demo_train_file
from llamahome_tui.jobs.journal import read
from llamahome_tui.jobs.store import RunStore
from tests.conftest import RunCli

pytestmark = pytest.mark.torch


def _chats(path: Path) -> list[list[dict[str, str]]]:
    return [json.loads(line)["messages"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_data_are_enough_and_apart() -> None:
    train, held_out = _chats(demo_train_file()), _chats(demo_eval_file())
    assert len(train) >= 2000 and len(held_out) == 200
    prompts = {chat[0]["content"] for chat in train}
    replies = {chat[1]["content"] for chat in train}
    assert not prompts & {chat[0]["content"] for chat in held_out}
    assert not replies & {chat[1]["content"] for chat in held_out}, "an evaluated word was trained on"
    assert len({chat[0]["content"] for chat in held_out}) == 200


def test_the_model_is_small() -> None:
    files = list(demo_model_dir().iterdir())
    assert sum(file.stat().st_size for file in files) <= 6_000_000
    assert {file.name for file in files} >= {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
    }  # fmt: skip


@pytest.mark.slow
def test_the_demo_teaches_the_model(run_cli: RunCli, places: Places) -> None:
    done = run_cli("demo", "--json", timeout=900)
    assert done.status == 0, done.err
    data = done.data
    print(
        f"\ndemo: exact match {data['score_before']:.3f} -> {data['score_after']:.3f}, "
        f"loss {data['loss_first']:.3f} -> {data['loss_last']:.4f}, "
        f"{data['seconds']:.1f} s in the operation, {done.seconds:.1f} s for the command"
    )
    assert data["score_before"] <= 0.10
    assert data["score_after"] >= 0.90
    assert data["loss_last"] < data["loss_first"]

    assert done.lines[0] == {"v": 1, "type": "accepted", "id": data["run"]}
    run = RunStore(places).resolve(data["run"])
    told = [record["eval_exact"] for record in read(run.events_path) if "eval_exact" in record]
    assert (data["score_before"], data["score_after"]) == (told[0], told[-1])
    assert data["samples"][-1]["text"] == "lallantellarn"
    events = [line["record"] for line in done.lines if line["type"] == "event" and line["source"] == "trainer"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))

    shown = run_cli("runs", "show", data["run"], "--json").data
    assert shown["status"] == "completed"
    assert "demo" in [
        model["id"] for model in run_cli("models", "list", "--json").data if data["run"] in model["used_by"]
    ]


def test_a_full_state_folder_refuses_the_demo(run_cli: RunCli, home: Path) -> None:
    (home / "state").write_text("no folder")
    done = run_cli("demo", "--json")
    assert done.status == 3
    assert done.last["code"] == "places.not_writable"
