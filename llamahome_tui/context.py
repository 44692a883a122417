"""What every operation is given: places, settings, environment and who asks; no operation reads globals instead."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

if TYPE_CHECKING:
    from llamahome_tui.config.places import Places
    from llamahome_tui.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Context:
    """The surroundings of one operation.

    `request_id` names the operation in the access log and in the events of the run it starts.
    `yes` is the consent given on the command line (`--yes`); the terminal application asks first and then sets it.
    `stdin` is where `-` and secrets are read from; None where there is nothing to read.
    """

    places: Places
    settings: Settings
    environ: Mapping[str, str]
    cwd: Path
    request_id: str
    interface: Literal["batch", "tui"] = "batch"
    yes: bool = False
    stdin: TextIO | None = None
    stdout_is_terminal: bool = False

    def path(self, text: str | os.PathLike[str]) -> Path:
        """The path that a user means: from this folder, `~` and `~name` replaced where there is such a user."""
        return self.cwd / os.path.expanduser(text)  # noqa: PTH111 - Path's own raises for a user that is not there


def new_request_id() -> str:
    """Twelve hex digits that name one operation in the access log and in the events of what it starts."""
    return os.urandom(6).hex()
