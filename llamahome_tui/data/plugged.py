"""Formats of rows that plug-ins bring: a rule that people read, and a function that writes a row in a format of ours.

What comes out goes through our own reader, so a row of a stranger's format is held to the same rules as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from llamahome_tui import plugins
from llamahome_tui.errors import ConfigError
from llamahome_tui.text import clean

_LONGEST: Final = 200  # characters of what a plug-in says of a row


@dataclass(frozen=True, slots=True)
class PluggedFormat:
    """What an entry point in `llamahome.formats` names. It is loaded where rows are read: keep its imports light."""

    rule: str  # how a row is told, in words, for `data formats`
    example: str  # a row as JSON
    learned: str  # what is learned of it
    fits: Callable[[Mapping[str, Any]], bool]  # whether a row that no format of ours fits is of this one
    becomes: str  # completion, messages, ...: the format that `write` writes
    write: Callable[[Mapping[str, Any]], Mapping[str, Any]]  # a row in that format; raises ValueError for a bad one


def names(taken: tuple[str, ...]) -> tuple[str, ...]:
    """Formats that plug-ins bring, whether they load or not."""
    return tuple(plugins.listed(plugins.Group.FORMATS, taken)[0])


def versions(taken: tuple[str, ...]) -> tuple[str, ...]:
    """The formats of plug-ins and who brings them: what is prepared depends on it."""
    return tuple(f"{name} {one.package}" for name, one in plugins.listed(plugins.Group.FORMATS, taken)[0].items())


def plugged(name: str, taken: tuple[str, ...]) -> PluggedFormat:
    """The format of that name. Raises ConfigError where its plug-in is gone or broken."""
    found = plugins.named(plugins.Group.FORMATS, name, taken)
    if found is None:
        raise ConfigError(
            f'data.format: there is no format "{clean(name)[:60]}", and no package brings one',
            code="data.no_format",
            hint="see which there are: llamahome --batch data formats",
        )
    made: PluggedFormat = found.load()
    if made.becomes not in taken:
        raise plugins.broken(found, f"it becomes {made.becomes!r}, which is no format of LlamaHome")
    return made


@cache
def sound(taken: tuple[str, ...]) -> Mapping[str, PluggedFormat]:
    """All that load: looked for once in a process, as every row that nothing else fits is shown to them.

    A broken one recognises nothing; it is an error where a spec names it, and a line of `system doctor`.
    """
    found = {}
    for name in names(taken):
        try:
            found[name] = plugged(name, taken)
        except ConfigError:
            continue
    return found


def told(value: Mapping[str, Any], taken: tuple[str, ...]) -> str:
    """The plug-in's format that a row fits, or ""."""
    for name, one in sound(taken).items():
        try:
            if one.fits(value):
                return name
        except Exception:  # noqa: BLE001 - a stranger's function meets whatever stands in a file
            continue
    return ""


def written(name: str, value: Mapping[str, Any], taken: tuple[str, ...]) -> tuple[str, Mapping[str, Any]]:
    """A row of that format in one of ours: its name, and the row. Raises ValueError with what is wrong with it."""
    one = sound(taken).get(name) or plugged(name, taken)
    try:
        made = one.write(value)
    except Exception as error:  # the same; the row is bad, and not the run
        what = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"is no row of {name}: {clean(what)[:_LONGEST]}") from error
    if not isinstance(made, Mapping):
        raise ValueError(f"was made a {type(made).__name__} by {name}, and not a row")
    return one.becomes, made
