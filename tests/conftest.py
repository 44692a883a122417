"""What all tests share: a home of their own, the real command in a real process, and no process left behind."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from llamahome_tui.config.places import Places
    from llamahome_tui.context import Context

REPOSITORY = Path(__file__).resolve().parents[1]
COMMAND = (sys.executable, "-m", "llamahome_tui")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Where tests run side by side (`-n`), whoever measures has the machine to itself."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if item.get_closest_marker("performance") else fcntl.LOCK_SH)
        try:
            return (yield)
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # closing alone would leave it to the children that a test has forked


@dataclass(frozen=True)
class Finished:
    """A `llamahome` process that has ended."""

    status: int
    out: str
    err: str
    seconds: float

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Stdout as JSON Lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def last(self) -> dict[str, Any]:
        """The closing line of `--json`: a result or an error."""
        return self.lines[-1]

    @property
    def data(self) -> Any:
        """The data of the closing result; fails the test when it was an error."""
        assert self.last["type"] == "result", self.last
        return self.last["data"]


def clean_environ(home: Path) -> dict[str, str]:
    """This process's environment without anything that could lead a test to the real home, and with one of its own."""
    foreign = ("LLAMAHOME_", "HF_", "XDG_", "HUGGING", "TRANSFORMERS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    # Children start as a user's would: from compiled modules, and with the size that their own terminal has.
    for name in ("NO_COLOR", "PYTHONDONTWRITEBYTECODE", "COLUMNS", "LINES"):
        kept.pop(name, None)
    return {
        **kept,
        "LLAMAHOME_HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "HOME": str(home / "user"),
        "HF_HUB_OFFLINE": "1",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin at a barrier starve their neighbours on a shared machine
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
        "PYTHONPATH": str(REPOSITORY),
    }


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty LlamaHome home; this process and its children see no other, and what still runs in it is ended."""
    folder = tmp_path / "home"
    (folder / "user").mkdir(parents=True)
    work = tmp_path / "work"
    work.mkdir()
    for name in list(os.environ):
        if name not in (environ := clean_environ(folder)):
            monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(work)
    yield folder
    end_processes_of(folder)


@pytest.fixture
def environ(home: Path) -> dict[str, str]:
    """The environment for a child process that lives in `home`."""
    return clean_environ(home)


@pytest.fixture
def places(home: Path) -> Places:
    """The folders of `home`, made."""
    from llamahome_tui.config.places import Places

    found = Places.from_environ(os.environ)
    found.ensure()
    return found


@pytest.fixture
def context(home: Path) -> Context:
    """What an operation is given when it is called in this process."""
    from llamahome_tui.start import surroundings

    return surroundings(os.environ, "batch")[0]


RunCli = Callable[..., Finished]


@pytest.fixture
def run_cli(home: Path) -> RunCli:
    """The real command in a real process: `run_cli("runs", "list", "--json")`. Stdin is empty unless text is given."""

    def run(
        *words: str,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 120,
        command: Sequence[str] = (*COMMAND, "--batch"),
    ) -> Finished:
        began = time.monotonic()
        done = subprocess.run(
            [*command, *words],
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            env={**clean_environ(home), **(env or {})},
            cwd=cwd or Path.cwd(),
            timeout=timeout,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr, time.monotonic() - began)

    return run


@pytest.fixture
def start_cli(home: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """The real command, still running: a Popen with pipes, in a session of its own; ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, env: Mapping[str, str] | None = None, **more: Any) -> subprocess.Popen[str]:
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            [*COMMAND, "--batch", *words],
            text=True,
            env={**clean_environ(home), **(env or {})},
            start_new_session=True,
            **(pipes | more),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def tmux() -> str:
    """Path of tmux; skips without it, fails where LLAMAHOME_TESTS_NEED_TMUX is set."""
    found = shutil.which("tmux")
    if found is None:
        if os.environ.get("LLAMAHOME_TESTS_NEED_TMUX"):
            pytest.fail("tmux is needed here and is not installed")
        pytest.skip("tmux is not installed")
    return found


def eventually(holds: Callable[[], Any], what: str = "the condition", timeout: float = 20, every: float = 0.02) -> Any:
    """The first true value of `holds()`; fails the test when there is none in `timeout` seconds."""
    limit = time.monotonic() + timeout
    while True:
        value = holds()
        if value:
            return value
        if time.monotonic() > limit:
            pytest.fail(f"{what} did not come true in {timeout} s")
        time.sleep(every)


def processes_of(home: Path) -> list[int]:
    """Processes, other than this one, whose environment names `home`."""
    wanted = f"LLAMAHOME_HOME={home}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def end_processes_of(home: Path) -> None:
    """Kill what a test left running in its own home (supervisors outlive their starter by design)."""
    for _ in range(3):
        left = processes_of(home)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not left:
            return
        time.sleep(0.05)
