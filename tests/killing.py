"""Kills real trainers and supervisors at random moments and checks what jobs promise after each; seeded, so repeatable.

One process (the forge) has torch and its family imported and has computed nothing. It forks a real supervisor, and that
forks real trainers instead of starting an interpreter for each: everything else is as in life. Every process notes,
outside the run, each record that its journal has acknowledged; all of these must be in the journal after the kill.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY))

from llamahome_tui.config.places import Places  # noqa: E402
from llamahome_tui.jobs import control, spawn  # noqa: E402
from llamahome_tui.jobs.identity import start_ticks  # noqa: E402
from llamahome_tui.jobs.journal import JournalWriter, Record, read, tail  # noqa: E402
from llamahome_tui.jobs.locks import holder  # noqa: E402
from llamahome_tui.jobs.records import encode  # noqa: E402
from llamahome_tui.jobs.recovery import newest_complete_checkpoint  # noqa: E402
from llamahome_tui.jobs.status import Derived, Status, derive, tell  # noqa: E402
from llamahome_tui.jobs.store import Run, RunStore  # noqa: E402

VICTIMS = ("trainer", "supervisor", "both")
DEATH_SEEN_S = 2.0  # seconds within which a supervised death must have its status
PATIENCE_S = 60.0  # seconds; only a bug, or a very busy machine, waits so long


class Broken(AssertionError):
    """A promise that did not hold."""


def until(holds: Callable[[], Any], what: str, timeout: float = PATIENCE_S) -> Any:
    """The first true value of `holds()`."""
    limit = time.monotonic() + timeout
    while not (value := holds()):
        if time.monotonic() > limit:
            raise Broken(f"{what}: not within {timeout} s")
        time.sleep(0.002)
    return value


def exits(run: Run) -> int:
    """How many deaths its supervisors have journalled."""
    return len(tail(run.supervisor_path, 1 << 20, {"exit"}))


def takings(run: Run) -> int:
    """How often a supervisor has started a trainer or adopted one."""
    return len(tail(run.supervisor_path, 1 << 20, {"spawn", "adopt"}))


# The forge's side.


def serve() -> None:
    """Fork a supervisor for every line on stdin."""
    import peft  # noqa: F401
    import tokenizers  # noqa: F401
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, LlamaForCausalLM  # noqa: F401

    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    from llamahome_tui.jobs import supervisor  # noqa: F401
    from llamahome_tui.training.trainer import main, recipe  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for these: they outlive whom they serve
    for line in sys.stdin:
        question = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _be_supervisor(Path(question["run"]), question["environ"])
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _be_supervisor(run_dir: Path, environ: dict[str, str]) -> None:
    from llamahome_tui.jobs.supervisor import supervise

    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ.update(environ)
        _redirect(os.open(run_dir / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        _witness(run_dir)
        code = supervise(Run.open(run_dir), start_child=_fork_trainer)
    except BaseException:
        import traceback

        traceback.print_exc()
        raise
    finally:
        sys.stderr.flush()
        os._exit(code)


def _fork_trainer(order: spawn.Order) -> int:
    """What `spawn.spawn_child` does, without the interpreter's start."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        os.environ.clear()
        os.environ.update(order.environ)
        os.chdir(order.cwd)
        _redirect(order.out_fd)
        kept = {0, 1, 2, order.progress_fd, _witness_fd}
        for name in list(Path("/proc/self/fd").iterdir()):
            if int(name.name) not in kept:
                with suppress(OSError):
                    os.close(int(name.name))
        from llamahome_tui.training.trainer.main import main

        code = main(Path(order.argv[-1]))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _redirect(out: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (out, 1), (out, 2)):
        os.dup2(source, target)


_witness_fd = -1


def _witness(run_dir: Path) -> None:
    """From here on every acknowledged record of this process and its forks is noted beside the run."""
    global _witness_fd
    _witness_fd = os.open(witness_path(run_dir), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    fd, append = _witness_fd, JournalWriter.append

    def noted(self: JournalWriter, type: str, *, sync: bool = False, **fields: Any) -> Record:
        record = append(self, type, sync=sync, **fields)
        if not self.behind:
            os.write(fd, f"{self.path.name} {hashlib.sha1(encode(record)).hexdigest()}\n".encode())
        return record

    JournalWriter.append = noted  # type: ignore[method-assign]  # this process only, and it does what it did


def witness_path(run_dir: Path) -> Path:
    return run_dir.parent.parent / f"{run_dir.name}.witness"


# The test's side.


@dataclass
class Forge:
    """The pre-imported process, seen from outside."""

    environ: dict[str, str]
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
            env={**self.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )  # fmt: skip

    def supervise(self, run: Run) -> int:
        """Fork a supervisor for the run; gives its pid. It may lose the lock, like any other."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"run": str(run.dir), "environ": self.environ}) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Tally:
    """What a campaign has seen."""

    scenarios: int = 0
    kills: int = 0
    records: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    victims: Counter[str] = field(default_factory=Counter)
    follow_ups: Counter[str] = field(default_factory=Counter)
    slowest_verdict_s: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return {
            "scenarios": self.scenarios, "sigkills": self.kills, "acknowledged_records_checked": self.records,
            "victims": dict(self.victims), "statuses": dict(self.statuses), "follow_ups": dict(self.follow_ups),
            "slowest_verdict_s": round(self.slowest_verdict_s, 3),
        }  # fmt: skip


class Campaign:
    """Kill after kill on runs that are resumed again and again."""

    ROUNDS_OF_A_RUN = 12

    def __init__(
        self, start: Callable[[Run], object], make_run: Callable[[int], Run], seed: int, *, longest_s: float = 1.5,
        witnessed: bool = True,
    ) -> None:  # fmt: skip
        self._start = start
        self._make_run = make_run
        self._random = random.Random(seed)
        self._longest_s = longest_s
        self._witnessed = witnessed
        self._run: Run | None = None
        self._rounds = 0
        self.tally = Tally()

    def round(self) -> str:
        """One scenario: start or resume, kill, check, follow up; gives a line about it. Raises Broken."""
        run = self._next_run()
        victim = self._random.choice(VICTIMS)
        # A third of the kills falls into the first moments, where most things happen.
        wait = self._random.uniform(0, self._longest_s / self._random.choice((1, 1, 10)))
        resumed_from = self._begin(run)
        time.sleep(wait)
        seen = derive(run).status
        before = exits(run)
        try:
            killed = self._kill(run, victim)
            found = self._check(run, before, killed)
            after = self._follow_up(run, found)
            self._check_resume(run, resumed_from)
            self._check_journals(run)
        except Broken as broken:
            raise Broken(
                f"{victim} killed after {wait:.3f} s ({seen}), run {run.dir}: {broken}; {derive(run)}"
            ) from None
        self.tally.scenarios += 1
        self.tally.victims[victim] += 1
        self.tally.statuses[found.status.value] += 1
        self.tally.follow_ups[after] += 1
        return f"{victim:<10} after {wait:.2f} s, {seen.value:>12} -> {found.status.value:<12} then {after}"

    def _next_run(self) -> Run:
        self._rounds += 1
        if self._run is None or self._rounds % self.ROUNDS_OF_A_RUN == 0:
            self._run = self._make_run(self._rounds)
        return self._run

    def _begin(self, run: Run) -> int | None:
        """Start or resume; gives the step that a resume must go on from."""
        if run.live:
            raise Broken("it is still live before it is started")
        step = None
        if tell(run).spawn is not None:
            newest = newest_complete_checkpoint(run)
            step = newest.step if newest else 0
            control.drop(run, "resume")
        self._start(run)
        until(lambda: run.live, "a supervisor")
        return step

    def _kill(self, run: Run, victim: str) -> set[str]:
        """SIGKILL the victim, as soon as there is one; gives who was hit."""
        wanted = {"trainer": ["trainer"], "supervisor": ["supervisor"], "both": ["trainer", "supervisor"]}[victim]
        self._random.shuffle(wanted)
        locks = {"trainer": run.trainer_lock, "supervisor": run.supervisor_lock}
        until(lambda: all(holder(locks[who]) for who in wanted), f"{wanted} to kill")
        pids = {who: holder(locks[who]) for who in wanted}
        hit = set()
        for who in wanted:
            pid = pids[who]
            if pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self.tally.kills += 1
                    hit.add(who)
            time.sleep(self._random.choice((0, 0, 0.001, 0.01)))
        for who in hit:
            # A process is dead when its last thread is: until then its first one may be a zombie that holds the lock.
            until(
                lambda who=who: start_ticks(pids[who]) is None and holder(locks[who]) != pids[who],
                f"the death of the {who}",
                10,
            )
        return hit

    def _check(self, run: Run, before: int, hit: set[str]) -> Derived:
        """The right status after the kill."""
        if "supervisor" not in hit:
            begun = time.monotonic()
            until(lambda: exits(run) > before, "the death's record", DEATH_SEEN_S)
            self.tally.slowest_verdict_s = max(self.tally.slowest_verdict_s, time.monotonic() - begun)
            found = derive(run)
            (exit_,) = tail(run.supervisor_path, 1, {"exit"})
            if exit_["signal"] != "SIGKILL":
                raise Broken(f"its exit was journalled as {exit_}")
            if not exit_["retry"] and (
                found.status is not Status.FAILED or found.signal != "SIGKILL" or not found.hint
            ):
                raise Broken(f"a trainer killed under its supervisor is {found}")
            if exit_["retry"] and found.status.ended:
                raise Broken(f"a trainer that is tried again is {found}")
            return found
        if "trainer" not in hit:
            # A trainer that was forked and has no lock yet is on its way: it is either there soon, or was never begun.
            found = until(lambda: got if (got := derive(run)).adoptable else None, "something to adopt", 10)
            if found.status not in (Status.UNSUPERVISED, Status.QUEUED):
                raise Broken(f"a run whose supervisor was killed is {found}")
            return found
        found = derive(run)
        story = tell(run)
        if story.exit is not None:
            allowed = {Status.UNSUPERVISED} if story.retry_due else {Status.FAILED}
        elif story.spawn is None:
            allowed = {Status.QUEUED}
        else:
            # Its supervisor may have been between the fork and the spawn's record: then the resume is still due.
            allowed = {Status.LOST, Status.QUEUED}
        if found.status not in allowed:
            raise Broken(f"with both killed it is {found}, not {allowed}")
        return found

    def _follow_up(self, run: Run, found: Derived) -> str:
        """Adoption, stop, a second death; whatever was left, nobody holds a lock in the end."""
        if found.status.ended:
            until(lambda: not run.live, "free locks", 10)
            return "resume"
        if derive(run).supervisor_pid is not None:
            return self._stop(run, "stop of a retry")
        choice = self._random.choice(("adopt and stop", "adopt and kill", "stop without a supervisor"))
        if choice == "stop without a supervisor" and derive(run).trainer_pid is None:
            choice = "adopt and stop"
        if choice == "stop without a supervisor":
            return self._stop(run, choice)
        before, taken = tail(run.events_path, 1), takings(run)
        self._start(run)
        until(lambda: takings(run) > taken, "an adopter")
        until(lambda: derive(run).status in (Status.RUNNING, Status.FAILED), "the adopted run")
        until(lambda: tail(run.events_path, 1) != before, "training that goes on")
        if choice == "adopt and stop":
            return self._stop(run, choice)
        pid = until(lambda: holder(run.trainer_lock), "the trainer")
        deaths = exits(run)
        os.kill(pid, signal.SIGKILL)
        self.tally.kills += 1
        until(lambda: exits(run) > deaths, "the record of an adopted death", DEATH_SEEN_S)
        (exit_,) = [record for record in read(run.supervisor_path) if record["type"] == "exit"][deaths:][:1]
        if exit_["adopted"] and exit_["signal"] is not None:
            raise Broken(f"nobody can have seen how an adopted trainer died: {exit_}")
        if exit_["retry"]:
            return self._stop(run, choice)
        until(lambda: not run.live, "free locks", 10)
        if derive(run).status is not Status.FAILED:
            raise Broken(f"an adopted trainer that was killed is {derive(run)}")
        return choice

    def _stop(self, run: Run, what: str) -> str:
        asked = control.drop(run, "stop")
        until(lambda: derive(run).status.ended and not run.live, "a stop")
        if derive(run).status not in (Status.STOPPED, Status.FAILED):
            raise Broken(f"a stopped run is {derive(run)}")
        answers = [
            r for p in (run.events_path, run.supervisor_path) for r in tail(p, 64, {"control"}) if r["request"] == asked
        ]
        if len(answers) != 1:
            raise Broken(f"the stop has {len(answers)} answers: {answers}")
        return what

    def _check_resume(self, run: Run, step: int | None) -> None:
        """The attempt that was resumed went on from the newest complete checkpoint, if it came so far."""
        starts = tail(run.events_path, 1, {"start"})
        spawned = tail(run.supervisor_path, 1, {"spawn"})
        if step is None or not starts or not spawned or starts[0]["attempt"] != spawned[0]["attempt"]:
            return
        if spawned[0].get("request") and starts[0]["from_step"] != step:
            raise Broken(f"resumed from step {starts[0]['from_step']}, the newest complete checkpoint was {step}")

    def _check_journals(self, run: Run) -> None:
        """No number is missing, and every record that was acknowledged is there, byte for byte."""
        for path in (run.events_path, run.supervisor_path):
            numbers = [record["seq"] for record in read(path)]
            if numbers != list(range(1, len(numbers) + 1)):
                raise Broken(f"{path.name} has a gap: {numbers[-20:]}")
        if not self._witnessed:
            return
        there = set()
        for path in (run.events_path, run.supervisor_path):
            lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
            there.update(f"{path.name} {hashlib.sha1(line).hexdigest()}" for line in lines)
        noted = witness_path(run.dir).read_text().split("\n")
        whole = [line for line in noted[:-1] if len(line.split(" ")[-1]) == 40]
        lost = [line for line in whole if line not in there]
        if lost:
            raise Broken(f"{len(lost)} of {len(whole)} acknowledged records are lost")
        self.tally.records += len(whole)


def training_runs(places: Places, folder: Path) -> Callable[[int], Run]:
    """Makes runs of a real, tiny LoRA training that would take for ever; every other one is retried when it fails."""
    from llamahome_tui.training.spec import Spec
    from tests.tinymodel import write_chats, write_model

    model, data = write_model(folder / "model"), write_chats(folder / "chats.jsonl", 64)
    values: dict[str, Any] = Spec(name="kill").to_dict()
    for table, keys in {
        "model": {"id": str(model)},
        "data": {"train": [str(data)], "eval": 8},
        "lora": {"r": 4, "alpha": 8.0},
        "training": {"max_steps": 100_000, "global_batch": 4, "log_every": 1, "learning_rate": 0.001},
        "checkpoint": {"every_steps": 4, "every_minutes": 0.0},
        "evaluation": {"every_steps": 50},
    }.items():
        values[table] |= keys

    def make(number: int) -> Run:
        spec = json.loads(json.dumps(values))
        spec["recovery"] |= {"retries": 3 if number % 2 else 0, "grace_s": 30.0, "stall_s": 0}
        job = {
            "name": f"kill-{number}",
            "kind": "train",
            "spec": spec,
            "recovery": {"backoff_s": 0.2},
            "cwd": str(folder),
        }
        return RunStore(places).create(job)

    return make


if __name__ == "__main__":
    serve()
