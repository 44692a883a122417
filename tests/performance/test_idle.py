"""The idle application, panel at 1 Hz on eight moving GPUs: bytes to the terminal, CPU against one plain Static."""

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
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import gpusim
from tests.conftest import clean_environ

SETTLE_S, WATCH_S = 5.0, 10.0
MOST_BYTES_S = 2000
MOST_TIMES_THE_PEER, SLACK = 2.5, 1.5  # the list of runs is read each second too

# The peer: the same samples, all of the panel in one Static, nothing else on the screen.
PEER = """
import sys
from textual.app import App
from textual.widgets import Static
from llamahome_tui.resources.sampler import Sampler
from llamahome_tui.resources.wording import system_lines
class Peer(App):
    def compose(self):
        yield Static(id="panel", markup=False)
    def on_mount(self):
        self.sampler = Sampler(1.0)
        self.sampler.start()
        self.set_interval(1.0, self.show)
    def show(self):
        if self.sampler.latest is not None:
            self.query_one(Static).update("\\n".join(system_lines(self.sampler.latest.to_dict())))
Peer().run()
"""


@contextlib.contextmanager
def _on_terminal(argv: list[str], environ: dict[str, str]) -> Iterator[tuple[int, int]]:
    """A process on a pseudo-terminal of 80x24: its pid and our end of the terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(argv[0], argv, environ)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    try:
        yield pid, terminal
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def _read_for(terminals: list[int], seconds: float) -> list[bytes]:
    """What comes to each of the terminals within some time."""
    seen, until = dict.fromkeys(terminals, b""), time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        for terminal in select.select(terminals, [], [], left)[0]:
            seen[terminal] += os.read(terminal, 1 << 16)
    return list(seen.values())


def _cpu_s(pid: int) -> float:
    """CPU seconds of all threads of the process so far; nanoseconds from schedstat, where stat has only ticks."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def _painted(terminal: int, mark: bytes) -> None:
    """Wait until something stands on the terminal."""
    painted, until = b"", time.monotonic() + 40
    while mark not in painted and time.monotonic() < until:
        painted += _read_for([terminal], 0.5)[0]
    assert mark in painted, painted[-2000:]


@pytest.mark.performance
def test_idle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library = gpusim.build_library(tmp_path)
    if library is None:
        pytest.skip("no C compiler for the simulated driver")
    home = tmp_path / "home"
    environ = {**clean_environ(home), "LD_LIBRARY_PATH": str(library), "TERM": "tmux-256color"}
    environ["NVMLSIM_PID"] = str(os.getpid())
    shares: dict[str, list[float]] = {"ours": [], "peer": []}
    rates: dict[str, list[float]] = {"ours": [], "peer": []}
    with (
        _on_terminal([sys.executable, "-m", "llamahome_tui", "training"], environ) as ours,
        _on_terminal([sys.executable, "-c", PEER], environ) as peers,
    ):
        _painted(ours[1], b"/80G")
        _painted(peers[1], b"GPU 7")
        terminals = [ours[1], peers[1]]
        _read_for(terminals, SETTLE_S)
        for _ in range(2):
            before, began = (_cpu_s(ours[0]), _cpu_s(peers[0])), time.monotonic()
            written = _read_for(terminals, WATCH_S)
            took = time.monotonic() - began
            for side, (pid, _), seen, used in zip(shares, (ours, peers), written, before, strict=True):
                rates[side].append(len(seen) / took)
                shares[side].append((_cpu_s(pid) - used) / took)
    bytes_s, peer_bytes_s = min(rates["ours"]), min(rates["peer"])
    share, peer = min(shares["ours"]), min(shares["peer"])
    with capsys.disabled():
        print(
            f"\nidle, panel at 1 Hz on 8 GPUs: {bytes_s:.0f} bytes/s to the terminal (limit {MOST_BYTES_S}; one Static "
            f"{peer_bytes_s:.0f}), {share:.1%} of a core, {share / peer:.2f} of a bare Static's {peer:.1%}"
        )
    assert bytes_s <= MOST_BYTES_S
    assert share / peer <= MOST_TIMES_THE_PEER * SLACK
