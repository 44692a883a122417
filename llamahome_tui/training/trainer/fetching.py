"""A run that begins takes the newest whole checkpoint from its mirror; it shows signs of life, and can be stopped."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from llamahome_tui.errors import HubError, IntegrityError, LlamaHomeError
from llamahome_tui.hub.names import repo_of
from llamahome_tui.jobs.child import Child
from llamahome_tui.training import mirror
from llamahome_tui.training.mirror import Copy
from llamahome_tui.training.spec import Spec
from llamahome_tui.training.trainer import uploading

Fetched = tuple[Copy | None, list[str]]
ALIVE_S: Final = 5.0  # between two signs of life
_LOOK_S: Final = 0.2


class Left(Exception):
    """A stop or a pause was asked for meanwhile; what was fetched is cleared by the next attempt."""


def fetch(child: Child, spec: Spec) -> list[str]:
    """Copy the newest whole checkpoint of the mirror into a run that begins; gives what there is to say of it.

    Raises IntegrityError where the mirror has none that can be trusted (to begin anew is for the user to say), what
    `mirror.fetch` and `hub_mirror.fetch` raise, and Left.
    """
    place, into = child.job["mirror"], child.run.checkpoints_dir
    leaving = signs_of_life(child)
    if repo := repo_of(place):
        try:
            found, passed = uploading.fetch(child, repo, spec.name, leaving)
        except HubError:
            if child.stopping or child.pausing:
                raise Left from None
            raise
    else:
        found, passed = beside(lambda: mirror.fetch(Path(place), spec.name, into), leaving)
    if found is None:
        raise IntegrityError(
            "; ".join(passed) or f"checkpoint.mirror: {place} has no checkpoint of {spec.name} any more",
            code="checkpoint.mirror",
            hint="begin anew: llamahome --batch train start SPEC",
        )
    return [*passed, f"goes on from step {found.step} of {found.run}, copied from the mirror {place}"]


def signs_of_life(child: Child) -> Callable[[], bool]:
    """Tells, when asked, whether the run shall leave, and journals every few seconds that it fetches."""
    said = -math.inf

    def leaving() -> bool:
        nonlocal said
        if time.monotonic() - said >= ALIVE_S:
            said = time.monotonic()
            child.emit("phase", phase="fetch")
        return child.stopping or child.pausing

    return leaving


def beside(work: Callable[[], Fetched], leaving: Callable[[], bool]) -> Fetched:
    """What `work` gives or raises, done in a thread; Left as soon as the run shall leave: no disk can be hurried."""
    given: list[Fetched] = []
    raised: list[LlamaHomeError | OSError] = []

    def run() -> None:
        try:
            given.append(work())
        except (LlamaHomeError, OSError) as error:  # raised where it is waited for
            raised.append(error)

    thread = threading.Thread(target=run, name="fetch", daemon=True)
    thread.start()
    while thread.is_alive():
        if leaving():
            raise Left
        thread.join(_LOOK_S)
    if raised:
        raise raised[0]
    if not given:
        raise RuntimeError("the copying has crashed; what it said stands above")
    return given[0]
