"""The frame of every screen: tabs, body, resource panel, keys; a screen fills the body and paints from its tick.

A screen is made on its first visit and lives on; while another one is shown it reads and paints nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.containers import Container
from textual.screen import Screen

from llamahome_tui.tui.keys import Key, footer
from llamahome_tui.tui.runner import Poll
from llamahome_tui.tui.widgets.bars import KeyBar, TitleBar

if TYPE_CHECKING:
    from llamahome_tui.tui.app import LlamaHomeApp


class BaseScreen(Screen[None]):
    """What the four screens and the pages on top of them share.

    Subclasses set NAME (the tab they belong to), SCOPES (whose keys the footer offers) and
    BINDINGS = bindings("<scope>"), and write `compose_body`, `wake`, `sleep` and `tick`.
    """

    NAME: ClassVar[str] = ""
    SCOPES: ClassVar[tuple[str, ...]] = ()
    PANEL: ClassVar[bool] = True

    @property
    def home(self) -> LlamaHomeApp:
        """The application, with its type."""
        return cast("LlamaHomeApp", self.app)

    def compose(self) -> ComposeResult:
        """Tabs, body, panel, keys."""
        yield TitleBar(self.home.tabs, self.NAME, self.home.host)
        with Container(id="body"):
            yield from self.compose_body()
        if self.PANEL:
            yield Container(id="panel-slot")
        yield KeyBar(self.footer_keys())

    def compose_body(self) -> ComposeResult:
        """The widgets of this screen."""
        yield from ()

    def footer_keys(self) -> list[Key]:
        """The keys the footer offers now."""
        return footer((*self.SCOPES, "app"))

    def show_keys(self) -> None:
        """Offer the keys again after something changed what works."""
        for bar in self.query(KeyBar):
            bar.show(self.footer_keys())

    def show_note(self, note: str) -> None:
        """Put a few words into the title bar."""
        for bar in self.query(TitleBar):
            bar.show(note)

    def subject(self) -> dict[str, str]:
        """What is selected here, by what an argument completes to (`run`, `model`, `log`): the palette fills it in."""
        return {}

    def copy(self, text: str) -> None:
        """Copy a text out of the terminal and say where it went."""
        from llamahome_tui.tui.copying import copy

        home = self.home
        copy(
            text,
            home.context.environ,
            plain=lambda copied: home.later(home.copy_to_clipboard, copied),
            done=lambda way: home.later(home.toast, f"copied {text} to {way}"),
        )

    def polls(self) -> tuple[Poll[Any], ...]:
        """The reads that go on while this screen is shown."""
        return ()

    def wake(self) -> None:
        """The screen is shown (again)."""
        for poll in self.polls():
            poll.start()

    def sleep(self) -> None:
        """The screen is hidden."""
        for poll in self.polls():
            poll.pause()

    def tick(self, now: float) -> None:
        """Four times a second while shown: paint the latest state. `now` is unix time."""

    def on_unmount(self) -> None:
        """Textual: gone, with its reads."""
        for poll in self.polls():
            poll.close()

    def on_screen_resume(self) -> None:
        """Textual: shown. Reading begins after the frame is painted: threads would only hold it up."""
        self.call_after_refresh(self._wake_if_shown)

    def _wake_if_shown(self) -> None:
        # The panel's place is kept from the start; the panel itself has nothing to say before the first frame.
        for slot in self.query("#panel-slot"):
            if not slot.children:
                slot.mount(self.home.make_panel())
        if self.is_current:
            self.wake()

    def on_screen_suspend(self) -> None:
        """Textual: hidden."""
        self.sleep()

    @on(TitleBar.Chosen)
    def _tab(self, message: TitleBar.Chosen) -> None:
        self.home.action_open(message.name)

    @on(KeyBar.Pressed)
    async def _key(self, message: KeyBar.Pressed) -> None:
        self.home.simulate_key(message.key.keys.split(",")[0])
