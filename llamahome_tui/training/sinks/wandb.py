"""Weights & Biases: the run goes on under its own id in every attempt; without credential or server it is kept here."""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llamahome_tui.training.sinks.base import About

PROJECT = "llamahome"
HOSTS = frozenset({"api.wandb.ai", "api.forge.coreweave.com"})  # its server's names, of older and newer versions
REACHED_S = 20.0  # for its server to answer, before the run is kept here


class Wandb:
    """Metrics by the step of the run."""

    def __init__(self, about: About, wandb: Any) -> None:
        about.folder.mkdir(parents=True, exist_ok=True)
        given: dict[str, Any] = {
            "project": about.project or PROJECT,
            "id": about.id,
            "name": about.name,
            "tags": list(about.tags),
            "config": dict(about.config),
            "dir": str(about.folder),
            "resume": "allow",
        }
        mode = os.environ.get("WANDB_MODE") or ("online" if has_credential(os.environ) else "offline")
        if mode != "online":
            self._run = wandb.init(**given, mode=mode)
            return
        try:
            self._run = wandb.init(**given, mode=mode, settings=wandb.Settings(init_timeout=REACHED_S))
        except wandb.errors.CommError:  # not reached, or the key is refused: nothing of the run shall be lost for that
            wandb.teardown()  # it holds the run's id
            self._run = wandb.init(**given, mode="offline")

    def log(self, step: int, values: Mapping[str, float], at: float) -> None:
        """One row; what is logged for an earlier step than the last one wandb would drop, and nothing here is."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Finish the attempt: what is not yet sent stays in the folder for `wandb sync`."""
        self._run.finish()


def has_credential(environ: Mapping[str, str]) -> bool:
    """Whether wandb would find a key without asking: in the environment, or where `wandb login` keeps it."""
    if environ.get("WANDB_API_KEY"):
        return True
    try:
        known = netrc.netrc(environ.get("NETRC") or str(Path(environ.get("HOME", "/")) / ".netrc")).hosts
    except (OSError, netrc.NetrcParseError):
        return False
    given = environ.get("WANDB_BASE_URL", "").partition("://")[2].partition("/")[0]
    return not known.keys().isdisjoint({given} if given else HOSTS)


def open_sink(about: About) -> Wandb:
    """A sink that logs to wandb."""
    import wandb

    return Wandb(about, wandb)
