"""The histogram: no row is lost between cells, a lone row still shows, and the limit stands where it belongs."""

from __future__ import annotations

import pytest

from llamahome_tui.data.figures import Bin
from llamahome_tui.tui.widgets.histogram import columns, draw

ROWS = (1, 5, 40, 90, 100, 80, 30, 8, 0, 1)
BELL = [Bin(at * 20, at * 20 + 20, rows) for at, rows in enumerate(ROWS)]


def lines(*arguments: object, **more: object) -> list[str]:
    return ["".join(text for text, _ in line) for line in draw(*arguments, **more)]  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [8, 13, 40, 77, 200])
def test_bins_wider_than_a_cell_leave_no_hole(width: int) -> None:
    found = columns(BELL, width)
    assert len(found) == width
    if width >= 10:
        assert set(found) == {float(one.rows) for one in BELL}


def test_narrow_bins_keep_their_rows() -> None:
    many = [Bin(at, at + 1, at % 7) for at in range(1000)]
    assert sum(columns(many, 60)) == pytest.approx(sum(one.rows for one in many))


@pytest.mark.parametrize("ascii_only", [False, True])
def test_a_lone_row_shows_and_all_lines_are_as_wide(ascii_only: bool) -> None:
    drawn = lines(BELL, 50, 8, ascii_only=ascii_only)
    assert len(drawn) == 8 and {len(line) for line in drawn} == {50}
    assert drawn[-3].rstrip()[-1] != " " and drawn[-1].split() == ["0", "199"]
    assert all(line.isascii() for line in drawn) == ascii_only


def test_the_limit_is_marked_and_named_and_parts_the_tones() -> None:
    drawn = draw(BELL, 54, 8, limit=150)
    axis = "".join(text for text, _ in drawn[-2])
    assert axis.index("▲") == 4 + 150 * 50 // 200
    assert "max_length 150" in "".join(text for text, _ in drawn[-1])
    assert [tone for _, tone in drawn[0]] == ["dim", "first", "warn"]


@pytest.mark.parametrize("limit", [0, 5000])
def test_without_a_limit_in_sight_there_is_no_mark(limit: int) -> None:
    assert "▲" not in "".join(lines(BELL, 54, 8, limit=limit))


@pytest.mark.parametrize(("width", "height"), [(0, 0), (9, 8), (50, 2)])
def test_too_small_is_nothing(width: int, height: int) -> None:
    assert draw(BELL, width, height) == []
    assert draw([], 50, 8) == []


def test_a_wide_last_bin_takes_no_more_room_and_says_what_it_holds() -> None:
    bins = [*BELL, Bin(200, 90_001, 60)]
    drawn = lines(bins, 59, 8, limit=60_000)
    assert drawn[-3][-5:] == "█████" != drawn[-3][-10:-5]
    assert drawn[-2].rindex("▲") >= 54
    assert lines(bins, 59, 8)[-1].endswith("200-90k")
