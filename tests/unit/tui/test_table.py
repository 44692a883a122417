"""The list: selection, marks, order and filter by id; hostile text is shown plainly."""

from __future__ import annotations

import time

from textual.app import App, ComposeResult

from llamahome_tui.tui.widgets.lines import Lines
from llamahome_tui.tui.widgets.table import Cell, Column, Row, Table

COLUMNS = (Column("Name", 10, grow=1), Column("Size", 6, "right"), Column("Rare", 8, rank=1))


def rows(*names: str) -> list[Row]:
    return [Row.of(name, name, Cell(str(len(name)), sort=len(name)), "x") for name in names]


class Host(App[None]):
    """A table alone."""

    def compose(self) -> ComposeResult:
        yield Table(COLUMNS, empty=("nothing here", "n makes one"))

    @property
    def table(self) -> Table:
        return self.query_one(Table)

    def lines(self) -> list[str]:
        return [self.table.render_line(y).text for y in range(self.table.size.height)]


async def test_selection_and_marks_stay_with_their_ids() -> None:
    app = Host()
    async with app.run_test(size=(60, 12)) as pilot:
        app.table.show(rows("a", "bb", "ccc", "dddd"))
        await pilot.press("j", "j")
        assert app.table.selected == "ccc"
        await pilot.press("space")
        app.table.show(rows("new", "a", "ccc", "bb", "dddd"))
        assert app.table.selected == "dddd"
        assert app.table.marked == ("ccc",)
        app.table.show(rows("a", "bb"))
        assert app.table.selected in {"a", "bb"}
        assert app.table.marked == (app.table.selected,)
        app.table.show([])
        assert app.table.selected is None
        assert app.table.marked == ()


async def test_sorting_goes_through_the_columns_and_back() -> None:
    app = Host()
    async with app.run_test(size=(60, 12)) as pilot:
        app.table.show(rows("ccc", "a", "bb"))
        await pilot.press("s")
        assert [row.id for row in app.table.rows] == ["a", "bb", "ccc"]
        await pilot.press("s")
        assert [row.id for row in app.table.rows] == ["ccc", "bb", "a"]
        assert "▾" in app.lines()[0]
        await pilot.press("S")
        assert [row.id for row in app.table.rows] == ["a", "bb", "ccc"]
        await pilot.press("s", "s")
        assert [row.id for row in app.table.rows] == ["ccc", "a", "bb"]


async def test_the_filter_works_while_typing_and_escape_takes_it_off() -> None:
    app = Host()
    async with app.run_test(size=(60, 12)) as pilot:
        app.table.show(rows("alpha", "beta", "sj"))
        await pilot.press("slash", "b", "e")
        assert [row.id for row in app.table.rows] == ["beta"]
        assert "/be" in app.lines()[-1]
        await pilot.press("backspace", "backspace", "s", "j")  # s and j are letters here, not keys
        assert [row.id for row in app.table.rows] == ["sj"]
        await pilot.press("enter", "escape")
        assert len(app.table.rows) == 3


async def test_narrow_drops_the_rarest_column_and_clips_with_a_mark() -> None:
    app = Host()
    async with app.run_test(size=(24, 6)) as pilot:
        app.table.show(rows("a-name-that-is-far-too-long-for-this"))
        await pilot.pause()
        assert "Rare" not in app.lines()[0]
        assert "…" in app.lines()[1]


async def test_hostile_text_is_shown_plainly() -> None:
    app = Host()
    async with app.run_test(size=(80, 6)) as pilot:
        app.table.show(rows("\x1b]52;c;aGk=\x07[bold]x[/nope][@click=app.quit]\x9b31m‮"))
        await pilot.pause()
        line = app.lines()[1]
        assert "[bold]x[/nope][@click=app.quit]" in line
        assert line.isprintable() or "\x1b" not in line
        assert "‮" not in line


async def test_empty_says_how_to_fill_it() -> None:
    app = Host()
    async with app.run_test(size=(60, 12)) as pilot:
        await pilot.pause()
        assert not any("nothing here" in line for line in app.lines()), "nothing is known before the first reading"
        app.table.show([])
        assert any("nothing here" in line for line in app.lines())


async def test_ten_thousand_rows_are_no_burden() -> None:
    app = Host()
    async with app.run_test(size=(80, 24)) as pilot:
        many = [Row.of(f"row-{i}", f"row {i}", Cell(str(i), sort=i), "x") for i in range(10_000)]
        begun = time.perf_counter()
        app.table.show(many)
        await pilot.press("G", "s")
        app.table.show(many)
        taken = time.perf_counter() - begun
        assert app.table.selected == "row-9999"
        assert taken < 5


async def test_lines_follow_until_somebody_scrolls_up() -> None:
    class Log(App[None]):
        def compose(self) -> ComposeResult:
            yield Lines(follow=True, empty="nothing yet")

    app = Log()
    async with app.run_test(size=(40, 6)) as pilot:
        view = app.query_one(Lines)
        assert "nothing yet" in view.render_line(0).text
        view.focus()
        view.show([(f"line {i}", "") for i in range(100)])
        await pilot.pause()
        assert view.render_line(5).text.startswith("line 99")
        await pilot.press("k")
        view.show([(f"line {i}", "") for i in range(120)])
        await pilot.pause()
        assert view.render_line(0).text.startswith("line 93")
        assert "+20 lines" in view.render_line(5).text
        await pilot.press("G")
        assert view.render_line(5).text.startswith("line 119")
        # Lines that fall off the front leave what is in view where it is.
        await pilot.press("k", "k")
        before = view.render_line(0).text
        view.show([(f"line {i}", "") for i in range(10, 125)], dropped=10)
        await pilot.pause()
        assert view.render_line(0).text == before
