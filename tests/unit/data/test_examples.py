"""A store of tokens: memory that does not grow with it, a disk that fills up, parts that change under a reader."""

from __future__ import annotations

import errno
from array import array
from pathlib import Path

import numpy as np
import pytest

from llamahome_tui.cache.scan import Scale
from llamahome_tui.data import examples, writer
from llamahome_tui.data.examples import Store, load
from llamahome_tui.data.writer import Writer
from llamahome_tui.errors import IntegrityError

ROWS = [list(range(start, start + 5 + start % 4)) for start in range(40)]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (examples, writer):
        monkeypatch.setattr(module, "PART", 16)


def written(folder: Path | None) -> tuple[Store, str]:
    with Writer(folder) as out:
        for ids in ROWS:
            out.add(array("i", ids), bytes([0] + [1] * (len(ids) - 1)))
        everything = np.arange(len(out))
        return out.finish("rows", b"", everything[2:], everything[:2], {"said": 1}), out.lost_disk


def rows_of(store: Store) -> list[list[int]]:
    return [example.ids for side in (store.eval, store.train) for example in side]


@pytest.mark.usefixtures("small_parts")
def test_what_is_written_is_read(tmp_path: Path) -> None:
    for folder in (None, tmp_path / "a" / "b"):
        store, _ = written(folder)
        assert rows_of(store) == ROWS
        assert store.train.trained.tolist() == [len(ids) - 1 for ids in ROWS[2:]]
        assert (store.kind, store.facts["said"], len(store.train.good)) == ("rows", 1, 0)
        assert [example.ids for example in store.train[3:5]] == ROWS[5:7]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("at", [0, 1, 5])
def test_a_disk_that_fills_up_moves_all_to_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    real, calls = writer._Folder.append, 0

    def append(self: writer._Folder, ids: bytes, mask: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls > at:
            real(self, ids[:7], b"")  # half of it was written
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, ids, mask)

    monkeypatch.setattr(writer._Folder, "append", append)
    store, lost = written(tmp_path / "b")
    assert lost == "No space left on device"
    assert rows_of(store) == ROWS
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small_parts")
def test_a_part_that_changes_is_found_when_it_is_read_and_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples, "_AT_ONCE", 2)
    written(tmp_path / "b")
    with (tmp_path / "b" / "ids.bin").open("r+b") as stream:
        stream.seek(4 * 50)
        stream.write(b"\xff")
    store = load(tmp_path / "b")
    assert store is not None  # the part is beyond what is checked at once
    assert store.eval[1].ids == ROWS[1]
    assert store.train[-1].ids == ROWS[-1]
    with pytest.raises(IntegrityError, match="has changed on disk"):
        list(store.train)
    assert load(tmp_path / "b") is None


@pytest.mark.usefixtures("small_parts")
def test_a_writer_that_is_left_leaves_nothing_and_counts_while_it_works(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Writer(tmp_path / "b") as out:
        for ids in ROWS * 40:
            out.add(array("i", ids), bytes(len(ids)))
        (left,) = tmp_path.iterdir()
        assert left.suffix == ".tmp"
        assert Scale().weigh(left).bytes >= 4096
        writer.sweep(tmp_path)
        assert left.exists()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
