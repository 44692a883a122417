"""Each reason why a resumed run is not the undisturbed one is said, and nothing that moves no number is."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from llamahome_tui.jobs.recovery import sha256_of
from llamahome_tui.training import sameness
from llamahome_tui.training.spec import Spec

pytestmark = pytest.mark.torch

HERE: dict[str, Any] = {
    "host": "here",
    "versions": {"python": "3.11.2", "torch": "2.13.0"},
    "threads": 1,
    "device": "cpu",
    "instructions": "AVX2",
}


def reasons(before: dict[str, Any], now: dict[str, Any] | None = None) -> list[str]:
    spec = Spec(name="same")
    return sameness.differences(before, HERE if now is None else now, spec.to_dict(), spec)


def test_the_same_surroundings_give_no_reason() -> None:
    assert reasons(copy.deepcopy(HERE)) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"host": "there"}, ["host was there"]),
        ({"threads": 8}, ["threads was 8, is 1"]),
        ({"instructions": "AVX512"}, ["instructions was AVX512, is AVX2"]),
        (
            {"versions": {"python": "3.11.2", "torch": "2.12.0", "peft": "0.20"}},
            ["peft was 0.20, is None", "torch was 2.12.0, is 2.13.0"],
        ),
    ],
)
def test_what_differs_is_named_with_both_values(changed: dict[str, Any], said: list[str]) -> None:
    assert reasons(HERE | changed) == said


def test_a_gpu_is_never_exact() -> None:
    on_gpu = HERE | {"device": "NVIDIA H100"}
    assert reasons(on_gpu, on_gpu) == ["a GPU adds in no fixed order"]


def test_only_keys_that_move_losses_count() -> None:
    spec, before = Spec(name="same"), Spec(name="same").to_dict()
    before["training"] = before["training"] | {"seed": 7, "log_every": 3}
    before["checkpoint"] = before["checkpoint"] | {"keep": 9}
    assert sameness.differences(HERE, HERE, before, spec) == ["training.seed changed"]


def test_changed_and_missing_data_files_are_named(tmp_path: Path) -> None:
    same, other, gone = (tmp_path / name for name in ("same", "other", "gone"))
    for path in (same, other, gone):
        path.write_text(path.name)
    hashes = {str(path): sha256_of(path) for path in (same, other, gone)}
    other.write_text("changed")
    gone.unlink()
    assert sameness.changed_files(hashes) == [str(other), str(gone)]


def test_files_that_a_glob_means_by_now_are_named(tmp_path: Path) -> None:
    first, later = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_text("{}")
    hashes = sameness.digests([first, tmp_path / "none"])
    assert hashes == {str(first): sha256_of(first)}
    assert sameness.new_files(hashes, [f"{tmp_path}/*.jsonl"]) == []
    later.write_text("{}")
    assert sameness.new_files(hashes, [f"{tmp_path}/*.jsonl"]) == [str(later)]
    assert sameness.new_files(hashes, [str(tmp_path / "gone.jsonl")]) == []
