"""`python -m llamahome_tui.workers.hub_mirror`: sends checkpoints to a Hub repo and fetches them, one request a line.

It alone of a run's processes has the Hub's token: from a file that its supervisor handed down, or a saved login. When
whoever asks is gone it is gone too, whatever it was about; a commit is whole or not there.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from llamahome_tui.config.secrets import redact
from llamahome_tui.errors import LlamaHomeError
from llamahome_tui.jobs.child import HUB_FD
from llamahome_tui.training import hub_mirror

_NICE: Final = 10  # what is hashed and sent takes no core from training


def main() -> int:
    """Answer requests until there are no more."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # they are for the trainer, whose last checkpoint is still to be sent
    token = _handed_down()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    requests: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    os.environ.update(HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_TELEMETRY="1")
    while True:
        answers.write(json.dumps(_answer(json.loads(requests.get()), token)) + "\n")
        answers.flush()


def _answer(request: Mapping[str, Any], token: str) -> dict[str, Any]:
    try:
        from llamahome_tui.hub.repo import open_repo

        repo = open_repo(request["repo"], os.environ, token)
        if request["do"] == "send":
            source, run = Path(request["source"]), request["run"]
            return {"done": hub_mirror.send(repo, run, source, request["keep"], request["best"])}
        found, passed = hub_mirror.fetch(repo, request["name"], Path(request["into"]))
        return {"found": {"step": found.step, "run": found.run} if found else None, "passed": passed}
    except LlamaHomeError as error:
        return {"failed": error.message, "code": error.error_code, "hint": error.hint, "exit": error.exit}
    except Exception as error:  # noqa: BLE001 - the wall of this process: whoever asks is told
        sys.stderr.write(redact(traceback.format_exc(), (token,) if token else ()))
        said = redact(f"{type(error).__name__}: {error}", (token,) if token else ())
        return {"failed": said[:300], "code": "hub.crashed", "hint": "", "exit": 1}


def _handed_down() -> str:
    """The token in the file that is open under HUB_FD; "" where there is none, and a saved login counts."""
    fd = os.environ.pop(HUB_FD, "")
    try:
        return os.pread(int(fd), 4096, 0).decode("ascii").strip() if fd.isdigit() else ""
    except (OSError, ValueError):
        return ""


def _listen(requests: queue.Queue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
