"""Every `runs` operation with the real command in real processes, on wrapped commands that take moments."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.jobs.locks import holder
from llamahome_tui.jobs.queue import Queue
from llamahome_tui.jobs.store import Run, RunStore
from tests.conftest import Finished, eventually, processes_of

Cli = Callable[..., Finished]


def begin(run_cli: Cli, name: str, script: str, *words: str) -> str:
    """A detached run of a shell script; its id."""
    started = run_cli("runs", "exec", "--name", name, "--detach", "--json", *words, "--", "sh", "-c", script)
    assert started.status == 0, started
    assert started.lines[0] == {"v": 1, "type": "accepted", "id": started.data["id"]}
    return str(started.data["id"])


def status_of(run_cli: Cli, run_id: str) -> str:
    return str(run_cli("runs", "show", run_id, "--json").data["status"])


def names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


def lines(home: Path, run_id: str, count: int) -> None:
    """Wait until the run has printed so many lines."""
    out = home / "state" / "runs" / run_id / "out.log"
    eventually(lambda: out.exists() and out.read_bytes().count(b"\n") >= count, f"{count} lines in {out}")


# --- exec and following ---------------------------------------------------------------------------------------------


def test_a_followed_command_shows_its_events_and_its_end(run_cli: Cli) -> None:
    done = run_cli("runs", "exec", "--name", "hi", "--json", "--", "sh", "-c", """echo '{"loss": 1.5, "step": 3}'""")
    assert done.status == 0
    types = [line["type"] for line in done.lines]
    assert types[0] == "accepted" and types[-1] == "result" and set(types[1:-1]) == {"event"}
    records = [(line["source"], line["record"]["type"]) for line in done.lines[1:-1]]
    assert {("supervisor", "spawn"), ("trainer", "start"), ("trainer", "metrics"), ("trainer", "end")} <= set(records)
    times = [line["record"]["t"] for line in done.lines[1:-1]]
    assert sorted(times) == times
    assert done.data["status"] == "completed"
    assert Path(done.data["dir"]).is_dir()
    assert done.last["changed"] is True


def test_what_a_command_writes_gets_the_modes_its_user_wants(
    home: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    written = tmp_path / "written"
    line = [sys.executable, "-m", "llamahome_tui", "--batch", "runs", "exec", "--name", "modes", "--", "touch", written]
    subprocess.run(line, env=environ, umask=0o027, check=True, capture_output=True)
    assert written.stat().st_mode & 0o777 == 0o640
    (run,) = RunStore(home / "state").list()
    assert {path.stat().st_mode & 0o077 for path in [run.dir, *run.dir.rglob("*")]} == {0}


def test_for_people_results_go_to_stdout_and_progress_to_stderr(run_cli: Cli) -> None:
    done = run_cli("runs", "exec", "--name", "hi", "--", "sh", "-c", "echo printed")
    assert done.status == 0
    assert "completed" in done.out and "printed" not in done.out
    assert "run completed" in done.err
    assert "\x1b" not in done.out + done.err


@pytest.mark.parametrize(
    ("script", "words"),
    [("exit 7", "exit code 7"), ("kill -9 $$", "SIGKILL"), ("kill -11 $$", "SIGSEGV")],
)
def test_a_command_that_fails_is_exit_9_with_its_reason(run_cli: Cli, script: str, words: str) -> None:
    done = run_cli("runs", "exec", "--name", "bad", "--json", "--", "sh", "-c", script)
    assert done.status == 9
    assert done.last["code"] == "run.failed" and done.last["exit"] == 9
    assert words in done.last["message"]
    assert "runs logs" in done.last["hint"]
    shown = run_cli("runs", "show", done.lines[0]["id"], "--json").data
    assert shown["status"] == "failed" and words in shown["reason"]
    if script == "exit 7":
        assert (shown["exit_code"], shown["signal"]) == (7, None)
    else:
        assert (shown["exit_code"], shown["signal"]) == (None, words)


def test_log_lines_of_a_trainer_and_bars_become_metrics(run_cli: Cli) -> None:
    script = (
        "import time, sys\n"
        "from tqdm import tqdm\n"
        "bar = tqdm(total=6)\n"
        "for i in range(6):\n"
        "    time.sleep(0.12); bar.update(1)\n"
        "    line = {'loss': str(3.0 - i / 4), 'grad_norm': '0.5', 'learning_rate': '1e-05', 'epoch': str(i)}\n"
        "    tqdm.write(str(line))\n"
        "print({'eval_loss': 1.25, 'eval_runtime': 0.1})\n"
        "print({'train_runtime': '0.7', 'train_loss': '2.4'})\n"
    )
    done = run_cli("runs", "exec", "--name", "hf", "--json", "--", sys.executable, "-c", script)
    assert done.status == 0
    metrics = [line["record"] for line in done.lines if line.get("record", {}).get("type") == "metrics"]
    assert [m["loss"] for m in metrics if "loss" in m] == [3.0 - i / 4 for i in range(6)]
    steps = [m["step"] for m in metrics if "loss" in m]
    assert steps == sorted(steps) and steps[-1] == 6
    shown = run_cli("runs", "show", "latest", "--json").data
    assert (shown["step"], shown["steps"]) == (6, 6)
    assert shown["metrics"]["lr"] == 1e-05 and shown["metrics"]["eval_loss"] == 1.25
    assert shown["best"]["value"] == 1.25
    held = run_cli("runs", "assert", "latest", "eval_loss<=1.25", "--json")
    assert held.status == 0 and held.data["holds"] is True
    broken = run_cli("runs", "assert", "latest", "eval_loss<1.25", "--json")
    assert broken.status == 9 and broken.last["code"] == "assert.failed" and broken.last["data"]["value"] == 1.25
    missing = run_cli("runs", "assert", "latest", "eval_exact>0.9", "--json")
    assert missing.status == 4 and "eval_loss" in missing.last["data"]["metrics"]
    assert run_cli("runs", "assert", "latest", "eval_loss=1", "--json").status == 2


def test_ctrl_c_detaches_and_names_the_stop_command(run_cli: Cli, start_cli: Any, home: Path) -> None:
    process = start_cli("runs", "exec", "--name", "long", "--", "sh", "-c", "echo up; sleep 60")
    run_id = eventually(lambda: next((run.id for run in RunStore(home / "state").list()), ""))
    lines(home, run_id, 1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert f"llamahome --batch runs stop {run_id}" in err
    assert status_of(run_cli, run_id) == "running"
    assert run_cli("runs", "stop", run_id, "--json").data["status"] == "stopped"


def test_the_end_of_the_terminal_does_not_hurt_the_command(
    run_cli: Cli, start_cli: Any, home: Path, tmp_path: Path
) -> None:
    proof = tmp_path / "proof"
    process = start_cli(
        "runs", "exec", "--name", "long", "--", "sh", "-c", f"echo up; sleep 1.5; touch {proof}; echo down"
    )
    run_id = eventually(lambda: next((run.id for run in RunStore(home / "state").list()), ""))
    lines(home, run_id, 1)
    os.killpg(process.pid, signal.SIGHUP)
    os.killpg(process.pid, signal.SIGKILL)
    waited = run_cli("runs", "wait", run_id, "--json")
    assert waited.status == 0 and waited.data["status"] == "completed"
    assert proof.exists()


def test_watch_joins_a_run_and_leaves_with_it(run_cli: Cli) -> None:
    run_id = begin(run_cli, "short", "echo one; sleep 1; exit 3")
    watched = run_cli("runs", "watch", run_id, "--json")
    assert watched.status == 9 and watched.last["data"]["id"] == run_id
    assert any(line.get("record", {}).get("type") == "end" for line in watched.lines)
    again = run_cli("runs", "watch", run_id, "--json")
    assert again.status == 9


def test_wait(run_cli: Cli) -> None:
    first = begin(run_cli, "first", "sleep 0.2")
    late = run_cli("runs", "wait", begin(run_cli, "slow", "sleep 30"), "--timeout", "0.5s", "--json")
    assert late.status == 124 and late.last["code"] == "timeout"
    assert run_cli("runs", "wait", first, "--json").data["status"] == "completed"
    assert run_cli("runs", "stop", "slow", "--json").status == 0
    both = run_cli("runs", "wait", first, "slow", "--json")
    assert both.status == 0 and [run["status"] for run in both.data] == ["completed", "stopped"]
    bad = begin(run_cli, "bad", "exit 1")
    some = run_cli("runs", "wait", first, bad, "--json")
    assert some.status == 9 and [run["status"] for run in some.last["data"]["runs"]] == ["completed", "failed"]


# --- stop, resume, control ------------------------------------------------------------------------------------------


def test_stop_reaches_the_whole_command_and_twice_changes_nothing(run_cli: Cli, home: Path, tmp_path: Path) -> None:
    said = tmp_path / "said"
    script = f"trap 'echo caught > {said}; kill $child; exit 0' TERM; sleep 100 & child=$!; echo up; wait"
    run_id = begin(run_cli, "polite", script)
    lines(home, run_id, 1)
    stopped = run_cli("runs", "stop", run_id, "--json")
    assert stopped.status == 0 and stopped.data["status"] == "stopped" and stopped.last["changed"] is True
    assert said.read_text() == "caught\n"
    again = run_cli("runs", "stop", run_id, "--json")
    assert again.status == 0 and again.data["status"] == "stopped" and again.last["changed"] is False


def test_stop_now_kills_what_does_not_listen(run_cli: Cli, home: Path) -> None:
    run_id = begin(run_cli, "deaf", "trap '' TERM; echo up; while true; do sleep 0.1; done")
    lines(home, run_id, 1)
    begun = time.monotonic()
    stopped = run_cli("runs", "stop", run_id, "--now", "--json")
    assert stopped.data["status"] == "stopped" and time.monotonic() - begun < 10
    mark = f"LLAMAHOME_RUN={run_id}"
    assert not [pid for pid in processes_of(home) if mark in Path(f"/proc/{pid}/environ").read_text().split("\0")]


def test_resume_runs_the_command_again_in_the_same_folder(run_cli: Cli, home: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    run_id = begin(run_cli, "twice", f"test -e {mark} && exit 0; touch {mark}; exit 1")
    assert run_cli("runs", "wait", run_id).status == 9
    resumed = run_cli("runs", "resume", run_id, "--json")
    assert resumed.status == 0 and resumed.lines[0] == {"v": 1, "type": "accepted", "id": run_id}
    shown = run_cli("runs", "show", run_id, "--json").data
    assert shown["status"] == "completed" and shown["attempt"] == 2
    assert [r["attempt"] for r in shown["recoveries"]] == [2] and shown["recoveries"][0]["exact"] is False
    assert len(names(home / "state" / "runs")) == 1
    done = run_cli("runs", "resume", run_id, "--json")
    assert done.status == 2 and done.last["code"] == "run.completed"
    assert "runs exec --name twice -- COMMAND" in done.last["hint"]  # it has no spec to change


def test_what_cannot_be_asked_is_refused_with_the_way_out(run_cli: Cli, home: Path) -> None:
    run_id = begin(run_cli, "busy", "echo up; sleep 60")
    lines(home, run_id, 1)
    for words, code, exit_code in [
        (("resume", run_id), "run.live", 10),
        (("remove", run_id, "--yes"), "run.live", 10),
        (("control", run_id, "save"), "control.refused", 2),
        (("control", run_id, "dance"), "usage", 2),
        (("control", run_id, "lr=fast"), "control.bad_value", 3),
        (("control", run_id, "lr=nan"), "control.bad_value", 3),
        (("control", run_id, "lr=-1e-4"), "control.bad_value", 3),
        (("control", run_id, "lr=40"), "control.bad_value", 3),
        (("control", run_id, "lr"), "usage", 2),
        (("control", run_id, "continue"), "run.not_live", 2),
        (("move", run_id, "1"), "run.not_waiting", 2),
        (("move", run_id, "0"), "usage", 2),
        (("tag", run_id, "two words"), "usage", 2),
        (("wait", "nobody"), "run.not_found", 4),
        (("show", "nobody"), "run.not_found", 4),
        (("stop", "nobody"), "run.not_found", 4),
        (("list", "--status", "dancing"), "usage", 2),
        (("list", "--limit", "0"), "usage", 2),
    ]:
        said = run_cli("runs", *words, "--json")
        assert (said.status, said.last["code"]) == (exit_code, code), said
        assert said.last["hint"], said
    assert run_cli("runs", "stop", run_id, "--now").status == 0


def test_a_second_start_of_a_live_name_is_refused(run_cli: Cli, home: Path) -> None:
    run_id = begin(run_cli, "same", "echo up; sleep 60")
    second = run_cli("runs", "exec", "--name", "same", "--json", "--", "true")
    assert second.status == 10 and second.last["code"] == "run.name_busy" and second.last["data"]["id"] == run_id
    assert len(names(home / "state" / "runs")) == 1
    run_cli("runs", "stop", run_id, "--now")
    assert run_cli("runs", "exec", "--name", "same", "--", "true").status == 0


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (("--name", "x y", "--", "true"), "usage", 2),
        (("--name", "x"), "usage", 2),
        (("--name", "x", "--", "no-such-program"), "exec.not_found", 4),
        (("--name", "x", "--", "sh", "-c", "HF_TOKEN=hf_canary0123456789 true"), "usage.secret", 2),
        (("--name", "x", "--", "./missing.sh"), "exec.not_found", 4),
        (("--name", "x", "--devices", "many", "--", "true"), "usage", 2),
        (("--name", "x", "--devices", "[7]", "--", "true"), "resource.devices", 5),
        (("--name", "x", "--devices", "64", "--", "true"), "resource.devices", 5),
        (("--", "true"), "usage", 2),
    ],
)
def test_a_bad_command_line_leaves_no_run(
    run_cli: Cli, home: Path, words: tuple[str, ...], code: str, exit_code: int
) -> None:
    said = run_cli("runs", "exec", "--json", *words)
    assert (said.status, said.last["code"]) == (exit_code, code), said
    runs = home / "state" / "runs"
    assert not runs.exists() or not names(runs)
    assert not Queue(home / "state").entries()


def test_a_prefix_that_two_runs_share_lists_both(run_cli: Cli) -> None:
    ids = [begin(run_cli, name, "true") for name in ("one", "two")]
    prefix = ids[0][: next(at for at in range(99) if ids[0][at] != ids[1][at])]
    said = run_cli("runs", "show", prefix, "--json")
    assert said.status == 2 and said.last["code"] == "run.ambiguous"
    assert set(said.last["data"]["candidates"]) == set(ids)


# --- queue ----------------------------------------------------------------------------------------------------------


def test_runs_wait_for_their_device_start_by_themselves_and_can_be_moved(
    run_cli: Cli, home: Path, tmp_path: Path
) -> None:
    order = tmp_path / "order"
    first = begin(
        run_cli, "first", f"echo up; while ! test -e {tmp_path}/go; do sleep 0.05; done; echo first >> {order}"
    )
    lines(home, first, 1)
    second = begin(run_cli, "second", f"echo second >> {order}")
    third = begin(run_cli, "third", f"echo third >> {order}")
    queued = run_cli("runs", "list", "--status", "queued", "--json").data
    assert {run["id"]: run["queue_position"] for run in queued} == {second: 1, third: 2}
    refused = run_cli("runs", "move", third, "x", "--json")
    assert refused.status == 2
    moved = run_cli("runs", "move", third, "1", "--json")
    assert moved.data == {"id": third, "position": 1, "queue": [third, second]} and moved.last["changed"] is True
    assert run_cli("runs", "move", third, "1", "--json").last["changed"] is False
    assert status_of(run_cli, first) == "running"
    (tmp_path / "go").touch()
    assert run_cli("runs", "wait", first, second, third).status == 0
    assert order.read_text().split() == ["first", "third", "second"]
    assert Queue(home / "state").waiting() == []


def test_a_waiting_run_can_be_stopped_and_a_dead_holder_frees_its_device(run_cli: Cli, home: Path) -> None:
    first = begin(run_cli, "first", "echo up; sleep 60")
    lines(home, first, 1)
    second = begin(run_cli, "second", "sleep 60")
    third = begin(run_cli, "third", "echo ran")
    assert run_cli("runs", "stop", second, "--json").data["status"] == "stopped"
    run = Run.open(home / "state" / "runs" / first)
    for lock in (run.supervisor_lock, run.trainer_lock):
        os.kill(holder(lock) or 0, signal.SIGKILL)
    # The wrapped sleep lives on as an orphan; the next look sweeps it, and the device is free at once.
    assert run_cli("runs", "wait", third, "--timeout", "30").status == 0
    assert status_of(run_cli, first) in ("lost", "failed")


@pytest.mark.parametrize("look", [("list",), ("show", "long"), ("events", "long"), ("logs", "long")])
def test_F03_who_looks_at_an_unsupervised_run_gives_it_a_supervisor(
    run_cli: Cli, home: Path, look: tuple[str, ...]
) -> None:
    run_id = begin(run_cli, "long", "echo up; sleep 60")
    lines(home, run_id, 1)
    run = Run.open(home / "state" / "runs" / run_id)
    trainer, first = holder(run.trainer_lock), holder(run.supervisor_lock)
    os.kill(first or 0, signal.SIGKILL)
    eventually(lambda: holder(run.supervisor_lock) is None)
    assert run_cli("runs", *look, "--json").status == 0
    second = eventually(lambda: holder(run.supervisor_lock), "a new supervisor")
    assert second != first and holder(run.trainer_lock) == trainer
    assert run_cli("runs", "stop", run_id, "--json").data["status"] == "stopped"


def test_F39_all_who_follow_see_the_same(run_cli: Cli, start_cli: Any, home: Path) -> None:
    script = "echo up; for i in 1 2 3 4 5 6 7 8 9; do echo '{\"loss\": '$i'}'; sleep 0.2; done; sleep 60"
    run_id = begin(run_cli, "shared", script)
    lines(home, run_id, 1)
    watchers = [start_cli("runs", "watch", run_id, "--json") for _ in range(2)]
    lines(home, run_id, 10)
    stops = [start_cli("runs", "stop", run_id, "--json") for _ in range(2)]
    ends = [json.loads(process.communicate(timeout=60)[0].splitlines()[-1]) for process in (*watchers, *stops)]
    assert {end["data"]["status"] for end in ends} == {"stopped"}
    applied = [
        r for r in run_cli("runs", "events", run_id, "--json").lines if r.get("record", {}).get("outcome") == "applied"
    ]
    assert len(applied) == 1


# --- looking --------------------------------------------------------------------------------------------------------


def test_list_show_and_tags(run_cli: Cli) -> None:
    ids = []
    for name in ("one", "two"):
        ids.append(begin(run_cli, name, "echo '{\"loss\": 1}'"))
        run_cli("runs", "wait", ids[-1])
    assert [run["id"] for run in run_cli("runs", "list", "--json").data] == ids[::-1]
    assert [run["id"] for run in run_cli("runs", "list", "--limit", "1", "--json").data] == ids[1:]
    tagged = run_cli("runs", "tag", "one", "good", "--json")
    assert tagged.data == {"id": ids[0], "tags": ["good"]} and tagged.last["changed"] is True
    assert run_cli("runs", "tag", "one", "good", "--json").last["changed"] is False
    assert [run["id"] for run in run_cli("runs", "list", "--tag", "good", "--json").data] == ids[:1]
    assert run_cli("runs", "tag", "one", "-good", "--json").data["tags"] == []
    shown = run_cli("runs", "show", ids[0], "--json").data
    contract = {
        "id", "name", "status", "attempt", "step", "steps", "metrics", "best", "started_at", "elapsed_s", "eta_s",
        "checkpoints", "artifacts", "memory", "recoveries", "host", "remote",
    }  # fmt: skip
    assert contract <= shown.keys()
    assert shown["memory"].keys() == {"predicted_bytes", "measured_bytes"}
    listed = run_cli("runs", "list", "--json").data[0]
    assert not {"checkpoints", "artifacts", "recoveries"} & listed.keys()


def test_logs_and_events(run_cli: Cli, home: Path) -> None:
    run_id = begin(run_cli, "talk", r"printf 'a\rb\rc\n\033[31mred\033[0m \033]52;c;aGk=\007x\n'; sleep 1; echo last")
    followed = run_cli("runs", "logs", run_id, "--follow")
    assert followed.out.splitlines() == ["c", "red x", "last"]
    logs = run_cli("runs", "logs", run_id, "--json")
    assert [line["text"] for line in logs.lines[:-1]] == ["c\n", "red x\n", "last\n"]
    events = run_cli("runs", "events", run_id, "--json")
    trainer = [line["record"]["seq"] for line in events.lines[:-1] if line["source"] == "trainer"]
    assert trainer == list(range(1, len(trainer) + 1)) and events.data["last_seq"] == trainer[-1]
    later = run_cli("runs", "events", run_id, "--after", str(trainer[-1] - 1), "--json")
    assert [line["record"]["seq"] for line in later.lines[:-1] if line["source"] == "trainer"] == trainer[-1:]
    nothing = run_cli("runs", "logs", begin(run_cli, "silent", "true"), "--follow")
    assert nothing.status == 0 and nothing.out == ""


def test_following_events_misses_and_repeats_nothing(run_cli: Cli) -> None:
    run_id = begin(run_cli, "many", "for i in 1 2 3 4 5 6 7 8; do echo '{\"loss\": '$i'}'; sleep 0.15; done")
    followed = run_cli("runs", "events", run_id, "--follow", "--json")
    seqs = [line["record"]["seq"] for line in followed.lines[:-1] if line["source"] == "trainer"]
    assert seqs == list(range(1, len(seqs) + 1))
    assert followed.lines[-2]["record"]["type"] in ("end", "exit")


# --- remove ---------------------------------------------------------------------------------------------------------


def test_remove_plans_asks_and_then_leaves_nothing(run_cli: Cli, home: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_text("mine")
    run_id = begin(run_cli, "gone", f"head -c 100000 /dev/zero > big; ln -s {outside} link; pwd")
    run_cli("runs", "wait", run_id)
    folder = home / "state" / "runs" / run_id
    (folder / "artifacts" / "link").symlink_to(outside)
    (folder / "artifacts" / "big").write_bytes(b"x" * 100_000)
    dry = run_cli("runs", "remove", run_id, "--dry-run", "--json")
    assert dry.status == 0 and dry.data["bytes"] >= 100_000 and dry.data["removed"] is False and folder.is_dir()
    assert dry.data["reasons"]
    unasked = run_cli("runs", "remove", run_id, "--json")
    assert unasked.status == 2 and "--yes" in unasked.last["hint"] and folder.is_dir()
    removed = run_cli("runs", "remove", run_id, "--yes", "--json")
    assert removed.status == 0 and removed.data["removed"] is True and removed.last["changed"] is True
    assert (outside / "keep").read_text() == "mine"
    assert names(home / "state" / "runs") == []
    assert not [name for name in names(home / "state" / "locks") if name.startswith(run_id)]
    assert run_cli("runs", "remove", run_id, "--yes", "--json").status == 4


def test_remove_leaves_a_linked_folder_alone(run_cli: Cli, home: Path, tmp_path: Path) -> None:
    run_id = begin(run_cli, "real", "true")
    run_cli("runs", "wait", run_id)
    folder = home / "state" / "runs" / run_id
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert run_cli("runs", "remove", run_id, "--yes", "--json").status == 4
    assert (tmp_path / "elsewhere" / "spec.json").is_file()


# --- notification and secrets ---------------------------------------------------------------------------------------


def test_the_end_is_told_to_the_notify_command(run_cli: Cli, home: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    teller = tmp_path / "tell.py"
    what = "json.dumps([json.load(sys.stdin), dict(os.environ)])"
    teller.write_text(f"import json, os, sys\nopen({str(told)!r}, 'a').write({what})\n")
    env = {"LLAMAHOME_NOTIFY_ON_END": f"{sys.executable} {teller}", "HF_TOKEN": "hf_canarycanarycanary"}
    done = run_cli("runs", "exec", "--name", "told", "--", "sh", "-c", "echo $HF_TOKEN; exit 4", env=env)
    assert done.status == 9
    eventually(told.exists, "the notification")
    result, environ = json.loads(eventually(told.read_text))
    assert result["status"] == "failed" and result["name"] == "told" and result["exit_code"] == 4
    assert "HF_TOKEN" not in environ
    run = RunStore(home / "state").list()[0]
    records = eventually(
        lambda: [json.loads(line) for line in run.supervisor_path.read_text().splitlines() if '"notify"' in line]
    )
    assert records[0]["code"] == 0
    everything = subprocess.run(["grep", "-r", "hf_canary", str(home)], capture_output=True, text=True)
    assert everything.stdout == ""
