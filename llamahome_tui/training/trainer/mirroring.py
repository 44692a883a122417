"""Copies complete checkpoints to `checkpoint.mirror` in a thread of its own: no mirror ever holds training up."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Final, Protocol

from llamahome_tui.errors import LlamaHomeError
from llamahome_tui.hub.names import repo_of
from llamahome_tui.jobs.child import Child
from llamahome_tui.jobs.store import Run
from llamahome_tui.training import mirror
from llamahome_tui.training.shape import Spec
from llamahome_tui.training.trainer import checkpoint
from llamahome_tui.training.trainer.uploading import HubTarget, Uploader

AGAIN_S: Final = 1.0  # after a copy that failed; twice as long each time
LONGEST_S: Final = 300.0


class Target(Protocol):
    """Where copies go: a folder, or a repository of the Hub (`uploading.HubTarget`)."""

    @property
    def name(self) -> str:
        """How a warning names it."""

    def copy(self, run: Run, source: Path, keep: int, best: str) -> None:
        """Copy a checkpoint whole or not at all, then take away those that the mirror keeps no longer.

        Raises OSError or LlamaHomeError.
        """

    def end(self) -> None:
        """No more copies; one that is being made need not end well."""


class Folder:
    """A folder, of this disk or of another machine's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = str(root)

    def copy(self, run: Run, source: Path, keep: int, best: str) -> None:
        """As Target says."""
        home = self.root / run.id
        # Not its parents: where a disk is not mounted, nothing must be written under its name.
        home.mkdir(mode=0o700, exist_ok=True)
        checkpoint.tidy(home)
        mirror.copy(source, home / source.name)
        checkpoint.rotate(home, keep, best)

    def end(self) -> None:
        """A copy that hangs in a dead disk can't be ended; it has a thread of its own."""


class Mirroring:
    """The copies of one run. Its words are for the trainer's journal, and the training thread collects them."""

    def __init__(self, target: Target, run: Run, keep: int, *, again_s: float = AGAIN_S) -> None:
        self._target = target
        self._run = run
        self._source = run.checkpoints_dir
        self._keep = keep
        self._again_s = again_s
        self._changed = threading.Condition()
        self._wanted: list[str] = []  # folders to copy: the best, then the newest
        self._best = ""
        self._in_work = ""
        self._until: float | None = None  # set by `finish`: no try begins after this moment
        self._over = False  # the words are said
        self._words: list[str] = []
        self._failing = ""
        self._there: set[str] = set()  # what was copied
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
        self._thread.start()

    def offer(self, name: str, best: str) -> None:
        """This checkpoint is complete; what waited and was not begun is overtaken, but never the best."""
        with self._changed:
            owed = [best] if best and best not in self._there else []
            self._wanted = list(dict.fromkeys([*owed, name]))
            self._best = best
            self._changed.notify()

    @property
    def in_work(self) -> str:
        """The folder that is being copied: it must not be removed."""
        with self._changed:
            return self._in_work

    def words(self) -> list[str]:
        """What there is to warn of since the last call."""
        with self._changed:
            found, self._words = self._words, []
            return found

    def finish(self, seconds: float) -> None:
        """Wait at most so long for what is not copied yet; what is lacking then is among the words."""
        with self._changed:
            self._until = time.monotonic() + seconds
            self._changed.notify()
        self._thread.join(seconds)
        with self._changed:
            self._over = True
            lacking = self._wanted or [self._in_work] * bool(self._in_work)
            if lacking:
                why = f": {self._failing}" if self._failing else ""
                self._words.append(
                    f"the mirror {self._target.name} lacks {lacking[-1]}, after {seconds:.0f} s were waited for it{why}"
                )
        self._target.end()

    def _work(self) -> None:
        pause = self._again_s
        while name := self._next():
            problem = self._copy(name)
            with self._changed:
                self._in_work = ""
                if self._over:
                    return
                if not problem:
                    self._wanted = [other for other in self._wanted if other != name]
                    if self._failing:
                        self._words.append(f"the mirror {self._target.name} takes copies again: it has {name}")
                    self._there.add(name)
                    self._failing, pause = "", self._again_s
                    continue
                if problem != self._failing:
                    self._words.append(
                        f"{name} is not in the mirror {self._target.name}: {problem}; "
                        "training goes on, the copy is tried again"
                    )
                self._failing = problem
                self._changed.wait(self._again_s if self._until is not None else pause)
                pause = min(2 * pause, LONGEST_S)

    def _next(self) -> str:
        """The next folder to copy, as soon as there is one; "" at the end."""
        with self._changed:
            while not self._wanted and self._until is None:
                self._changed.wait()
            if not self._wanted or (self._until is not None and time.monotonic() >= self._until):
                return ""
            self._in_work = self._wanted[0]
            return self._in_work

    def _copy(self, name: str) -> str:
        """Copy a checkpoint; gives what went wrong. One that is here no longer was overtaken, which is no fault."""
        source = self._source / name
        with self._changed:
            best = self._best
        try:
            self._target.copy(self._run, source, self._keep, best)
        except OSError as error:
            return "" if not source.is_dir() else f"{error.strerror or error}"
        except LlamaHomeError as error:
            return "" if not source.is_dir() else error.message
        except Exception as error:  # noqa: BLE001 - without its thread nothing would be copied any more, and nobody told
            return f"{type(error).__name__}: {error}"
        return ""


def mirroring_of(child: Child, spec: Spec) -> Mirroring | None:
    """The copies of a run to its spec's mirror; None where it has none."""
    place = spec.checkpoint.mirror
    if not place:
        return None
    name = repo_of(place)
    target: Target = HubTarget(place, Uploader(name, child.run, child.hub_fd)) if name else Folder(Path(place))
    return Mirroring(target, child.run, spec.checkpoint.keep)
