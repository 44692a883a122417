"""The real program on a pseudo-terminal above a simulated driver: faults are said, and nothing waits for them (F36)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import gpusim
from tests.conftest import clean_environ


class Line:
    """Our end of the program's terminal; `plain` is all it wrote, without escape sequences."""

    def __init__(self, pid: int, handle: int) -> None:
        self.pid, self._handle = pid, handle
        self.seen = b""

    def read(self, seconds: float) -> None:
        """Take in what comes within this time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if not select.select([self._handle], [], [], left)[0]:
                return
            try:
                self.seen += os.read(self._handle, 1 << 16)
            except OSError:  # EIO: the program has closed its side
                return

    def until(self, *words: bytes, seconds: float = 30) -> float:
        """Wait for these words; gives the seconds it took."""
        began = time.monotonic()
        while not all(word in self.seen for word in words):
            assert time.monotonic() - began < seconds, (words, self.seen[-3000:])
            self.read(0.1)
        return time.monotonic() - began

    def press(self, keys: bytes) -> None:
        """Type."""
        os.write(self._handle, keys)

    def quit(self) -> float:
        """Ctrl+Q, and the seconds until the process has ended."""
        began = time.monotonic()
        self.press(b"\x11")
        while time.monotonic() - began < 30:
            self.read(0.05)
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                self.pid = 0
                return time.monotonic() - began
        pytest.fail("the program did not end")


Opens = Callable[..., Line]


@pytest.fixture
def opens(home: Path, tmp_path: Path) -> Iterator[Opens]:
    """Opens the program above a simulated driver in some state."""
    library = gpusim.build_library(tmp_path)
    if library is None:
        pytest.skip("no C compiler for the simulated driver")
    made: list[tuple[Line, int]] = []

    def start(*words: str, **driver: str) -> Line:
        environ = {**clean_environ(home), "TERM": "tmux-256color", "LD_LIBRARY_PATH": str(library), **driver}
        pid, handle = pty.fork()
        if pid == 0:
            os.execvpe(sys.executable, [sys.executable, "-m", "llamahome_tui", *words], environ)
        fcntl.ioctl(handle, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        line = Line(pid, handle)
        made.append((line, handle))
        return line

    yield start
    for line, handle in made:
        if line.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(line.pid, signal.SIGKILL)
            os.waitpid(line.pid, 0)
        os.close(handle)


@pytest.mark.parametrize("fault", ["F36"])
def test_a_driver_that_hangs_from_the_start(opens: Opens, fault: str) -> None:
    line = opens("cache", NVMLSIM_MODE="hung")
    line.until(b"reading GPUs", b"in all")
    line.press(b"1")
    line.until(b"demo", seconds=10)
    assert line.quit() < 5


@pytest.mark.parametrize("fault", ["F36"])
def test_a_driver_that_hangs_later_and_comes_back(opens: Opens, tmp_path: Path, fault: str) -> None:
    hang = tmp_path / "hang"
    line = opens("models", NVMLSIM_HANG_FILE=str(hang), NVMLSIM_GPUS="2", NVMLSIM_MODE="steady")
    line.until(b"/80G", b"demo")
    hang.touch()
    line.seen = b""
    line.until(b"does not answer", b"n/a/80G")
    line.press(b"3")
    line.until(b"in all", seconds=10)
    hang.unlink()
    line.seen = b""
    line.until(b"W", b"G", seconds=10)
    hang.touch()
    line.until(b"does not answer")
    assert line.quit() < 5


@pytest.mark.parametrize("fault", ["F36"])
@pytest.mark.parametrize(("mode", "words"), [("mig", (b"0:1", b"MIG", b"n/a")), ("lost", (b"lost", b"/80G"))])
def test_split_and_lost_gpus(opens: Opens, fault: str, mode: str, words: tuple[bytes, ...]) -> None:
    line = opens("logs", NVMLSIM_MODE=mode, NVMLSIM_GPUS="3")
    line.until(*words)
    assert line.quit() < 5


@pytest.mark.parametrize("fault", ["F36"])
@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a driver")
def test_no_driver(opens: Opens, fault: str) -> None:
    line = opens("models", LD_LIBRARY_PATH="")
    line.until(b"no NVIDIA driver", b"CPU")
    assert line.quit() < 5
    assert b"CRITICAL" not in line.seen


def test_the_performance_log_gets_its_line(opens: Opens, home: Path) -> None:
    line = opens("logs", NVMLSIM_GPUS="2")
    line.until(b"/80G")
    log = home / "state" / "logs" / "system" / "performance.log"
    line.until(b"performance", seconds=10)
    assert "gpu1_used=" in log.read_text() and "cpu_percent=" in log.read_text()
    assert line.quit() < 5
