"""The window on a log: opens at the end, grows where one looks, is bounded in memory, and takes filters."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llamahome_tui.tui.screens.logs import window as module
from llamahome_tui.tui.screens.logs.pane import Shown, heading
from llamahome_tui.tui.screens.logs.window import KEPT, PAGE, LogWindow, Look


def _file(path: Path, count: int, start: int = 0) -> Path:
    with path.open("a") as file:
        file.writelines(f"line {number}\n" for number in range(start, start + count))
    return path


def _settle(window: LogWindow) -> Look:
    look = window.read()
    while look.busy:
        look = window.read()
    return look


def _texts(look: Look) -> list[str]:
    return [line.text for line in look.lines]


@pytest.fixture
def window() -> LogWindow:
    return LogWindow(lambda: None)


def test_nothing_is_open_at_first(window: LogWindow) -> None:
    look = window.read()
    assert look.path is None and look.lines == ()


def test_it_opens_at_the_end_and_grows_upwards(window: LogWindow, tmp_path: Path) -> None:
    window.open(_file(tmp_path / "log", 50_000))
    look = _settle(window)
    assert _texts(look)[-1] == "line 49999" and PAGE <= len(look.lines) < 5000
    assert look.whole_below and not look.whole_above
    window.more_above()
    more = _settle(window)
    assert more.generation == look.generation
    before = more.base - look.base
    assert before < 0 and more.lines[-before:] == look.lines
    assert _texts(more)[0] == f"line {50_000 - len(more.lines)}"


def test_a_huge_file_opens_at_once(window: LogWindow, tmp_path: Path) -> None:
    """A hole of 50 GiB and some lines: nothing but the end is read."""
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.truncate(50 * 1024**3)
        file.seek(0, 2)
        file.write(b"\n" + b"".join(b"line %d\n" % number for number in range(5000)))
    window.open(path)
    began = time.monotonic()
    look = window.read()
    assert time.monotonic() - began < 2
    assert _texts(look)[-1] == "line 4999" and len(look.lines) >= PAGE


def test_new_lines_come_and_memory_is_bounded(window: LogWindow, tmp_path: Path) -> None:
    path = _file(tmp_path / "log", 10)
    window.open(path)
    first = _settle(window)
    assert len(first.lines) == 10
    _file(path, 5, start=10)
    look = _settle(window)
    assert _texts(look)[-1] == "line 14" and look.base == first.base == -10
    for start in range(15, 15 + 3 * KEPT, KEPT):
        _file(path, KEPT, start=start)
        look = _settle(window)
    assert len(look.lines) == KEPT
    assert _texts(look)[-1] == f"line {15 + 3 * KEPT - 1}"
    assert _texts(look)[0] == f"line {look.base - first.base}"


def test_top_and_bottom(window: LogWindow, tmp_path: Path) -> None:
    window.open(_file(tmp_path / "log", 60_000))
    _settle(window)
    window.top()
    look = _settle(window)
    assert _texts(look)[0] == "line 0" and not look.at_end and look.whole_above and not look.whole_below
    window.more_below()
    assert len(_settle(window).lines) > len(look.lines)
    window.bottom()
    assert _texts(_settle(window))[-1] == "line 59999"


def test_a_window_that_left_the_end_stays_where_it_is(window: LogWindow, tmp_path: Path) -> None:
    path = _file(tmp_path / "log", 60_000)
    window.open(path)
    window.top()
    before = _settle(window)
    _file(path, 100)
    after = _settle(window)
    assert after.lines == before.lines and after.size > before.size


@pytest.mark.parametrize("fault", ["F22"])
def test_a_replaced_file_is_said_and_opened_again(window: LogWindow, tmp_path: Path, fault: str) -> None:
    path = _file(tmp_path / "log", 100)
    window.open(path)
    before = _settle(window)
    path.rename(tmp_path / "log.1")
    gone = _settle(window)
    assert "gone" in gone.note and gone.lines == before.lines
    path.write_text("fresh\n")
    again = _settle(window)
    assert _texts(again) == ["fresh"] and again.generation > before.generation


def test_level_and_pattern(window: LogWindow, tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w") as file:
        for number in range(9000):
            level = "ERROR" if number % 1000 == 0 else "INFO"
            file.write(f"2026-01-01T00:00:00Z {level:<7} number {number}\n")
            if level == "ERROR":
                file.write("Traceback (most recent call last):\n  File x\nValueError: no\n")
    window.open(path)
    window.choose("error", None)
    look = _settle(window)
    assert len(look.lines) == 9 * 4 and look.whole_above
    window.choose("debug", re.compile("number 8[0-9]$"))
    assert _texts(_settle(window)) == [f"2026-01-01T00:00:00Z INFO    number {n}" for n in range(80, 90)]


def test_a_rare_pattern_takes_turns(window: LogWindow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BUDGET_S", 0.0)
    window.open(_file(tmp_path / "log", 20_000))
    window.choose("debug", re.compile("^line 7$"))
    first = window.read()
    assert first.busy and first.lines == ()
    assert "searching" in heading("log", first, ("debug", "^line 7$"), True)
    assert _texts(_settle(window)) == ["line 7"]


def test_a_file_that_cannot_be_read(window: LogWindow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refused)
    window.open(tmp_path / "log")
    look = window.read()
    assert look.note == "cannot be read: Permission denied"


def test_lines_are_toned_by_level() -> None:
    make: Callable[[str], module.Line] = lambda text: module.Line(0, 0, text)  # noqa: E731
    shown = Shown([make("2026-01-01T00:00:00Z ERROR   a"), make("WARNING b"), make("c\td"), make("DEBUG e")])
    assert list(shown) == [
        ("2026-01-01T00:00:00Z ERROR   a", "bad"), ("WARNING b", "warn"), ("c   d", ""), ("DEBUG e", "dim"),
    ]  # fmt: skip
