"""Where theme files stand, and which names they have; what is in them is the terminal application's matter."""

from __future__ import annotations

import difflib
from pathlib import Path

from llamahome_tui.errors import ConfigError

PREFIX = "llamahome-"  # `dark` and `llamahome-dark` are the same theme


def folders(config: Path | None = None) -> list[Path]:
    """Where themes are looked for: the wheel or the repository, then the user's own folder (which wins)."""
    package = Path(__file__).resolve().parent.parent
    shipped = package / "themes"
    found = [shipped if shipped.is_dir() else package.parent / "themes"]
    if config is not None:
        found.append(config / "themes")
    return found


def names(config: Path | None = None) -> list[str]:
    """The short names of all theme files there are."""
    return sorted({path.stem for folder in folders(config) if folder.is_dir() for path in folder.glob("*.toml")})


def require(name: str, config: Path) -> None:
    """Raises ConfigError with the nearest name when no theme file has this one."""
    known = names(config)
    if name.removeprefix(PREFIX) in known:
        return
    close = difflib.get_close_matches(name.removeprefix(PREFIX), known, 1)
    raise ConfigError(
        f"ui.theme: there is no theme {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""),
        hint=f"there are {', '.join(known)}: llamahome --batch config set ui.theme dark",
        data={"known": known},
    )
