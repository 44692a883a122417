"""The real program in a real terminal: it opens, shows a run, dies, and the run goes on and is there again."""

from __future__ import annotations

import json
import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, RunCli, clean_environ, eventually

# Prints as a Hugging Face Trainer does, which makes its lines the run's metrics.
TICKER = """
import time
for step in range(1, 2000):
    print({"loss": 3.0 / (1 + step / 50), "learning_rate": 1e-4, "epoch": step / 100}, flush=True)
    time.sleep(0.05)
"""


class Terminal:
    """One tmux server of its own with one window."""

    def __init__(self, tmux: str, home: Path, width: int = 80, height: int = 24) -> None:
        self._tmux = [tmux, "-L", f"llamahome-{os.getpid()}-{time.monotonic_ns()}", "-f", "/dev/null"]
        self._environ = {**clean_environ(home), "TERM": "xterm-256color"}
        self._environ.pop("TMUX", None)
        self._call("new-session", "-d", "-x", str(width), "-y", str(height), "-s", "t", "sh", env=self._environ)

    def _call(self, *words: str, env: dict[str, str] | None = None) -> str:
        done = subprocess.run([*self._tmux, *words], capture_output=True, text=True, timeout=20, env=env, check=False)
        return done.stdout

    def run(self, *words: str) -> None:
        """Type a command line of the program."""
        command = shlex.join([sys.executable, "-m", "llamahome_tui", *words])
        self._call("send-keys", "-t", "t", f"cd {REPOSITORY}; clear; {command}; echo status $?", "Enter")

    def press(self, *keys: str) -> None:
        """Press keys by tmux's names."""
        for key in keys:
            self._call("send-keys", "-t", "t", key)
            time.sleep(0.05)

    def screen(self) -> str:
        """What is on the screen."""
        return self._call("capture-pane", "-p", "-t", "t")

    def shows(self, *texts: str, timeout: float = 30) -> str:
        """Wait until all these texts are on the screen."""
        return str(
            eventually(
                lambda: seen if all(text in (seen := self.screen()) for text in texts) else "",
                f"{texts} on the screen",
                timeout,
            )
        )

    def resize(self, width: int, height: int) -> None:
        """Give the window another size."""
        self._call("resize-window", "-t", "t", "-x", str(width), "-y", str(height))

    def program(self) -> int:
        """The pid of the program in the window."""
        shell = int(self._call("display-message", "-p", "-t", "t", "#{pane_pid}"))
        return int(Path(f"/proc/{shell}/task/{shell}/children").read_text().split()[0])

    def close(self) -> None:
        """Kill the terminal with everything in it."""
        self._call("kill-server")


@pytest.fixture
def terminal(tmux: str, home: Path) -> Iterator[type[Terminal]]:
    """Makes terminals, and closes them after the test."""
    made: list[Terminal] = []

    class Made(Terminal):
        def __init__(self, width: int = 80, height: int = 24) -> None:
            super().__init__(tmux, home, width, height)
            made.append(self)

    yield Made  # type: ignore[misc]
    for one in made:
        one.close()


@pytest.fixture
def ticker(run_cli: RunCli) -> str:
    """A live run that prints metrics; its id."""
    started = run_cli(
        "runs", "exec", "--name", "ticker", "--detach", "--json", "--", sys.executable, "-u", "-c", TICKER
    )
    assert started.status == 0, started.err
    return str(started.data["id"])


def events(home: Path, run: str) -> list[dict[str, object]]:
    path = home / "state" / "runs" / run / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def gapless(home: Path, run: str) -> None:
    numbers = [record["seq"] for record in events(home, run)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_open_a_run_kill_the_terminal_and_find_it_again(
    terminal: type[Terminal], ticker: str, home: Path, run_cli: RunCli
) -> None:
    first = terminal()
    first.run()
    first.shows("Training", "ticker", "running")
    first.press("Enter")
    first.shows("ticker", "loss", "Events", "Log")
    before = len(events(home, ticker))
    first.close()
    eventually(lambda: len(events(home, ticker)) > before + 5, "the run going on")
    second = terminal(120, 40)
    second.run("training", "--run", "latest")
    second.shows(ticker, "running", "Events")
    gapless(home, ticker)
    second.press("x")
    second.shows("Stop ticker", "Cancel")
    second.press("y")
    second.shows("stopped", timeout=60)
    second.press("C-q")
    second.shows("status 0")
    assert run_cli("runs", "show", ticker, "--json").data["status"] == "stopped"


def test_f01_the_terminal_application_killed(terminal: type[Terminal], ticker: str, home: Path) -> None:
    window = terminal()
    window.run("--run", ticker)
    window.shows("ticker", "running")
    before = len(events(home, ticker))
    os.kill(window.program(), signal.SIGKILL)
    eventually(lambda: len(events(home, ticker)) > before + 5, "the run going on")
    again = terminal()
    again.run("--run", ticker)
    again.shows("ticker", "running")
    gapless(home, ticker)


def test_f02_the_line_drops(ticker: str, home: Path) -> None:
    pid, line = pty.fork()
    if pid == 0:
        os.execvpe(sys.executable, [sys.executable, "-m", "llamahome_tui", "--run", ticker], clean_environ(home))
    seen = b""
    limit = time.monotonic() + 30
    while b"Events" not in seen and time.monotonic() < limit:
        if select.select([line], [], [], 1)[0]:
            seen += os.read(line, 1 << 16)
    assert b"Events" in seen
    before = len(events(home, ticker))
    os.close(line)  # sshd does the same when the connection is lost
    eventually(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid, "the application's end")
    eventually(lambda: len(events(home, ticker)) > before + 5, "the run going on")
    gapless(home, ticker)


def test_f37_resized_to_nothing_and_back(terminal: type[Terminal], ticker: str) -> None:
    window = terminal()
    window.run()
    window.shows("ticker")
    for size in ((20, 5), (80, 24), (5, 2), (160, 50), (80, 24)):
        window.resize(*size)
        time.sleep(0.3)
    window.shows("ticker", "running", "commands")
    window.press("C-q")
    window.shows("status 0")


@pytest.mark.parametrize(
    "surroundings",
    [
        {"TERM": "dumb"},
        {"NO_COLOR": "1"},
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["dumb", "no-color", "locale-c", "no-utf8"],
)
def test_f37_poor_terminals_are_readable(ticker: str, home: Path, surroundings: dict[str, str]) -> None:
    environ = {**clean_environ(home), "TERM": "xterm", **surroundings}
    pid, line = pty.fork()
    if pid == 0:
        os.execvpe(sys.executable, [sys.executable, "-m", "llamahome_tui"], environ)
    seen = b""
    limit = time.monotonic() + 30
    try:
        while not (b"running" in seen and b"ticker" in seen) and time.monotonic() < limit:
            if select.select([line], [], [], 1)[0]:
                seen += os.read(line, 1 << 16)
        assert b"running" in seen
        if "NO_COLOR" not in surroundings:
            seen.decode("ascii")
        os.write(line, b"\x11")
        with suppress(OSError):  # EIO: the other side has closed
            while select.select([line], [], [], 10)[0] and os.read(line, 1 << 16):
                pass
    finally:
        ended = eventually(lambda: os.waitpid(pid, os.WNOHANG), "the application's end")
        os.close(line)
    assert ended


def test_without_a_terminal_it_names_batch(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "llamahome_tui"],
        env=clean_environ(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "--batch" in done.stderr
    assert done.stdout == ""


def test_a_broken_state_folder_is_one_sentence(terminal: type[Terminal], home: Path) -> None:
    (home / "state").mkdir(parents=True, exist_ok=True)
    (home / "state" / "runs").write_text("not a folder")
    window = terminal()
    window.run()
    seen = window.shows("status", "llamahome:")
    assert "Traceback" not in seen
