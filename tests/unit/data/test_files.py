"""Entries made into files, and each way an entry can name none, before anything is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.data.files import eval_file, expand, files_of, sha256_of, weights_by_file
from llamahome_tui.demo.paths import demo_train_file
from llamahome_tui.errors import DataError, NotFoundError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jsonl", "a.jsonl", "deep/c.jsonl", "odd[1].jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}\n")
    (tmp_path / "folder.jsonl").mkdir()
    return tmp_path


def test_files_and_globs(folder: Path) -> None:
    def names(*entries: str) -> list[str]:
        return [str(path.relative_to(folder)) for path in expand(entries, folder)]

    assert names("b.jsonl", "[ab].jsonl") == ["b.jsonl", "a.jsonl"]
    assert names("**/*.jsonl") == ["a.jsonl", "b.jsonl", "deep/c.jsonl", "odd[1].jsonl"]
    assert names("odd[1].jsonl") == ["odd[1].jsonl"]
    assert files_of("demo", folder) == [demo_train_file()]


def test_a_file_counts_as_the_first_entry_that_names_it_says(folder: Path) -> None:
    found = weights_by_file(["a.jsonl", "*.jsonl"], [3.0, 0.5], folder)
    assert {path.name: weight for path, weight in found.items()} == {
        "a.jsonl": 3.0,
        "b.jsonl": 0.5,
        "odd[1].jsonl": 0.5,
    }
    assert set(weights_by_file(["*.jsonl"], [], folder).values()) == {1.0}


@pytest.mark.parametrize("entry", ["none.jsonl", "a.jsonl/b", "no\0name", "*.csv", "folder.*"])
def test_what_is_not_there(folder: Path, entry: str) -> None:
    with pytest.raises(NotFoundError) as error:
        expand([entry], folder)
    assert error.value.error_code == "data.not_found"
    assert "matches no file" in error.value.message or "is not there" in error.value.message


def test_what_is_there_and_is_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "pipe")
    asking: list[tuple[Callable[[], object], str]] = [
        (lambda: expand(["deep"], folder), "is a folder: name its files"),
        (lambda: expand(["p*"], folder), "a pipe"),
        (lambda: eval_file("deep", (), folder), "is a folder"),
        (lambda: eval_file("pipe", (), folder), "a pipe"),
    ]
    for asked, words in asking:
        with pytest.raises(DataError) as error:
            asked()
        assert words in error.value.message
        assert error.value.exit == 3
        assert error.value.data["bad"][0]["file"].startswith(str(folder))

    def refused(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refused)
    with pytest.raises(DataError, match="Permission denied"):
        expand(["a.jsonl"], folder)


def test_a_file_that_vanishes_is_an_error_and_no_crash(folder: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        sha256_of(folder / "gone.jsonl")
