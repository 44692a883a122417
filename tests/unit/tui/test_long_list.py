"""A list of a million lines: only those in view are asked for, whatever keys and sizes come."""

from __future__ import annotations

from textual.app import App, ComposeResult
from textual.pilot import Pilot

from llamahome_tui.tui.theme import variable_defaults
from llamahome_tui.tui.widgets.columns import Column
from llamahome_tui.tui.widgets.long_list import LongList

COUNT = 1_000_000


class Million(App[None]):
    """Brings each line when it is asked for, and notes what was."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[int, int]] = []
        self.moved: list[int] = []
        self.opened: list[int] = []
        self.filters: list[str] = []
        self.count = COUNT
        self.growing = False

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return variable_defaults()

    def compose(self) -> ComposeResult:
        yield LongList((Column("No", 9, "right"), Column("Text", 10, grow=1)), empty=("none",))

    def on_mount(self) -> None:
        self.list = self.query_one(LongList)
        self.list.focus()
        self.list.show(self.count, {})

    def on_long_list_seen(self, message: LongList.Seen) -> None:
        self.asked.append((message.first, message.count))
        lines = range(message.first, message.first + message.count)
        found = {at: ((f"{at}", ""), (f"line {at}\x1b[31m[red]", "")) for at in lines}
        self.list.show(self.count, found, growing=self.growing)

    def on_long_list_moved(self, message: LongList.Moved) -> None:
        self.moved.append(message.position)

    def on_long_list_opened(self, message: LongList.Opened) -> None:
        self.opened.append(message.position)

    def on_long_list_filtered(self, message: LongList.Filtered) -> None:
        self.filters.append(message.text)

    def text(self) -> str:
        return "\n".join(strip.text for strip in self.screen._compositor.render_strips())


async def _press(pilot: Pilot[None], *keys: str) -> None:
    await pilot.press(*keys)
    await pilot.pause()


async def test_only_what_is_in_view_is_asked_for() -> None:
    app = Million()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert app.asked[-1] == (0, 23)
        await _press(pilot, "G")
        assert app.list.position == COUNT - 1 and f"line {COUNT - 1}[red]" in app.text()
        await _press(pilot, "pageup", "k")
        assert app.list.position == COUNT - 1 - 23 - 1
        await _press(pilot, "g", "j", "down", "enter")
        assert app.opened == [2] and app.moved[-1] == 2
        assert all(count <= 23 for _, count in app.asked)


async def test_a_tiny_terminal_and_back() -> None:
    app = Million()
    async with app.run_test(size=(80, 24)) as pilot:
        await _press(pilot, *"jjjjjjjjjjjj")
        await pilot.resize_terminal(20, 5)
        await pilot.pause()
        assert "12" in app.text() and app.list.position == 12
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "line 12" in app.text() and app.list.position == 12


async def test_keys_belong_to_the_filter_while_it_is_typed() -> None:
    app = Million()
    async with app.run_test(size=(80, 24)) as pilot:
        await _press(pilot, "slash", "j", "G", "space", "backspace")
        assert app.filters == ["j", "jG", "jG ", "jG"] and app.list.position == 0
        await _press(pilot, "enter", "j")
        assert app.list.position == 1 and "/jG" in app.text() and "Esc clears" in app.text()
        await _press(pilot, "escape")
        assert app.filters[-1] == "" and "/jG" not in app.text()


async def test_the_end_stays_selected_while_the_list_grows() -> None:
    app = Million()
    app.growing = True
    async with app.run_test(size=(80, 24)) as pilot:
        await _press(pilot, "G")
        app.count += 1000
        app.list.show(app.count, {}, growing=True)
        await pilot.pause()
        assert app.list.position == COUNT + 999
        await _press(pilot, "k")
        app.list.show(app.count + 5, {}, growing=True)
        assert app.list.position == COUNT + 998


async def test_a_list_that_shrinks_keeps_a_selection() -> None:
    app = Million()
    async with app.run_test(size=(80, 24)) as pilot:
        await _press(pilot, "G")
        app.count = 3
        app.list.show(3, {})
        await pilot.pause()
        assert app.list.position == 2 and "line 2" in app.text()
        app.count = 0
        app.list.show(0, {})
        await pilot.pause()
        assert "none" in app.text()
