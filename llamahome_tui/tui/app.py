"""The terminal application: which screens there are, what is true everywhere, and how it ends.

Nothing here waits: reads and operations run in daemon threads (runner.py), one tick paints the newest state, and
quitting never waits for a thread. Runs are other processes; they go on whatever happens here.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import App
from textual.screen import Screen
from textual.widget import Widget

from llamahome_tui.errors import LlamaHomeError
from llamahome_tui.outcome import Level
from llamahome_tui.text import clean
from llamahome_tui.tui import theme as themes
from llamahome_tui.tui.base import BaseScreen
from llamahome_tui.tui.keys import bindings
from llamahome_tui.tui.painting import settle
from llamahome_tui.tui.widgets.bars import Tab

if TYPE_CHECKING:
    from rich.console import RenderableType

    from llamahome_tui.context import Context
    from llamahome_tui.resources.sampler import Sampler
    from llamahome_tui.resources.snapshot import Snapshot

# The screens, in the order of their keys; each is imported and made on its first visit.
SCREENS: dict[str, tuple[str, str]] = {
    "models": ("Models", "models.screen:ModelsScreen"),
    "training": ("Training", "training.screen:TrainingScreen"),
    "cache": ("Cache", "cache.screen:CacheScreen"),
    "logs": ("Logs", "logs.screen:LogsScreen"),
}
TICK_S = 0.25


def _maker(where: str) -> Callable[[], Screen[None]]:
    def make() -> Screen[None]:
        module, _, name = where.partition(":")
        made: Screen[None] = getattr(importlib.import_module(f"llamahome_tui.tui.screens.{module}"), name)()
        return made

    return make


class LlamaHomeApp(App[int]):
    """The application on one set of places. Time and host name come in as arguments, so that tests can hold them."""

    TITLE = "LlamaHome"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = False
    ANIMATION_LEVEL = "none"
    NOTIFICATION_TIMEOUT = 8.0
    BINDINGS = bindings("app")
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        name: _maker(where) for name, (_, where) in SCREENS.items()
    }
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide"), (150, "-huge")]
    VERTICAL_BREAKPOINTS = [(0, "-tiny"), (20, "-short"), (32, "-tall")]

    def __init__(
        self,
        context: Context,
        *,
        screen: str = "training",
        run: str = "",
        theme: str = "",
        problems: Sequence[Mapping[str, Any]] = (),
        host: str | None = None,
        clock: Callable[[], float] = time.time,
        sampling: bool = True,
        ascii_only: bool = False,
    ) -> None:
        # Textual reads this while it starts: the first screen's stack is made without a blank screen below it.
        self.DEFAULT_MODE = screen  # type: ignore[misc]  # it is read from the instance
        super().__init__()
        self.animation_level = "none"
        self.context = context
        self.first_run = run
        self.host = host if host is not None else os.uname().nodename
        self.clock = clock
        self.tabs = tuple(Tab(str(i), name, title) for i, (name, (title, _)) in enumerate(SCREENS.items(), 1))
        self.sampler: Sampler | None = None
        self.panel_mode = "grid"
        self.note = ""  # a few words beside the host's name, as `2 live`
        self.crash = ""
        self._said: dict[str, float] = {}  # toasts in view, and when each goes
        self._sampling = sampling
        self._problems = list(problems)
        self._wanted_theme = theme
        if ascii_only:
            self.add_class("-ascii")
        self._take_theme()

    # Themes.

    def _take_theme(self) -> None:
        """Read the one theme that the first frame needs; the others follow after it."""
        folders = themes.folders(self.context.places.config)
        wanted = themes.full_name(self._wanted_theme or self.context.settings.ui.theme)
        for name in (wanted, themes.DEFAULT):
            found = themes.find(name, folders)
            if found is not None:
                self.register_theme(found)
                # Without its watcher: Textual applies the theme once, when it starts.
                self.set_reactive(App.theme, found.name)
                return

    def _load_themes(self) -> None:
        found = themes.load(themes.folders(self.context.places.config))
        for one in found.themes:
            self.register_theme(one)
        for problem in found.problems:
            self._problems.append({"reason": problem.message, "hint": problem.hint})
        wanted = themes.full_name(self._wanted_theme or self.context.settings.ui.theme)
        if wanted not in self.available_themes:
            known = ", ".join(themes.short_name(name) for name in self.theme_names())
            self._problems.append({"reason": f"no theme {themes.short_name(wanted)}; known are {known}"})

    def theme_names(self) -> list[str]:
        """Our themes, default first."""
        names = [name for name in self.available_themes if name.startswith(themes.PREFIX)]
        return sorted(names, key=lambda name: (name != themes.DEFAULT, name))

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Our own colours under a theme that does not know them."""
        return themes.variable_defaults()

    def use_theme(self, name: str) -> None:
        """Switch to a theme of ours at once."""
        if name in self.theme_names():
            self.theme = name

    def action_next_theme(self) -> None:
        """The theme after this one."""
        names = self.theme_names()
        here = names.index(self.theme) if self.theme in names else -1
        self.use_theme(names[(here + 1) % len(names)])
        name = themes.short_name(self.theme)
        self.toast(f"theme {name}; keep it with: llamahome config set ui.theme {name}")

    # Life.

    def on_mount(self) -> None:
        """Begin what is not needed for the first frame after it was painted."""
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        self._load_themes()
        gc.freeze()
        gc.enable()
        self.set_interval(TICK_S, self.tick, name="tick")
        if self._sampling:
            threading.Thread(target=self._sample, name="sampler", daemon=True).start()
        for problem in self._problems:
            where = ":".join(str(problem[key]) for key in ("file", "line") if problem.get(key))
            key = f"{problem['key']}: " if problem.get("key") else ""
            self.toast(f"{where + ': ' if where else ''}{key}{problem.get('reason', '')}", Level.WARNING)
        self._problems.clear()

    def _sample(self) -> None:
        """In a thread of its own: importing nvitop and psutil costs more than the first frame."""
        from llamahome_tui.resources.performance import recorder
        from llamahome_tui.resources.sampler import Sampler

        interval = self.context.settings.resources.interval_s
        sampler = Sampler.of(self.context.places, interval, on_sample=recorder(self.context))
        sampler.start()
        self.sampler = sampler

    def snapshot(self) -> Snapshot | None:
        """The newest sample of GPUs, CPU and memory; None until there is one."""
        return self.sampler.latest if self.sampler is not None else None

    def tick(self) -> None:
        """Paint the newest state of the screen in view."""
        now = self.clock()
        for screen in reversed(self.screen_stack):
            if isinstance(screen, BaseScreen):
                # Not while it is taken down: its widgets go one by one.
                if self.is_running and screen.is_running and screen.is_mounted:
                    screen.tick(now)
                    screen.show_note(self.note)
                return

    def make_panel(self) -> Widget:
        """A resource panel for one screen; all of them read the same samples."""
        from llamahome_tui.tui.widgets.panel import ResourcePanel

        return ResourcePanel(self.snapshot, lambda: self.panel_mode)

    # What people are told.

    def later(self, function: Callable[..., object], *arguments: object) -> None:
        """Call this on the application's own thread, from any thread; nothing happens when it has ended."""
        with contextlib.suppress(RuntimeError):
            self.call_later(function, *arguments)

    def toast(self, text: str, level: Level = Level.INFO) -> None:
        """Show a short message, cleaned and without markup; one that is in view already is not shown twice."""
        severity = {Level.INFO: "information", Level.WARNING: "warning", Level.ERROR: "error"}[level]
        said, now = clean(text, limit=600, keep_newlines=True), time.monotonic()
        self._said = {one: gone for one, gone in self._said.items() if gone > now}
        if said in self._said:
            return
        self._said[said] = now + self.NOTIFICATION_TIMEOUT
        self.notify(said, severity=severity, markup=False)  # type: ignore[arg-type]  # a str of the Literal's words

    def report(self, error: LlamaHomeError) -> None:
        """Show a failure as one toast that ends in its hint; one with many mistakes opens as a sheet."""
        rows = [row for key in ("errors", "bad") for row in error.data.get(key) or () if isinstance(row, Mapping)]
        if len(rows) < 2 and error.message.count("\n") < 3:
            self.toast(error.message + (f"\n{error.hint}" if error.hint else ""), Level.ERROR)
            return
        from llamahome_tui.tui.widgets.sheet import Sheet

        lines = [(line, "bad") for line in error.message.splitlines()]
        places = [(_mistake(row), "") for row in rows if str(row.get("reason")) not in error.message]
        self.push_screen(Sheet("This does not work yet", [*lines, ("", ""), *places, ("", ""), (error.hint, "dim")]))

    def fault(self, error: BaseException, where: str) -> LlamaHomeError:
        """Write a fault of our own to error.log, without the values of variables, and give what to tell people."""
        from llamahome_tui.config.secrets import redact
        from llamahome_tui.logs.files import ERROR, Limits, write

        text = "".join(traceback.format_exception(error))
        write(self.context.places.logs, ERROR, "error", f"fault in {where}\n{text}", Limits.of(self.context.settings))
        return LlamaHomeError(
            redact(clean(f"a fault of LlamaHome's own in {where}: {type(error).__name__}: {error}", limit=300)),
            hint="the report is in app/error.log: llamahome --batch logs show app/error.log",
        )

    # Keys that work everywhere.

    def action_open(self, name: str) -> None:
        """Show a screen, made now if it is the first visit."""
        if isinstance(self.screen, BaseScreen) and name in SCREENS:
            self.switch_mode(name)

    async def action_back(self) -> None:
        """Close what is on top."""
        if len(self.screen_stack) > 1:
            self.pop_screen()
        else:
            self.toast("nothing to go back to; ctrl+q quits, runs go on")

    def action_help(self) -> None:
        """Every key and operation on one page."""
        from llamahome_tui.tui.help import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            scopes = self.screen.SCOPES if isinstance(self.screen, BaseScreen) else ()
            self.push_screen(HelpScreen(scopes, ascii_only=self.has_class("-ascii")))

    def action_palette(self) -> None:
        """Every operation by name."""
        from llamahome_tui.tui.palette import Palette

        def chosen(do: Callable[[], None] | None) -> None:
            if do is not None:
                do()

        if isinstance(self.screen, BaseScreen):
            self.push_screen(Palette(self.screen.subject()), chosen)

    def action_panel(self) -> None:
        """The resource panel as a grid, as one line, or with every process."""
        from llamahome_tui.tui.widgets.panel import MODES, ResourcePanel

        self.panel_mode = MODES[(MODES.index(self.panel_mode) + 1) % len(MODES)]
        for panel in self.screen.query(ResourcePanel):
            panel.look()

    def action_help_quit(self) -> None:
        """Ctrl+C never reaches a run, and never ends the application by accident."""
        self.toast("ctrl+q quits; runs go on. x stops the selected run")

    def action_leave(self) -> None:
        """End the application; runs go on."""
        self.exit(0)

    # How it ends when it must not.

    def panic(self, *renderables: RenderableType) -> None:
        """Textual's way out: close without printing what it would print."""
        self.crash = self.crash or "the terminal's input ended"
        self._close_messages_no_wait()

    def _fatal_error(self) -> None:
        """Textual would print a traceback with the values of variables, tokens among them: ours goes to the log."""
        error = sys.exc_info()[1] or self._exception
        if error is not None and not self.crash:
            self.crash = self.fault(error, "the terminal application").message
        self._close_messages_no_wait()

    def _print_error_renderables(self) -> None:
        self._exit_renderables.clear()


def _mistake(row: Mapping[str, Any]) -> str:
    """`spec.toml:12: training.epohs: unknown key; did you mean training.epochs?`."""
    place = ":".join(str(row[key]) for key in ("file", "line") if row.get(key) not in (None, "", 0))
    what = " ".join(str(row[key]) for key in ("key", "field") if row.get(key) not in (None, ""))
    nearest = f"; did you mean {row['nearest']}?" if row.get("nearest") else ""
    return ": ".join(part for part in (place, what, str(row.get("reason", ""))) if part) + nearest


def run(screen: str, run_id: str, theme: str, context: Context, problems: Sequence[Mapping[str, Any]] = ()) -> int:
    """Open the application and give its exit status once the terminal is as it was."""
    ascii_only = _ascii(context)
    settle(context.environ)
    app = LlamaHomeApp(
        context, screen=screen or "training", run=run_id, theme=theme, problems=problems, ascii_only=ascii_only
    )
    code = app.run()
    if app.crash:
        log = context.places.logs / "app/error.log"
        sys.stderr.write(f"llamahome: {app.crash}; runs go on, the report is in {log}\n")
        return 1
    return code or 0


def leave(code: int) -> None:
    """End the process now: a thread that hangs in a driver must not hold the shell back."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _ascii(context: Context) -> bool:
    from llamahome_tui.tui.splash import plain

    wish = context.settings.ui.ascii
    return wish == "true" or (wish == "auto" and plain(dict(context.environ), sys.stdout.encoding))
