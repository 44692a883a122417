"""Prepared data under real trouble: writers killed anywhere, two at once, a disk that is full."""

from __future__ import annotations

import json
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
    started = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
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
