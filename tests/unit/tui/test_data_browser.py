"""The browser of rows on real files: numbers through several of them, filters that take their time, places found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llamahome_tui.data.browse import RowIndex
from llamahome_tui.data.check import validate
from llamahome_tui.training.shape import Data
from llamahome_tui.tui.screens.training.data_browser import Browser, Listing
from llamahome_tui.tui.screens.training.data_words import fault_of


def rows(path: Path, count: int, word: str = "row", first: int = 0) -> Path:
    lines = [json.dumps({"prompt": f"{word} {first + at}", "completion": "yes"}) for at in range(count)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three files: 60 rows, none at all but a broken line, and 3,000 alpaca rows with one that is bad."""
    first = rows(tmp_path / "a.jsonl", 60, "apple")
    broken = tmp_path / "b.jsonl"
    broken.write_text("\n\n{broken\n")
    third = tmp_path / "c.jsonl"
    lines = [json.dumps({"instruction": f"cherry {at}", "output": "yes"}) for at in range(3000)]
    lines[1500] = json.dumps({"instruction": 7, "output": "no"})
    third.write_text("\n\n".join(lines) + "\n")
    return [first, broken, third]


def browser(files: list[Path], **more: object) -> Browser:
    return Browser(files, Data(), lambda: None, RowIndex, **more)  # type: ignore[arg-type]


def settled(one: Browser) -> Listing:
    for _ in range(1000):
        listing = one.read()
        if not listing.busy:
            return listing
    raise AssertionError("it never came to an end")


def test_rows_are_numbered_through_all_files(files: list[Path]) -> None:
    one = browser(files)
    one.see(55, 10)
    listing = settled(one)
    assert (listing.count, listing.rows, listing.done) == (3061, 3061, True)
    assert [listing.lines[at].prompt for at in (59, 61)] == ["apple 59", "cherry 0"]
    assert listing.lines[60].fault and listing.lines[60].place == "b.jsonl:3"
    assert [listing.lines[at].format for at in (59, 61)] == ["completion", "alpaca"]
    assert listing.lines[62].line == 3  # blank lines count as lines, not as rows
    assert min(listing.lines) == 45 and max(listing.lines) == 74
    one.close()


def test_only_what_is_around_the_view_is_kept(files: list[Path]) -> None:
    one = browser(files)
    one.see(0, 20)
    settled(one)
    one.see(2000, 20)
    listing = settled(one)
    assert set(listing.lines) == set(range(1980, 2040))
    one.see(3050, 20)
    assert max(settled(one).lines) == 3060


def test_the_filter_finds_and_counts_and_goes_off(files: list[Path]) -> None:
    one = browser(files)
    one.see(0, 20)
    settled(one)
    one.choose("cherry 299")
    listing = settled(one)
    found = [299, 1299, 2299, *range(2990, 3000)]
    assert [line.prompt for line in listing.lines.values()] == [f"cherry {at}" for at in found]
    assert (listing.count, listing.searched, listing.typed) == (13, 3061, "cherry 299")
    one.choose("bad")
    listing = settled(one)
    assert [line.number for line in listing.lines.values()] == [60, 1561]
    one.choose("file:a.jsonl 5")
    assert settled(one).count == 15
    one.choose("  ")
    listing = settled(one)
    assert listing.count == 3061 and listing.typed == "" and listing.lines[0].prompt == "apple 0"


def test_a_turn_is_no_longer_than_its_budget(files: list[Path]) -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 0.04
        return now

    one = browser(files, clock=clock)
    one.see(0, 5)
    for _ in range(50):
        one.read()
    one.choose("cherry")
    seen = [one.read() for _ in range(4)]
    assert [listing.searched for listing in seen] == sorted({listing.searched for listing in seen})
    assert seen[0].busy and 0 < seen[0].searched < 3061


def test_a_row_is_opened_whole_and_a_broken_one_as_it_stands(files: list[Path]) -> None:
    one = browser(files)
    settled(one)
    one.open(61)
    opened = one.read().opened
    assert opened is not None and json.loads(opened.raw) == {"instruction": "cherry 0", "output": "yes"}
    assert opened.line.sample is not None
    one.open(60)
    opened = one.read().opened
    assert opened is not None and opened.raw == "{broken" and "JSON" in opened.line.fault
    one.open(9999)
    assert one.read().opened is opened


@pytest.mark.parametrize(
    ("name", "line", "number"), [("a.jsonl", 1, 0), ("a.jsonl", 60, 59), ("b.jsonl", 0, 60), ("c.jsonl", 3001, 1561)]
)
def test_a_place_is_found(files: list[Path], name: str, line: int, number: int) -> None:
    one = browser(files)
    one.seek(str(files[0].with_name(name)), line)
    assert settled(one).sought == number


def test_a_place_that_is_nowhere_ends_the_search(files: list[Path]) -> None:
    one = browser(files)
    for place in (("/elsewhere.jsonl", 1), (str(files[0]), 99)):
        one.seek(*place)
        assert settled(one).sought is None


def test_a_file_that_is_not_there_is_one_bad_row(tmp_path: Path) -> None:
    one = browser([tmp_path / "gone.jsonl"])
    one.see(0, 5)
    listing = settled(one)
    assert listing.count == 1 and listing.lines[0].fault


@pytest.mark.parametrize("make", [lambda path: path.write_bytes(b"\xff\xfe\0"), lambda path: path.write_text("{}")])
def test_rows_of_an_unknown_kind_are_bad_rows(tmp_path: Path, make: Callable[[Path], object]) -> None:
    path = tmp_path / "odd.jsonl"
    make(path)
    one = browser([path])
    one.see(0, 5)
    assert settled(one).lines[0].fault


def test_columns_by_other_names_are_read_as_the_spec_says(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"question": "q", "answer": "a"}) + "\n")
    columns = {"prompt": "question", "completion": "answer"}
    one = Browser([path], Data(format="completion", columns=columns), lambda: None, RowIndex)
    one.see(0, 5)
    assert settled(one).lines[0].prompt == "q"


def test_rows_are_bad_here_where_validation_finds_them_bad(tmp_path: Path) -> None:
    path = rows(tmp_path / "mixed.jsonl", 5)
    with path.open("a") as file:
        file.write(json.dumps({"instruction": "Add.", "output": "4", "prompt": "x", "completion": "y"}) + "\n")
        file.write(json.dumps({"messages": [{"role": "user", "content": "4"}]}) + "\n")
    one = browser([path])
    one.see(0, 10)
    found = {line.line: line.fault for line in settled(one).lines.values() if line.fault}
    bad = validate([path]).bad
    assert bad and found == {at.line: fault_of(at) for at in bad}


def test_a_file_that_is_cut_while_it_is_open_says_so_and_the_search_ends(tmp_path: Path) -> None:
    one = browser([rows(tmp_path / "a.jsonl", 60_000)])
    one.see(0, 5)
    assert settled(one).count == 60_000
    (tmp_path / "a.jsonl").write_text("")
    one.see(59_990, 5)
    assert "changed" in settled(one).lines[59_995].fault
    one.choose("row")
    assert settled(one).searched == 60_000
    one.choose("")
    one.seek(str(tmp_path / "a.jsonl"), 50_000)
    settled(one)
