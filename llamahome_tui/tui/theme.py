"""Themes: colours from `themes/*.toml` in the package (or the repository) and in the user's own folder.

A bad theme file never stops the application: it is left out and reported with file and line.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from textual.color import Color, ColorParseError
from textual.theme import Theme

from llamahome_tui.config.themes import PREFIX, folders
from llamahome_tui.errors import ConfigError

__all__ = [
    "DEFAULT",
    "PREFIX",
    "Found",
    "find",
    "folders",
    "full_name",
    "load",
    "read",
    "short_name",
    "variable_defaults",
]

DEFAULT = "llamahome-dark"
_COLOURS = (
    "primary",
    "secondary",
    "accent",
    "success",
    "warning",
    "error",
    "foreground",
    "background",
    "surface",
    "panel",
)
# Colours of our own, with the Textual colour that stands in where a theme does not say.
_OWN = {
    "dim": "foreground",
    "line": "panel",
    "select": "panel",
    "select-blurred": "surface",
    "bar": "panel",
    "bar-text": "foreground",
    "here": "primary",
    "here-text": "background",
    "series-1": "primary",
    "series-2": "secondary",
    "series-3": "accent",
}


@dataclass(frozen=True, slots=True)
class Found:
    """The themes of some folders and what was wrong with the rest."""

    themes: tuple[Theme, ...]
    problems: tuple[ConfigError, ...]


def find(name: str, where: Iterable[Path]) -> Theme | None:
    """The theme of this full name; None where there is none, or its file is bad (`load` tells)."""
    for folder in reversed(list(where)):
        path = folder / f"{name.removeprefix(PREFIX)}.toml"
        try:
            if path.is_file():
                return read(path)
        except ConfigError:
            continue
    return None


def load(where: Iterable[Path]) -> Found:
    """Read every theme file in these folders."""
    themes: dict[str, Theme] = {}
    problems: list[ConfigError] = []
    for folder in where:
        for path in sorted(folder.glob("*.toml")) if folder.is_dir() else ():
            try:
                theme = read(path)
            except ConfigError as error:
                problems.append(error)
            else:
                themes[theme.name] = theme
    return Found(tuple(themes.values()), tuple(problems))


def read(path: Path) -> Theme:
    """One theme file; raises ConfigError naming file, line and key."""
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        last = f"at line {text.count(chr(10)) + 1}"
        raise _bad(path, str(error).replace("at end of document", last)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(path, f"cannot be read ({error})") from None
    colours = table.get("colors")
    if not isinstance(colours, dict):
        raise _bad(path, "has no [colors] table")
    for key, value in colours.items():
        line = _line_of(text, key)
        if key not in _COLOURS and key not in _OWN:
            raise _bad(path, f"line {line}: unknown colour {key}; known are {', '.join((*_COLOURS, *_OWN))}")
        try:
            Color.parse(value)
        except (ColorParseError, TypeError, AttributeError):
            raise _bad(path, f"line {line}: {key} = {value!r} is no colour") from None
    missing = [key for key in _COLOURS if key not in colours]
    if missing:
        raise _bad(path, f"[colors] lacks {', '.join(missing)}")
    own = {key: str(colours.get(key, colours[stand_in])) for key, stand_in in _OWN.items()}
    return Theme(
        name=PREFIX + path.stem,
        dark=bool(table.get("dark", True)),
        variables=_variables(own, colours),
        **{key: colours[key] for key in _COLOURS},
    )


def _variables(own: dict[str, str], colours: dict[str, str]) -> dict[str, str]:
    """Our own names, and the ones of Textual's widgets that should follow them."""
    return {
        **{f"lh-{key}": value for key, value in own.items()},
        "scrollbar": own["line"],
        "scrollbar-hover": own["dim"],
        "scrollbar-active": colours["primary"],
        "scrollbar-background": colours["background"],
        "scrollbar-background-hover": colours["background"],
        "scrollbar-background-active": colours["background"],
        "scrollbar-corner-color": colours["background"],
        "input-cursor-background": colours["foreground"],
        "input-cursor-foreground": colours["background"],
        "input-cursor-text-style": "none",
        "input-selection-background": own["select"],
    }


def variable_defaults() -> dict[str, str]:
    """Values of our own colours for a theme that is not one of ours."""
    return {f"lh-{key}": _PLAIN[stand_in] for key, stand_in in _OWN.items()}


_PLAIN = {
    "foreground": "#d0d0d0",
    "panel": "#303030",
    "surface": "#1c1c1c",
    "primary": "#ffaf5f",
    "background": "#121212",
    "secondary": "#87d7ff",
    "accent": "#afd787",
}


def full_name(name: str) -> str:
    """`dark` and `llamahome-dark` are the same theme."""
    return name if name.startswith(PREFIX) else PREFIX + name


def short_name(name: str) -> str:
    """What people call the theme: `dark`."""
    return name.removeprefix(PREFIX)


def _line_of(text: str, key: str) -> int:
    for number, line in enumerate(text.splitlines(), 1):
        if line.split("=")[0].strip().strip('"') == key:
            return number
    return 1


def _bad(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"theme file {path}: {reason}",
        code="theme.invalid",
        hint="mend or remove the file; until then the default theme is used: llamahome --theme dark",
    )
