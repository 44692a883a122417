"""Prepared data under real trouble: writers and their children killed anywhere, two at once, a disk that is full."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llamahome_tui.data.prepare import prepare
from llamahome_tui.training.spec import read_spec
from tests.unit.data import templates

CODE = """
import resource, signal, sys, time
from pathlib import Path
from llamahome_tui.data.prepare import prepare
from llamahome_tui.training.spec import read_spec
folder, limit = Path(sys.argv[1]), int(sys.argv[2])
spec = read_spec((folder / "s.toml").read_text(), source="s.toml", folder=folder, environ={})
import numpy, tokenizers, jinja2
if limit:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
print("ready", flush=True)
sys.stdin.readline()
found = prepare(spec, folder / "model", folder / "cache")
print(found.cached, len(found.train), sum(map(sum, (row.mask for row in found.train))), *found.warnings, flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    templates.write_tokenizer(tmp_path / "model", "bytes", templates.CHATML)
    rows = [{"prompt": f"say {n}", "completion": f"it is fine {n}"} for n in range(1500)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "s.toml").write_text('[model]\nid = "demo"\n[data]\ntrain = ["d.jsonl"]\n')
    return tmp_path


def writer(folder: Path, limit: int = 0) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", CODE, str(folder), str(limit)]
    started = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    return started


def go(started: subprocess.Popen[str]) -> None:
    assert started.stdin is not None
    started.stdin.write("\n")
    started.stdin.flush()


def said(started: subprocess.Popen[str]) -> list[str]:
    out, _ = started.communicate(timeout=60)
    assert started.returncode == 0
    return out.split(maxsplit=3)


def test_killed_writers_leave_nothing_that_counts(folder: Path) -> None:
    chance = random.Random(4)
    began = time.monotonic()
    whole = writer(folder)
    go(whole)
    wanted = said(whole)
    once = time.monotonic() - began
    cache = folder / "cache"
    for entry in cache.iterdir():
        (entry / "facts.json").unlink()  # as if it had never been finished
    for _ in range(6):
        victim = writer(folder)
        go(victim)
        time.sleep(chance.uniform(0, once))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        victim.communicate()
    last = writer(folder)
    go(last)
    assert said(last)[1:] == wanted[1:]
    spec = read_spec((folder / "s.toml").read_text(), source="s.toml", folder=folder, environ={})
    assert prepare(spec, folder / "model", cache).cached


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def many(folder: Path, rows: int, template: str = templates.CHATML) -> None:
    templates.write_tokenizer(folder / "model", "bytes", template)
    lines = [json.dumps({"prompt": f"say {n}", "completion": "it is fine " * 40}) + "\n" for n in range(rows)]
    (folder / "d.jsonl").write_text("".join(lines))
    (folder / "s.toml").write_text('[model]\nid = "demo"\n[data]\ntrain = ["d.jsonl"]\n[training]\nmax_workers = 2\n')


def busy(started: subprocess.Popen[str]) -> list[int]:
    """The children of a preparation, once there are two of them that have been at work."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = children_of(started.pid)
        if len(found) == 2 and all(cpu_s(pid) > 0.2 for pid in found):
            return found
        time.sleep(0.01)
    raise AssertionError("no two children at work")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def gone(pids: list[int], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not any(map(lives, pids)):
            return True
        time.sleep(0.02)
    return False


def lives(pid: int) -> bool:
    """Whether a process is there and no zombie, which only waits for whoever has inherited it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def visible(cache: Path) -> list[str]:
    return [entry.name for entry in cache.iterdir() if not entry.name.startswith(".")]


def test_a_killed_parent_leaves_no_child_and_nothing_published(folder: Path) -> None:
    many(folder, 20_000)
    victim = writer(folder)
    go(victim)
    children = busy(victim)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert gone(children, 2)
    assert visible(folder / "cache") == []
    assert [path.suffix for path in (folder / "cache").iterdir()] == [".tmp"]  # it counts on the Cache screen
    last = writer(folder)
    go(last)
    assert said(last)[:2] == ["False", "19600"]
    assert len(list((folder / "cache").iterdir())) == 1  # and the next one swept it


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_parent_that_is_stopped_takes_its_children_along(folder: Path, how: signal.Signals) -> None:
    many(folder, 20_000)
    stopped = writer(folder)
    go(stopped)
    children = busy(stopped)
    began = time.monotonic()
    stopped.send_signal(how)
    stopped.communicate(timeout=10)
    assert gone(children, 2)
    assert time.monotonic() - began < 4
    assert visible(folder / "cache") == []
    if how == signal.SIGINT:  # Python's own way of ending lets it clean up
        assert list((folder / "cache").iterdir()) == []


def test_a_killed_child_is_named_and_nothing_is_published(folder: Path) -> None:
    many(folder, 20_000)
    started = writer(folder)
    go(started)
    os.kill(busy(started)[0], signal.SIGKILL)
    _, errors = started.communicate(timeout=30)
    assert started.returncode == 1
    assert "ResourceError: a process that prepares data was killed" in errors
    assert list((folder / "cache").iterdir()) == []
    again = writer(folder)
    go(again)
    assert said(again)[:2] == ["False", "19600"]


def test_a_hostile_template_dies_with_its_parent(folder: Path) -> None:
    endless = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
    many(folder, 600, endless + templates.CHATML)
    victim = writer(folder)
    go(victim)
    children = busy(victim)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert gone(children, 2)


def test_two_at_once_agree(folder: Path) -> None:
    both = [writer(folder), writer(folder)]
    for one in both:
        go(one)
    first, second = (said(one) for one in both)
    assert first[1:3] == second[1:3]
    assert len([entry for entry in (folder / "cache").iterdir() if not entry.name.startswith(".")]) == 1


def test_a_full_disk_costs_the_cache_and_not_the_run(folder: Path) -> None:
    full = writer(folder, limit=4096)
    go(full)
    cached, rows, _, warning = said(full)
    assert (cached, rows) == ("False", "1400")
    assert "is not kept" in warning
    assert list((folder / "cache").iterdir()) == []
