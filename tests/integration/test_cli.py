"""The real command in a real process: words, streams, exit statuses, and what stays behind."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import COMMAND, clean_environ


@pytest.fixture
def plain(run_cli):
    """`llamahome` without --batch in front."""
    return lambda *words, **more: run_cli(*words, command=COMMAND, **more)


def test_version_and_help_exit_0(plain):
    for words in (["--version"], ["--help"], ["-h"], ["--batch", "--help"], ["--batch", "--version"]):
        done = plain(*words)
        assert (done.status, done.err) == (0, ""), words
        assert done.out
    for words in (["--batch", "runs", "--help"], ["runs", "--help"], ["models", "--help"], ["runs", "list", "--help"]):
        done = plain(*words)
        assert (done.status, done.err) == (0, ""), words
        assert done.out.startswith("usage: llamahome --batch")


def test_without_a_terminal_it_says_so_in_one_line_and_exits_2(plain):
    for words in ([], ["training"], ["training", "--run", "latest"], ["logs", "--theme", "x"]):
        done = plain(*words)
        assert (done.status, done.out) == (2, "")
        assert done.err.count("\n") == 1
        assert "--batch" in done.err


def test_mistyped_words_are_answered_with_the_nearest(plain):
    for words, guess in (
        (["trainin"], "training"),
        (["runs", "lsit"], "list"),
        (["--tehme", "x"], "--theme"),
        (["rusn"], "runs"),
    ):
        done = plain(*words)
        assert (done.status, done.out) == (2, "")
        assert f"did you mean {guess}?" in done.err, words


def test_a_noun_with_a_verb_implies_batch(plain):
    assert plain("config", "path").status == 0
    assert plain("config", "get", "ui.theme", "--batch").status == 0


def test_the_last_json_line_is_a_result_or_an_error(run_cli):
    good = run_cli("config", "get", "logs.level", "--json")
    assert good.status == 0
    assert good.last == {**good.last, "v": 1, "type": "result", "ok": True, "changed": False}
    bad = run_cli("runs", "show", "nothing", "--json")
    assert (bad.status, bad.err) == (4, "")
    assert bad.last == {**bad.last, "v": 1, "type": "error", "ok": False, "exit": 4}
    assert bad.last["hint"].startswith(("see", "llamahome")) or "llamahome --batch" in bad.last["hint"]
    usage = run_cli("runs", "lst", "--json")
    assert (usage.status, usage.last["code"]) == (2, "usage")


def test_no_escape_sequence_without_a_terminal(run_cli):
    for words in (["runs", "list"], ["config", "show"], ["system", "show"], ["runs", "x"], ["--help"]):
        done = run_cli(*words)
        assert "\x1b" not in done.out + done.err


def test_every_operation_leaves_one_access_line_with_a_request_id(run_cli, home):
    run_cli("config", "get", "ui.theme")
    run_cli("runs", "show", "nothing")
    lines = (home / "state/logs/app/access.log").read_text().splitlines()
    assert len(lines) == 2
    assert 'operation="config get" key="ui.theme"' in lines[0]
    assert lines[0].endswith("outcome=ok exit=0")
    assert 'operation="runs show" id="nothing"' in lines[1]
    assert lines[1].endswith("outcome=run.not_found exit=4")
    assert len({line.split("request=")[1].split()[0] for line in lines}) == 2
    shown = run_cli("logs", "show", "access", "--level", "warning")
    assert shown.out.count("\n") == 1 and "run.not_found" in shown.out


def test_a_closed_pipe_ends_it_quietly(home):
    # The reader goes away before the first line is written.
    command = " ".join([*COMMAND, "--batch", "schema", "results"])
    done = subprocess.run(
        ["bash", "-c", f"{command} | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, env=clean_environ(home), timeout=60, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.strip() in ("0", "141")


def test_closed_standard_streams_do_no_harm(home):
    for closed in (">&-", "2>&-", "<&-", ">&- 2>&- <&-"):
        done = subprocess.run(
            ["bash", "-c", f"exec {closed}; {' '.join(COMMAND)} --batch config set ui.ascii true"],
            capture_output=True, text=True, env=clean_environ(home), timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (closed, done.stderr)
        assert "Traceback" not in done.stderr
        config = (home / "config/config.toml").read_text()
        assert "true" in config and "ui" in config  # and no output went into a file that took the stream's number


def test_a_full_output_is_said(home):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "--batch", "config", "show"], stdout=full, stderr=subprocess.PIPE, text=True,
            env=clean_environ(home), timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "llamahome: the output cannot be written: No space left on device\n"


def test_ctrl_c_exits_130_in_one_line(start_cli):
    process = start_cli("system", "watch")
    assert process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.startswith("llamahome: interrupted")


def test_a_fault_of_our_own_is_one_masked_sentence_and_a_traceback_in_the_log(run_cli, home):
    token = "hf_" + "CanaryCanaryCanaryCanaryCanary1234"
    fault = (
        "import llamahome_tui.operations as o, dataclasses, sys, types\n"
        f"def broken(context): secret = '{token}'; raise RuntimeError('lost ' + secret); yield\n"
        "sys.modules['llamahome_tui.broken'] = types.SimpleNamespace(broken=broken)\n"
        "o.OPERATIONS = tuple(dataclasses.replace(x, function='broken:broken') if x.name == 'cache usage' else x"
        " for x in o.OPERATIONS)\n"
        "from llamahome_tui.cli import main\nsys.exit(main())\n"
    )
    done = run_cli("cache", "usage", "--json", command=(sys.executable, "-c", fault, "--batch"))
    assert done.status == 1
    assert (done.last["code"], done.last["exit"]) == ("internal", 1)
    assert "RuntimeError" in done.last["message"] and "logs show error" in done.last["hint"]
    assert "Traceback" not in done.out + done.err
    log = (home / "state/logs/app/error.log").read_text()
    assert "Traceback" in log and "RuntimeError" in log
    everything = "".join(p.read_text() for p in (home / "state/logs").rglob("*.log"))
    assert token not in done.out + done.err + everything


def test_a_bad_configuration_is_exit_3_with_every_mistake(run_cli, home):
    (home / "config").mkdir()
    (home / "config/config.toml").write_text('[ui]\nthem = "x"\n[logs]\nkeep = "many"\n')
    done = run_cli("runs", "list", "--json")
    assert (done.status, done.last["code"]) == (3, "config.invalid")
    assert {e["line"] for e in done.last["data"]["errors"]} == {2, 4}
    people = run_cli("runs", "list")
    assert people.err.count("config.toml") == 2 and "ui.theme" in people.err
    assert run_cli("config", "path").status == 0


def test_the_bar_is_for_terminals_only(home):
    """On a terminal stdout may carry a bar; the same command into files has none."""
    parent, child = pty.openpty()
    done = subprocess.run(
        [*COMMAND, "--batch", "config", "show"], stdin=child, stdout=child, stderr=child,
        env=clean_environ(home), timeout=60, check=False,
    )  # fmt: skip
    os.close(child)
    assert done.returncode == 0
    assert b"ui.theme" in os.read(parent, 65536)
    os.close(parent)


def test_a_followed_run_has_a_bar_on_a_terminal_and_lines_elsewhere(home):
    script = (
        "import time\nfrom tqdm import tqdm\nbar = tqdm(total=8)\nfor i in range(8):\n"
        "    time.sleep(0.15); bar.update(1)\n    tqdm.write(str({'loss': 2.0 / (i + 1), 'epoch': i / 8}))\n"
    )
    words = [*COMMAND, "--batch", "runs", "exec", "--name", "x", "--", sys.executable, "-c", script]
    parent, child = pty.openpty()
    process = subprocess.Popen(words, stdin=child, stdout=child, stderr=child, env=clean_environ(home))
    os.close(child)
    seen = b""
    try:
        while block := os.read(parent, 65536):
            seen += block
    except OSError:
        pass  # Linux says so when the other side has closed
    os.close(parent)
    assert process.wait(60) == 0
    shown = seen.decode()
    assert "\r[" in shown and "%" in shown
    assert "\x1b" not in shown
    assert "-x  completed\r\n" in shown
    words[words.index("x")] = "y"
    plain = subprocess.run(words, capture_output=True, text=True, env=clean_environ(home), timeout=60, check=True)
    assert "[#" not in plain.stderr and "\r" not in plain.stderr
    assert plain.stderr.count("  loss ") <= 1  # one progress line in the first 30 seconds


def test_output_without_utf8_still_comes(home):
    env = {**clean_environ(home), "LC_ALL": "C", "LANG": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    (home / "config").mkdir()
    (home / "config/config.toml").write_text('[launch]\npython = "/opt/größe"\n', encoding="utf-8")
    done = subprocess.run(
        [*COMMAND, "--batch", "config", "get", "launch.python"], capture_output=True, env=env, timeout=60, check=False
    )
    assert done.returncode == 0
    assert b"gr\\xf6\\xdfe" in done.stdout
    as_json = subprocess.run(
        [*COMMAND, "--batch", "config", "get", "launch.python", "--json"], capture_output=True, env=env, timeout=60,
        check=False,
    )  # fmt: skip
    assert json.loads(as_json.stdout)["data"]["value"] == "/opt/größe"


@pytest.mark.parametrize("words", ["runs list", "config set ui.ascii true", "runs exec --name a -- true", "train init"])
def test_every_folder_that_a_first_command_makes_is_private(run_cli, home, words):
    """T11: even under a generous umask, and whichever command is the first one."""
    old = os.umask(0)
    try:
        assert run_cli(*words.split()).status == 0
    finally:
        os.umask(old)
    made = [path for path in home.rglob("*") if path.name not in ("user", "hf") and not path.is_symlink()]
    assert made
    assert [str(path) for path in made if path.stat().st_mode & 0o077] == []


@pytest.mark.parametrize("words", ["runs list", "runs show x", "cache usage", "models list", "generate x --prompt y"])
def test_reading_where_a_file_lies_in_place_of_the_state_folder(run_cli, home, words):
    (home / "state").write_text("")
    done = run_cli(*words.split(), "--json")
    assert (done.status, done.last["code"]) == (3, "places.denied")
    assert str(home / "state") in done.last["message"]
    assert done.last["hint"].endswith("llamahome --batch config path")


def test_an_empty_list_says_whether_there_are_no_runs_or_none_like_that(run_cli, home):
    assert run_cli("runs", "list").err == "start one: llamahome --batch demo\n"
    assert "all: llamahome --batch runs list" in run_cli("runs", "list", "--tag", "none").err
