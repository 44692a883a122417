"""A trainer without torch for tests of jobs: the real Child, real checkpoints, and faults on demand.

The job's spec says under "toy": steps, step_s, checkpoint (every n steps), beacon (a file that gets the newest step,
on whatever disk it lies), pad (bytes in each record), worker (leave a data worker in a session of its own), and faults
as {step: word}: hang, hang_deaf (SIGTERM is ignored too), kill, exit3, error, eat (all the memory of the cgroup in
the file that "cgroup" names).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from llamahome_tui.jobs.child import Child
from llamahome_tui.jobs.recovery import newest_complete_checkpoint, set_aside_partials, write_complete


def write_python(folder: Path) -> Path:
    """An "interpreter" for `[launch] python` that runs this program in the trainer's place."""
    path = folder / "toy-python"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).resolve()}" "$3"\n')
    path.chmod(0o700)
    return path


def toy_job(folder: Path, name: str = "toy", **toy: Any) -> dict[str, Any]:
    """A job for this program. `recovery` goes to the job, everything else to the toy."""
    recovery = toy.pop("recovery", {"retries": 0})
    spec = {"toy": toy, "launch": {"python": str(write_python(folder))}, "recovery": recovery}
    return {"name": name, "kind": "train", "spec": spec, "cwd": str(folder)}


def stuck_in_the_loop() -> None:
    """The name that has to stand in out.log."""
    while True:
        time.sleep(0.05)


def main(run_dir: Path) -> int:
    child = Child.enter(run_dir)
    toy: dict[str, Any] = child.job["spec"]["toy"]
    set_aside_partials(child.run)
    newest = newest_complete_checkpoint(child.run)
    step = newest.step if newest else 0
    child.start(step, True, "resumed" if newest else "first start")
    if toy.get("worker"):
        _leave_a_worker(Path(toy["worker"]))
    while step < toy.get("steps", 10**9):
        if child.stopping or child.pausing:
            _save(child, step)
            return child.end("stopped" if child.stopping else "paused", totals={"steps": step})
        for request in child.requests():
            child.answer(request, "applied")
        step += 1
        _fault(child, toy, step)
        time.sleep(toy.get("step_s", 0.005))
        child.emit("metrics", step=step, loss=1.0 / step, pad="x" * toy.get("pad", 0))
        if "beacon" in toy:
            Path(toy["beacon"]).write_text(str(step))
        if step % toy.get("checkpoint", 10) == 0:
            _save(child, step)
    return child.end("completed", totals={"steps": step})


def _save(child: Child, step: int) -> None:
    folder = child.run.checkpoints_dir / f"step-{step}"
    if folder.exists():
        return
    try:
        folder.mkdir()
        (folder / "weights").write_bytes(b"w" * 100)
        size = write_complete(folder, step)
    except OSError as error:
        child.emit("warning", what="checkpoint", message=str(error))
        return
    child.emit("checkpoint", sync=True, step=step, path=f"checkpoints/step-{step}", bytes=size)
    for old in sorted(child.run.checkpoints_dir.glob("step-*"), key=lambda path: path.stat().st_mtime)[:-3]:
        for file in old.iterdir():
            file.unlink()
        old.rmdir()


def _fault(child: Child, toy: dict[str, Any], step: int) -> None:
    word = toy.get("faults", {}).get(str(step), "")
    if word == "eat":
        Path(toy["cgroup"]).write_text(str(os.getpid()))
        eaten = []
        while True:
            eaten.append(bytearray(os.urandom(1 << 12) * 256))
    if word == "hang_deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if word.startswith("hang"):
        stuck_in_the_loop()
    if word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "exit3":
        os._exit(3)
    if word == "error":
        child.fail(
            "toy.broken", "the toy broke", exception="Toy", hint="buy another: llamahome --batch runs list", step=step
        )
        sys.exit(1)


def _leave_a_worker(note: Path) -> None:
    if os.fork() == 0:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        note.write_text(str(os.getpid()))
        while True:
            time.sleep(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
