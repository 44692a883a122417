"""The worker's life: it answers, it fails in words, it never outlives who asked, and it never sees a secret."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.errors import LlamaHomeError, ResourceError
from llamahome_tui.workers.child import ask
from tests.conftest import eventually


def _worker(folder: Path, body: str) -> dict[str, str]:
    """A worker module `w6` made of `body`; gives the environment that finds it."""
    (folder / "w6.py").write_text("import json, os, signal, sys, time\nline = sys.stdin.readline()\n" + body)
    return {**os.environ, "PYTHONPATH": str(folder)}


def _answers(environ: Mapping[str, str], line: str = "x\n") -> Iterator[dict[str, Any]]:
    return ask(sys.executable, "w6", line, environ)


def test_records_come_as_they_are_written(tmp_path: Path) -> None:
    environ = _worker(tmp_path, "for i in range(3): print(json.dumps({'type': 'text', 'text': line[0] + str(i)}))\n"
                                "print('{\"type\": \"end\"}', flush=True); time.sleep(60)")  # fmt: skip
    began = time.monotonic()
    records = list(_answers(environ))
    assert [record.get("text") for record in records] == ["x0", "x1", "x2", None]
    assert time.monotonic() - began < 30


def test_its_error_is_raised_as_it_was(tmp_path: Path) -> None:
    environ = _worker(
        tmp_path,
        "print(json.dumps({'type': 'error', 'code': 'a.b', 'message': 'm', 'hint': 'h', 'exit': 8, 'data': {'k': 1}}))",
    )
    with pytest.raises(LlamaHomeError) as caught:
        list(_answers(environ))
    error = caught.value
    assert (error.message, error.hint, error.error_code, error.exit, error.data) == ("m", "h", "a.b", 8, {"k": 1})


def test_a_death_without_words_tells_what_it_printed(tmp_path: Path) -> None:
    environ = _worker(tmp_path, "sys.stderr.write('\\x1b[31mlib: HF_TOKEN=hf_abcdefghijklmnop\\n'); sys.exit(3)")
    with pytest.raises(LlamaHomeError, match="exit code 3: lib: ") as caught:
        list(_answers(environ))
    assert "hf_abc" not in caught.value.message
    assert "\x1b" not in caught.value.message


def test_a_kill_is_taken_for_lack_of_memory(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="out of memory"):
        list(_answers(_worker(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")))


def test_it_never_sees_a_secret(tmp_path: Path) -> None:
    environ = _worker(tmp_path, "print(json.dumps({'type': 'end', 'seen': sorted(os.environ), 'argv': sys.argv}))")
    (record,) = _answers({**environ, "HF_TOKEN": "hf_canarycanary", "MY_API_KEY": "x"}, "hf_canarycanary\n")
    assert not {"HF_TOKEN", "MY_API_KEY"} & set(record["seen"])
    assert "HF_HUB_OFFLINE" in record["seen"]
    assert "canary" not in str(record["argv"])


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("ignores", [False, True])
def test_closing_the_iterator_ends_it(tmp_path: Path, ignores: bool) -> None:
    wait = "time.sleep(600)" if ignores else "sys.stdin.read()"
    environ = _worker(tmp_path, f"print(json.dumps({{'type': 'text', 'pid': os.getpid()}}), flush=True); {wait}")
    records = _answers(environ)
    pid = next(records)["pid"]
    records.close()  # type: ignore[attr-defined]  # it is a generator
    eventually(lambda: _gone(pid), "the worker's end", timeout=5)


def test_what_lies_in_the_users_folder_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hostile").mkdir()
    (tmp_path / "hostile" / "json.py").write_text("raise SystemExit(77)")
    monkeypatch.chdir(tmp_path / "hostile")
    (record,) = _answers(_worker(tmp_path, "print(json.dumps({'type': 'end'}))"))
    assert record["type"] == "end"
