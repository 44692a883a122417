"""The key table: no key twice where it counts, nothing that tmux or the shell owns, all of it in the help."""

from __future__ import annotations

from collections import Counter

import pytest

from llamahome_tui.operations import OPERATIONS
from llamahome_tui.tui.help import page
from llamahome_tui.tui.keys import KEYS, SCOPES, bindings, footer, keys_of
from llamahome_tui.tui.splash import frame, plain

TOGETHER = [
    ("app", "models", "table"), ("app", "training", "table"), ("app", "run", "text"), ("app", "cache", "table"),
    ("app", "data", "rows"), ("app", "data", "text", "tokens"), ("app", "data", "table"),
    ("app", "logs", "text"), ("dialog",), ("prompt",), ("palette",), ("sheet", "text"),
]  # fmt: skip


@pytest.mark.parametrize("scopes", TOGETHER)
def test_no_key_means_two_things(scopes: tuple[str, ...]) -> None:
    # A screen may take `back` over: it closes something of its own first.
    table = [key for key in keys_of(*scopes) if (key.scope, key.action) != ("app", "back")]
    counted = Counter(one for key in table for one in key.keys.split(","))
    assert [key for key, times in counted.items() if times > 1] == []


def test_no_chord_of_tmux_or_the_shell() -> None:
    taken = {"ctrl+a", "ctrl+c", "ctrl+d", "ctrl+s", "ctrl+z", "ctrl+backslash", "ctrl+r", "ctrl+w"}
    for key in KEYS:
        assert not taken & set(key.keys.split(",")), key


def test_every_scope_has_a_title_and_binds() -> None:
    for scope in {key.scope for key in KEYS}:
        assert scope in SCOPES
        assert len(bindings(scope)) == len(keys_of(scope))


def test_the_footer_begins_with_what_matters_most() -> None:
    ranks = [key.rank for key in footer(("training", "table", "app"))]
    assert ranks == sorted(ranks)
    assert 0 not in ranks


def test_the_help_has_every_key_and_operation() -> None:
    text = "\n".join(line for line, _ in page(("training",)))
    assert text.index(SCOPES["training"]) < text.index(SCOPES["app"])
    for key in KEYS:
        assert key.help in text
    for operation in OPERATIONS:
        assert operation.help in text or not operation.verb
    assert "\n".join(line for line, _ in page(ascii_only=True)).isascii()


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (20, 5), (1, 1), (300, 90)])
def test_the_splash_stays_in_the_terminal(size: tuple[int, int]) -> None:
    import re

    for row, column in re.findall(r"\x1b\[(\d+);(\d+)H", frame(*size, ascii_only=False, colour=True)):
        assert 1 <= int(row) <= max(size[1], 2)
        assert int(column) >= 1
    assert frame(80, 24, True, False).replace("\x1b", "").isascii()


def test_ascii_where_it_must_be() -> None:
    assert plain({"TERM": "dumb"}, "utf-8")
    assert plain({"TERM": "xterm"}, "ascii")
    assert plain({"TERM": "xterm", "LC_ALL": "C"}, "utf-8")
    assert not plain({"TERM": "xterm"}, "UTF-8")
