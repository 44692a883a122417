"""Process identities: a pid alone never decides whom a signal reaches."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

from llamahome_tui.jobs.identity import Identity, send_signal, send_signal_to_holder, start_ticks
from llamahome_tui.jobs.locks import RecordLock


def test_mine_and_of_agree() -> None:
    mine = Identity.mine()
    assert Identity.of(os.getpid()) == mine
    assert mine.here
    assert mine.alive
    assert Identity.from_record({"type": "start", **mine.fields()}) == mine
    assert Identity.from_record({"pid": 3}) is None


def test_the_dead_and_zombies_are_nobody() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert start_ticks(pid) is None  # a zombie
    os.waitpid(pid, 0)
    assert Identity.of(pid) is None


def test_a_name_with_parentheses_is_read(tmp_path: Path) -> None:
    odd = tmp_path / "a) R (b"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([str(odd), "60"]) as process:
        try:
            identity = Identity.of(process.pid)
            assert identity is not None
            assert identity.start_ticks > 0
        finally:
            process.kill()


def test_no_signal_reaches_another_process_with_the_same_pid() -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        real = Identity.of(stranger.pid)
        assert real is not None
        earlier = replace(real, start_ticks=real.start_ticks - 1)
        for wrong in (earlier, replace(real, boot_id="other"), replace(real, host="other"), replace(real, pidns="x")):
            assert not send_signal(wrong, signal.SIGKILL)
        assert stranger.poll() is None
        assert send_signal(real, signal.SIGKILL)
        assert stranger.wait(5) == -signal.SIGKILL
    assert not send_signal(real, signal.SIGKILL)


def test_only_the_holder_is_signalled(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen(["sleep", "60"]) as stranger:
        other = Identity.of(stranger.pid)
        assert not send_signal_to_holder(path, other, signal.SIGKILL)
        RecordLock(path).acquire()  # held, but by us
        assert not send_signal_to_holder(path, other, signal.SIGKILL)
        assert stranger.poll() is None
        stranger.kill()
