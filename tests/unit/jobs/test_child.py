"""What a job's own process writes when it fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from llamahome_tui.jobs.journal import JournalWriter
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
