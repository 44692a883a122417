"""Real output of real commands, held against the schemas that the program itself prints."""

from __future__ import annotations

import json

import pytest

from llamahome_tui.schemas import RESULTS, events_schema, results_schema
from tests.schema import problems


@pytest.mark.parametrize("noun", ["spec", "events", "results"])
def test_schemas_print_for_people_and_for_programs(run_cli, noun):
    people, program = run_cli("schema", noun), run_cli("schema", noun, "--json")
    assert people.status == program.status == 0
    assert json.loads(people.out) == program.data
    assert program.data["$schema"].startswith("https://json-schema.org/")


@pytest.mark.parametrize(
    "words", ["runs list", "models list", "cache usage", "logs list", "system show", "models show demo", "config show"]
)
def test_results_of_queries(run_cli, words):
    done = run_cli(*words.split(), "--json")
    assert done.status == 0, done
    assert len(done.lines) == 1
    assert problems(results_schema(), done.last) == []
    name = words.removesuffix(" demo")
    assert problems(RESULTS[name], done.data) == []


def test_a_run_of_any_command(run_cli):
    script = """echo '{"loss": 1.5, "step": 3}'"""
    done = run_cli("runs", "exec", "--name", "x", "--json", "--", "sh", "-c", script)
    assert done.status == 0, done
    records = [line["record"] for line in done.lines if line["type"] == "event"]
    assert {"spawn", "start", "metrics", "end", "exit"} <= {r["type"] for r in records}
    for record in records:
        assert problems(events_schema(), record) == [], record
    assert problems(results_schema(), done.last) == []
    assert problems(RESULTS["runs show"], run_cli("runs", "show", "x", "--json").data) == []
    assert problems(RESULTS["runs list"], run_cli("runs", "list", "--json").data) == []
    assert problems(results_schema(), run_cli("runs", "show", "none", "--json").last) == []


def test_a_command_that_takes_its_parent_along(run_cli):
    """A death by signal, as its supervisor writes it down."""
    done = run_cli("runs", "exec", "--name", "k", "--json", "--", "sh", "-c", "kill -9 $PPID")
    assert done.status == 9, done
    records = [line["record"] for line in done.lines if line["type"] == "event"]
    (exit_,) = [record for record in records if record["type"] == "exit"]
    assert exit_["signal"] == "SIGKILL"
    assert {"begin", "spawn", "exit"} <= {record["type"] for record in records}
    for record in records:
        assert problems(events_schema(), record) == [], record


@pytest.mark.slow
@pytest.mark.torch
def test_a_training_run(run_cli, tmp_path):
    """A few steps of the embedded model, from a spec without a file."""
    done = run_cli(
        "train", "start", "--model", "demo", "--data", "demo", "--name", "t", "--set", "training.max_steps=4",
        "--set", "data.eval=20", "--set", "samples.every_steps=2", "--set", 'samples.prompts=["Hi"]', "--json",
        timeout=600,
    )  # fmt: skip
    assert done.status == 0, done
    records = [line["record"] for line in done.lines if line["type"] == "event"]
    assert {"start", "phase", "progress", "metrics", "checkpoint", "artifact", "end"} <= {r["type"] for r in records}
    for record in records:
        assert problems(events_schema(), record) == [], record
    assert problems(RESULTS["train start"], done.data) == []
    assert problems(RESULTS["runs show"], run_cli("runs", "show", "t", "--json").data) == []
    reply = run_cli("generate", "t", "--prompt", "Hi", "--max-tokens", "4", "--json", timeout=300)
    assert reply.status == 0, reply
    assert problems(RESULTS["generate"], reply.data) == []
