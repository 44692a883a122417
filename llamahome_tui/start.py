"""From a process's surroundings (environment, folder, files) to the Context that its operations are given."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llamahome_tui.context import Context, new_request_id

if TYPE_CHECKING:
    from llamahome_tui.config.fields import Mistake
    from llamahome_tui.config.settings import Settings


def surroundings(
    environ: Mapping[str, str],
    interface: Literal["batch", "tui"],
    *,
    options: Mapping[str, Any] | None = None,
    env_file: bool = True,
    yes: bool = False,
    lenient: bool = False,
) -> tuple[Context, list[Mistake]]:
    """The context of this process and the configuration mistakes that were passed over.

    Batch refuses a broken configuration (ConfigError, listing every mistake). The terminal application and what mends
    a configuration are `lenient`: they start with defaults for what is broken.
    """
    from llamahome_tui.config.places import Places
    from llamahome_tui.config.settings import environment, load_settings

    cwd = _folder()
    own = environ  # without the `.env`, so that each setting knows which of both set it
    environ = environment(own, cwd, env_file)
    places = Places.from_environ(environ)
    settings: Settings
    problems: list[Mistake] = []
    if lenient or interface == "tui":
        settings, problems = load_settings(places, own, cwd, options, env_file, lenient=True)
    else:
        settings = load_settings(places, own, cwd, options, env_file)
    context = Context(
        places=places,
        settings=settings,
        environ=environ,
        cwd=cwd,
        request_id=new_request_id(),
        interface=interface,
        yes=yes,
        stdin=sys.stdin,
        stdout_is_terminal=sys.stdout.isatty(),
    )
    return context, problems


def _folder() -> Path:
    """The working folder; `/` where it was removed under us."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return Path("/")
