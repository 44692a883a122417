"""After one start with sudo: what is another user's is shown as that, and never stands in the way of one's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llamahome_tui.jobs.journal import JournalWriter
from llamahome_tui.jobs.store import Run, RunStore

STRANGER = 12_345
# Root without its privilege to read everything is as good as a user.
AS_A_USER = ("setpriv", "--inh-caps=-all", "--bounding-set=-dac_override,-dac_read_search")

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can make files of another user"
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "closed").mkdir(mode=0o700)
    os.chown(tmp_path / "closed", STRANGER, STRANGER)
    looked = subprocess.run([*AS_A_USER, "ls", str(tmp_path / "closed")], capture_output=True, check=False)
    if looked.returncode == 0:
        pytest.skip("the privilege to read everything can't be given up here")
    return tmp_path / "home"


def give_away(*paths: Path) -> None:
    """To another user, closed to everybody else."""
    for path in paths:
        os.chown(path, STRANGER, STRANGER)
        path.chmod(0o700 if path.is_dir() else 0o600)


def make(home: Path, name: str) -> Run:
    run = RunStore(home / "state").create({"name": name, "kind": "exec", "command": ["true"]})
    journal = JournalWriter(run.events_path)
    journal.append("start", attempt=1, from_step=0, exact=True, reason="")
    journal.append("end", reason="completed")
    journal.close()
    return run


@pytest.fixture
def cli(home: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    environ = {**os.environ, "LLAMAHOME_HOME": str(home), "HF_HOME": str(home / "hf")}

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        command = [*AS_A_USER, sys.executable, "-m", "llamahome_tui", "--batch", *words]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)

    return call


def result(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    assert done.returncode == 0, (done.stdout, done.stderr)
    data = json.loads(done.stdout.splitlines()[-1])["data"]
    return data if isinstance(data, list) else [data]


def test_a_run_of_another_user_is_listed_and_blocks_nobody(
    home: Path, cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    foreign, own = make(home, "foreign"), make(home, "own")
    foreign.trainer_lock.touch()
    (home / "state" / "locks" / "queue").touch()
    give_away(foreign.dir, foreign.events_path, foreign.trainer_lock, home / "state" / "locks" / "queue")
    listed = {str(run["id"]): run for run in result(cli("runs", "list", "--json"))}
    assert listed[own.id]["status"] == "completed" and not listed[own.id]["remote"]
    assert listed[foreign.id]["status"] == "lost" and listed[foreign.id]["remote"]
    assert "another user" in str(listed[foreign.id]["reason"]) and "chown" in str(listed[foreign.id]["hint"])
    (shown,) = result(cli("runs", "show", foreign.id, "--json"))
    assert shown["reason"] == listed[foreign.id]["reason"]
    # Another of the same name too: it is not the user's own that lives.
    (done,) = result(cli("runs", "exec", "--name", "foreign", "--json", "--", "true"))
    assert done["status"] == "completed"
    refused = cli("runs", "stop", foreign.id)
    assert refused.returncode == 10 and "another user" in refused.stderr
    assert foreign.dir.stat().st_uid == STRANGER


def test_a_lock_that_another_user_holds_is_seen_and_respected(
    home: Path, cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    foreign = make(home, "foreign")
    hold = (
        "import sys; from pathlib import Path; from llamahome_tui.jobs.locks import RecordLock\n"
        "assert RecordLock(Path(sys.argv[1])).acquire(); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(foreign.trainer_lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        give_away(foreign.dir, foreign.trainer_lock)
        (listed,) = result(cli("runs", "list", "--json"))
        assert listed["status"] == "running" and listed["remote"]
        ask = (
            "import sys; from pathlib import Path; from llamahome_tui.jobs.locks import RecordLock, holder\n"
            "lock = Path(sys.argv[1]); print(RecordLock(lock).acquire(), holder(lock))"
        )
        asked = [*AS_A_USER, sys.executable, "-c", ask, str(foreign.trainer_lock)]
        assert subprocess.check_output(asked, text=True) == "False 0\n"
        process.communicate()
    assert subprocess.check_output(asked, text=True).startswith("True ")
