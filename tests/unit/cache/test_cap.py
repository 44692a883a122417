"""The cap on our own caches: least recently used first, never what is in use, and nothing beyond them."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

import pytest

from llamahome_tui.cache import cap

KIB = 1024
NOW = time.time() - 10_000


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Four prepared sets of 100 KiB, `a` used longest ago, and an index."""
    root = tmp_path / "cache"
    for age, name in enumerate(("d", "c", "b", "a"), start=1):
        folder = root / "prepared" / name
        folder.mkdir(parents=True)
        (folder / "ids.npy").write_bytes(os.urandom(100 * KIB))
        for path in (folder / "ids.npy", folder):
            os.utime(path, (NOW - age * 3600, NOW - age * 3600))
    (root / "indexes").mkdir()
    (root / "indexes" / "log.idx").write_bytes(os.urandom(4 * KIB))
    os.utime(root / "indexes" / "log.idx", (NOW - 60, NOW - 60))
    return root


def left(cache: Path) -> str:
    return "".join(sorted(path.name for path in (cache / "prepared").iterdir()))


def test_under_the_cap_nothing_goes(cache: Path) -> None:
    plan = cap.enforce(cache, cap.MIB, now=NOW)
    assert (plan.removals, plan.over_bytes, left(cache)) == ((), 0, "abcd")
    assert plan.total_bytes == 404 * KIB


def test_the_least_recently_used_go_first_and_no_more_than_needed(cache: Path) -> None:
    plan = cap.plan(cache, 250 * KIB, now=NOW)
    assert [removal.path.name for removal in plan.removals] == ["a", "b"]
    assert left(cache) == "abcd"  # a plan changes nothing
    assert cap.enforce(cache, 250 * KIB, now=NOW) == plan
    assert left(cache) == "cd"


def test_use_is_remembered(cache: Path) -> None:
    cap.touch(cache / "prepared" / "a")
    cap.touch(cache / "prepared" / "gone")
    cap.enforce(cache, 250 * KIB, now=time.time(), grace_s=1000)
    assert "a" in left(cache)


def test_what_is_kept_or_open_stays_even_over_the_cap(cache: Path) -> None:
    with (cache / "prepared" / "a" / "ids.npy").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    plan = cap.enforce(cache, 0, keep=[cache / "prepared" / "b"], now=NOW)
    assert left(cache) == "ab"
    assert plan.over_bytes == 204 * KIB  # a, b, and the index used a minute ago
    mapped.close()
    with (cache / "prepared" / "a" / "ids.npy").open("rb"):
        cap.enforce(cache, 0, now=NOW)
        assert left(cache) == "a"
    cap.enforce(cache, 0, now=NOW + 20_000)
    assert left(cache) == ""


def test_nothing_beyond_the_caches_is_touched(cache: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (cache / "prepared" / "link").symlink_to(outside)
    (cache / "other").write_bytes(bytes(500 * KIB))
    cap.enforce(cache, 0, now=NOW + 20_000)
    assert (outside / "precious").exists() and (cache / "other").exists()
    assert left(cache) == ""


def test_no_cache_yet(tmp_path: Path) -> None:
    assert cap.enforce(tmp_path / "none", 0).total_bytes == 0


@pytest.mark.parametrize(("said", "cap_bytes"), [("7", 7 * cap.MIB), ("0", 0), ("", None), ("-1", None), ("x", None)])
def test_the_cap_a_child_is_told(said: str, cap_bytes: int | None) -> None:
    assert cap.of_environ({"LLAMAHOME_CACHE_SIZE": said}) == cap_bytes
