"""llama-quantize as it may go wrong: each fault is made by a program of that name."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamahome_tui.errors import NotFoundError, TrainingError
from llamahome_tui.export.gguf.smaller import TOOL, tool
from llamahome_tui.workers.export.merge import PlainTensors
from llamahome_tui.workers.gguf.smaller import quantise
from llamahome_tui.workers.gguf.write import Plan, write
from tests.ggufmodel import model_of
from tests.small_disk import mounted
from tests.standin import QUANTIZE

SLEEP = 'echo $$ > "$2.new"; mv "$2.new" "$2.pid"; exec sleep 600'


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    write(Plan(PlainTensors(model_of(folder / "model", "qwen2")), "f16"), folder / "x.gguf", "a name")
    return folder / "x.gguf"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small", "64k") as place:
        yield place


def _program(folder: Path, text: str) -> str:
    file = folder / TOOL
    file.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return tool({"PATH": str(folder)})


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_without_it_is_said_where_it_comes_from(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as missing:
        tool({"PATH": str(tmp_path)})
    assert missing.value.exit == 4
    assert "llama.cpp" in str(missing.value.hint)


def test_what_it_has_made_is_taken(source: Path, tmp_path: Path) -> None:
    quantise(_program(tmp_path, QUANTIZE), source, tmp_path / "y.gguf", "q4_k_m", lambda: None)
    assert (tmp_path / "y.gguf").stat().st_size == source.stat().st_size


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exit 1", "exit code 1"),
        ("kill -9 $$", "signal 9"),
        ("exit 0", "wrote nothing"),
        ('echo rubbish > "$2"', "no GGUF file"),
        ('head -c 5000 "$1" > "$2"', "no GGUF file"),
        ('{ head -c 8 "$1"; head -c 5000 /dev/urandom; } > "$2"', "no GGUF file"),
        ('cp "$1" "$2"', "another type than Q4_K_M"),
        ("""sed 's/blk.1.ffn_up/blk.9.ffn_up/g' "$1" > "$2\"""", "other tensors"),
        ("""sed 's/a name/A NAME/g' "$1" > "$2\"""", "has changed general.name"),
    ],
)
def test_a_wrong_one_is_named(source: Path, tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TrainingError, match=said) as error:
        quantise(_program(tmp_path, text), source, tmp_path / "y.gguf", "q4_k_m", lambda: None)
    assert error.value.error_code == "export.llama_quantize"


def test_it_sees_no_credentials(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with pytest.raises(TrainingError):
        quantise(_program(tmp_path, 'env > "$2.env"; exit 1'), source, tmp_path / "y", "q4_k_m", lambda: None)
    told = (tmp_path / "y.env").read_text()
    assert "PATH=" in told
    assert "hf_secret" not in told


def test_leaving_kills_it(source: Path, tmp_path: Path) -> None:
    told = tmp_path / "y.pid"

    def leave() -> None:
        if told.exists():
            raise InterruptedError

    with pytest.raises(InterruptedError):
        quantise(_program(tmp_path, SLEEP), source, tmp_path / "y", "q4_k_m", leave)
    assert _gone(int(told.read_text()))


def test_it_ends_with_the_export_that_is_killed(source: Path, tmp_path: Path) -> None:
    words = (_program(tmp_path, SLEEP), source, tmp_path / "y")
    run = (
        "import sys; from pathlib import Path; from llamahome_tui.workers.gguf.smaller import quantise;"
        "quantise(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), 'q4_k_m', lambda: None)"
    )
    export = subprocess.Popen([sys.executable, "-c", run, *words])
    told = tmp_path / "y.pid"
    try:
        until = time.monotonic() + 120
        while not told.exists() and export.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        pid = int(told.read_text())
    finally:
        os.kill(export.pid, signal.SIGKILL)
        export.wait()
    until = time.monotonic() + 60
    while not _gone(pid) and time.monotonic() < until:
        time.sleep(0.02)
    assert _gone(pid)


def test_a_disk_that_fills_up_is_said(source: Path, tmp_path: Path, small_disk: Path) -> None:
    program = _program(tmp_path, 'cat /dev/zero > "$2"; exit 1')
    with pytest.raises(OSError, match="filled the disk") as full:
        quantise(program, source, small_disk / "y.gguf", "q4_k_m", lambda: None)
    assert full.value.errno == errno.ENOSPC
    (small_disk / "y.gguf").unlink()
    plan = Plan(PlainTensors(source.parent / "model"), "f16")
    assert plan.places[0].bytes * len(plan.places) > 1 << 16  # it ends among the tensors
    with pytest.raises(OSError, match="No space left"):
        write(plan, small_disk / "x.gguf", "a name")
