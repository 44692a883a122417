"""What a job's own process writes when it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llamahome_tui.jobs import control
from llamahome_tui.jobs.journal import JournalWriter, tail
from llamahome_tui.jobs.status import Status, derive
from llamahome_tui.jobs.store import RunStore

FAIL = """
import sys
from pathlib import Path
from llamahome_tui.jobs.child import Child
child = Child.enter(Path(sys.argv[1]))
child.start(0, True, "")
sys.exit(child.fail("training.crashed", "it began " + "x" * 300_000 + " it ended", retry=False))
"""


def test_a_very_long_error_is_still_the_reason(tmp_path: Path) -> None:
    run = RunStore(tmp_path / "state").create({"name": "a", "kind": "train"})
    journal = JournalWriter(run.supervisor_path)
    journal.append("spawn", attempt=1, events_bytes=0)
    journal.append("exit", attempt=1, code=1)
    journal.close()
    assert subprocess.run([sys.executable, "-c", FAIL, str(run.dir)], check=False).returncode == 1
    found = derive(run)
    assert found.status is Status.FAILED and found.failure is not None
    assert found.failure["code"] == "training.crashed"
    assert found.reason.startswith("it began x") and found.reason.endswith("x it ended") and len(found.reason) < 5000


OF_ANOTHER = """
import os, sys
from pathlib import Path
from llamahome_tui.jobs import exec_child
signal_group = os.killpg
def as_nobody(*arguments):  # who watches over root's command is not root, as with sudo
    os.setresuid(65534, 65534, 0)
    try:
        signal_group(*arguments)
    finally:
        os.setresuid(0, 0, 0)
os.killpg = as_nobody
sys.exit(exec_child.main(Path(sys.argv[1])))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user without asking")
def test_a_command_of_another_user_is_waited_for_when_it_cant_be_asked_to_end(tmp_path: Path) -> None:
    run = RunStore(tmp_path / "state").create({"name": "a", "kind": "exec", "command": ["sleep", "1"]})
    control.drop(run, "stop", {"now": False})
    ended = subprocess.run([sys.executable, "-c", OF_ANOTHER, str(run.dir)], check=False)
    types = [record["type"] for record in tail(run.events_path, 10)]
    assert ended.returncode == 0 and types[-3:] == ["warning", "control", "end"]
