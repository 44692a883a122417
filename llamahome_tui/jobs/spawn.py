"""Starts supervisors and trainers so that they outlive the terminal; no secret goes into what they are given."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import llamahome_tui
from llamahome_tui.errors import LlamaHomeError, TrainingError
from llamahome_tui.hub.names import is_hub
from llamahome_tui.jobs import leftovers
from llamahome_tui.jobs.child import ATTEMPT, FIRST_RANK, HUB_FD, PROGRESS_FD
from llamahome_tui.jobs.locks import holder
from llamahome_tui.jobs.status import derive
from llamahome_tui.jobs.store import Run, RunStore

SINK_CREDENTIALS: Final = {"wandb": ("WANDB_API_KEY",)}
HUB_CREDENTIALS: Final = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")  # for a supervisor, never for a trainer
_CHILDREN: Final = {"exec": "llamahome_tui.jobs.exec_child", "export": "llamahome_tui.workers.export"}
_UP_IN: Final = 20.0  # seconds a new supervisor may take before it has its lock
# For another interpreter: our package is found last, so that everything else there stays its own.
_BOOT: Final = "import runpy,sys; sys.path.append({!r}); runpy.run_module({!r}, run_name='__main__', alter_sys=True)"

# Whoever starts a run from inside another job's process: that one's place among its ranks is not the run's.
_OF_TORCHRUN: Final = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID")


@dataclass(frozen=True, slots=True)
class Order:
    """A child to be started: what, with which environment, and where its output and its wake-ups go."""

    argv: tuple[str, ...]
    environ: Mapping[str, str]
    cwd: Path
    out_fd: int
    progress_fd: int
    own_session: bool
    hub_fd: int | None = None  # see `token_file`


def child_command(job: Mapping[str, Any], run_dir: Path) -> tuple[str, ...]:
    """The command line of a job's own process. It names the run's folder and nothing else: argv can be read by all."""
    module = _CHILDREN.get(str(job.get("kind")), "llamahome_tui.training.trainer")
    python = _launch(job).get("python") or ""
    if not python or job.get("kind") == "exec" or Path(str(python)) == Path(sys.executable):
        return (sys.executable, "-m", module, str(run_dir))
    return (str(python), "-c", _BOOT.format(str(_home()), module), str(run_dir))


def again(module: str, run_dir: Path) -> tuple[str, ...]:
    """The command line of another process for a job whose own process runs in this interpreter."""
    return (sys.executable, "-c", _BOOT.format(str(_home()), module), str(run_dir))


def child_environ(
    run: Run, environ: Mapping[str, str], *, attempt: int, progress_fd: int, hub_fd: int | None = None
) -> dict[str, str]:
    """The environment of a job's own process: marked with its run, without secrets but those of its sinks."""
    marked = {PROGRESS_FD: str(progress_fd), ATTEMPT: str(attempt), "PYTHONUNBUFFERED": "1"}
    if hub_fd is not None:
        marked[HUB_FD] = str(hub_fd)
    return {**_own(environ, _sink_credentials(run)), **marked, **leftovers.marks(run)}


def token_file(run: Run, environ: Mapping[str, str]) -> int | None:
    """A file in memory with the Hub's token, for a run that mirrors to the Hub and an environment that has one.

    The trainer hands it on unread to the one process that talks to the Hub. Whoever calls closes it.
    """
    token = next(filter(None, (environ.get(name, "").strip() for name in HUB_CREDENTIALS)), "")
    if not token or not _mirrors_to_hub(run):
        return None
    fd = os.memfd_create("llamahome-hub", os.MFD_CLOEXEC)
    os.write(fd, token.encode())
    return fd


def spawn_child(order: Order) -> int:
    """Start the child in a session of its own (or a process group) and give its pid; the caller reaps it."""
    import subprocess

    process = subprocess.Popen(
        order.argv,
        cwd=order.cwd,
        env=dict(order.environ),
        stdin=subprocess.DEVNULL,
        stdout=order.out_fd,
        stderr=order.out_fd,
        pass_fds=(order.progress_fd,) if order.hub_fd is None else (order.progress_fd, order.hub_fd),
        start_new_session=order.own_session,
        process_group=None if order.own_session else 0,
    )
    # The supervisor looks before it reaps; subprocess must not reap behind its back.
    process.returncode = 0
    return process.pid


def launch(run: Run, environ: Mapping[str, str], *, wait: bool = True) -> int:
    """Start a detached supervisor for the run and give its pid; with `wait` it holds its lock when this returns.

    When another process looks after the run already, that is as good. Raises LlamaHomeError when none comes up.
    """
    import subprocess  # and threads: whoever only looks at runs starts nothing
    import threading

    log = run.dir / "supervisor.log"
    argv = [*_scope(environ), sys.executable, "-m", "llamahome_tui.jobs.supervisor", str(run.dir)]
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        process = subprocess.Popen(
            argv,
            cwd="/",
            env=_own(environ, _sink_credentials(run) + (HUB_CREDENTIALS if _mirrors_to_hub(run) else ())),
            stdin=subprocess.DEVNULL,
            stdout=fd,
            stderr=fd,
            start_new_session=True,
        )
    finally:
        os.close(fd)
    # It outlives this process; while both live somebody has to reap it.
    threading.Thread(target=process.wait, name=f"reap {run.id}", daemon=True).start()
    deadline = time.monotonic() + _UP_IN
    while wait and holder(run.supervisor_lock) is None:
        if process.returncode in (0, TrainingError.exit_code):
            break  # the run has ended already, well or badly, or another looks after it
        if process.returncode is not None or time.monotonic() >= deadline:
            raise LlamaHomeError(
                f"no supervisor came up for {run.id}" + _last_line(log),
                code="run.no_supervisor",
                hint=f"see {log}, then: llamahome --batch runs resume {run.id}",
            )
        time.sleep(0.01)
    return process.pid


def ensure_supervised(store: RunStore, environ: Mapping[str, str] | None = None) -> list[str]:
    """Start a supervisor for every run that needs one and has none; gives their ids. Does not wait for them."""
    adopted = []
    for run in store.list():
        if holder(run.supervisor_lock) is None and derive(run).adoptable:
            launch(run, os.environ if environ is None else environ, wait=False)
            adopted.append(run.id)
    return adopted


def sweep_orphans(store: RunStore, environ: Mapping[str, str] | None = None) -> list[str]:
    """Have the workers killed that ended runs have left behind, each by a supervisor of its run; gives the ids."""
    swept = []
    for run_id in {run_id for run_id, folder, _ in leftovers.marked() if Path(folder).parent == store.runs.resolve()}:
        run = Run(run_id, store.runs / run_id)
        derived = derive(run) if run.dir.is_dir() else None
        if derived is not None and derived.status.ended and derived.supervisor_pid is None and not derived.remote:
            launch(run, os.environ if environ is None else environ, wait=False)
            swept.append(run_id)
    return swept


def _launch(job: Mapping[str, Any]) -> Mapping[str, Any]:
    spec = job.get("spec")
    for place in (spec.get("launch") if isinstance(spec, dict) else None, job.get("launch")):
        if isinstance(place, dict) and place.get("python"):
            return place
    return {}


def _home() -> Path:
    return Path(llamahome_tui.__file__).resolve().parent.parent


def _sink_credentials(run: Run) -> tuple[str, ...]:
    """The variables that the sinks of this run may need, which its processes hand on to those alone."""
    names = _table(run, "report").get("to")
    return tuple(key for name in names or () for key in SINK_CREDENTIALS.get(name, ()))


def _mirrors_to_hub(run: Run) -> bool:
    return is_hub(str(_table(run, "checkpoint").get("mirror", "")))


def _table(run: Run, name: str) -> Mapping[str, Any]:
    """A table of the run's spec; what is wrong with its spec.json is for the supervisor to say."""
    try:
        spec = run.effective_job().get("spec")
    except LlamaHomeError:
        return {}
    table = spec.get(name) if isinstance(spec, dict) else None
    return table if isinstance(table, dict) else {}


def _own(environ: Mapping[str, str], keep: Sequence[str] = ()) -> dict[str, str]:
    """`environ` without secrets but those to `keep`, and without the marks of a run that this process is part of."""
    from llamahome_tui.config.secrets import strip_secrets

    foreign = {leftovers.RUN, leftovers.RUN_DIR, PROGRESS_FD, ATTEMPT, FIRST_RANK, *_OF_TORCHRUN}
    own = {key: value for key, value in strip_secrets(environ).items() if key not in foreign}
    own |= {key: environ[key] for key in keep if key in environ}
    import site

    home = str(_home())
    if not any(home == str(Path(folder).resolve()) for folder in site.getsitepackages()):
        # From a checkout: the children start in other folders and must find the same code.
        parts = [part for part in own.get("PYTHONPATH", "").split(os.pathsep) if part and part != home]
        own["PYTHONPATH"] = os.pathsep.join([*parts, home])
    return own


def _scope(environ: Mapping[str, str]) -> Sequence[str]:
    """A scope of its own where systemd would kill everything of the user's session at logout."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    there = bool(environ.get("XDG_SESSION_ID")) and (Path(runtime) / "systemd" / "private").exists()
    if not there:
        return ()
    import shutil
    import subprocess

    run, ask = shutil.which("systemd-run"), shutil.which("busctl")
    if run is None or ask is None:
        return ()
    login = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
    try:
        said = subprocess.run(
            [ask, "get-property", *login, "KillUserProcesses"], capture_output=True, timeout=2, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return (run, "--user", "--scope", "--quiet", "--collect", "--") if said.stdout.strip() == b"b true" else ()


def _last_line(log: Path) -> str:
    try:
        lines = log.read_bytes()[-2000:].decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return f": {lines[-1]}" if lines else ""
