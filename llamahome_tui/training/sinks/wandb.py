"""Weights & Biases: the run goes on under its own id in every attempt; without a credential it is kept offline."""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llamahome_tui.training.sinks.base import About

PROJECT = "llamahome"


class Wandb:
    """Metrics by the step of the run."""

    def __init__(self, about: About, wandb: Any) -> None:
        about.folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=about.project or PROJECT,
            id=about.id,
            name=about.name,
            tags=list(about.tags),
            config=dict(about.config),
            dir=str(about.folder),
            resume="allow",
            mode=os.environ.get("WANDB_MODE") or ("online" if has_credential(os.environ) else "offline"),
        )

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
    return environ.get("WANDB_BASE_URL", "https://api.wandb.ai").partition("://")[2].partition("/")[0] in known


def open_sink(about: About) -> Wandb:
    """A sink that logs to wandb."""
    import wandb

    return Wandb(about, wandb)
