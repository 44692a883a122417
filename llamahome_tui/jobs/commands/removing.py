"""`runs remove`: a plan first; then the folder is moved aside in one step and deleted, so no run is ever half there."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from llamahome_tui.errors import BusyError, IntegrityError, LlamaHomeError, ResourceError
from llamahome_tui.jobs.commands.following import ending
from llamahome_tui.jobs.locks import RecordLock, holder
from llamahome_tui.jobs.status import Status, derive
from llamahome_tui.jobs.store import Run, RunStore, sync_folder
from llamahome_tui.outcome import Level, Note, Outcome, Result

if TYPE_CHECKING:
    from llamahome_tui.context import Context

_ASIDE: Final = ".removed-"


@dataclass(frozen=True, slots=True)
class Plan:
    """What removing a run takes away; `reasons` are what one should know before."""

    id: str
    dir: str
    bytes: int
    files: int
    status: str
    checkpoints: int
    artifacts: int
    used_by: tuple[str, ...]
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {name: list(v) if isinstance(v := getattr(self, name), tuple) else v for name in self.__slots__}


def remove(context: Context, id: str, dry_run: bool = False) -> Iterator[Outcome]:
    """Delete a run that has ended, after consent. Raises BusyError for a live one, or one that a live run needs."""
    store = RunStore(context.places)
    run = store.resolve(id)
    plan = make_plan(store, run)
    if dry_run:
        yield Result({**plan.to_dict(), "removed": False})
        return
    if not context.yes:
        yield Result(
            {**plan.to_dict(), "removed": False},
            exit_code=2,
            hint=f"nothing was removed; to do it: llamahome --batch runs remove {run.id} --yes",
        )
        return
    for problem in execute(store, run):
        yield Note(problem, Level.WARNING)
    yield Result({**plan.to_dict(), "removed": True}, changed=True)


def make_plan(store: RunStore, run: Run) -> Plan:
    """What would go. Raises BusyError when the run may not be removed, IntegrityError when it lies elsewhere."""
    _must_be_inside(store, run)
    derived = derive(run)
    if not derived.status.ended or holder(run.trainer_lock) is not None or holder(run.supervisor_lock) is not None:
        raise BusyError(
            f"{run.id} is {derived.status.value}" + (" on another machine" if derived.remote else ""),
            code="run.live",
            hint=f"stop it first: llamahome --batch runs stop {run.id}",
            data=ending(run, derived),
        )
    if derived.remote and derived.status is Status.LOST:
        raise BusyError(
            f"{run.id} is silent, and only its own machine can say whether it still runs: {derived.reason}",
            code="run.remote",
            hint=f"remove it there; where that machine is gone for good: rm -r {run.dir}",
            data=ending(run, derived),
        )
    users = [other for other in store.list() if other.id != run.id and _starts_from(other, run)]
    live = [other.id for other in users if other.live]
    if live:
        raise BusyError(
            f"{live[0]} needs the weights of {run.id}",
            code="run.in_use",
            hint=f"wait for it: llamahome --batch runs wait {live[0]}",
            data={"used_by": live},
        )
    size, files = _size(run.dir)
    checkpoints = _count(run.checkpoints_dir)
    artifacts = _count(run.artifacts_dir)
    reasons = [f"{other.id} started from it and needs its adapter to be used" for other in users]
    if artifacts:
        reasons.append(f"its results go with it: {artifacts} in {run.artifacts_dir}")
    if derived.status is not Status.COMPLETED and checkpoints:
        reasons.append(f"it is {derived.status.value} and could be resumed")
    return Plan(
        id=run.id, dir=str(run.dir), bytes=size, files=files, status=derived.status.value, checkpoints=checkpoints,
        artifacts=artifacts, used_by=tuple(other.id for other in users), reasons=tuple(reasons),
    )  # fmt: skip


def execute(store: RunStore, run: Run) -> list[str]:
    """Remove the run; gives what could not be deleted and stays aside. Raises BusyError when it has come to life."""
    with ExitStack() as held:
        for path in (run.supervisor_lock, run.trainer_lock):
            lock = RecordLock(path)
            if not lock.acquire():
                raise BusyError(
                    f"{run.id} has just come to life",
                    code="run.live",
                    hint=f"stop it first: llamahome --batch runs stop {run.id}",
                )
            held.callback(lock.release)
        _must_be_inside(store, run)
        aside = store.runs / f"{_ASIDE}{os.urandom(6).hex()}"
        try:
            run.dir.rename(aside)
        except OSError as error:
            raise ResourceError(
                f"{run.dir} can't be moved aside: {error.strerror}",
                code="run.not_writable",
                hint=f"see who owns it: ls -ld {store.runs}",
            ) from error
        sync_folder(store.runs)
        # From here on the run is gone; what an earlier removal could not finish goes with it.
        problems = [problem for folder in store.runs.glob(f"{_ASIDE}*") for problem in _delete(folder)]
        for path in (run.trainer_lock, run.supervisor_lock, run.labels_lock):
            path.unlink(missing_ok=True)
    return problems


def _must_be_inside(store: RunStore, run: Run) -> None:
    """The folder itself must lie in the runs folder, and be a folder: what a link points to is not ours to delete."""
    root = Path(os.path.realpath(store.runs))
    real = Path(os.path.realpath(run.dir))
    if run.dir.is_symlink() or not run.dir.is_dir() or real.parent != root or real.name != run.id:
        raise IntegrityError(
            f"{run.dir} is not a folder in {root}: it is left alone",
            code="run.outside",
            hint=f"look at it: ls -ld {run.dir}",
        )


def _starts_from(other: Run, run: Run) -> bool:
    try:
        spec, export = other.job.get("spec"), other.job.get("export")
    except LlamaHomeError:
        return False
    if isinstance(export, dict):  # it needs the run until it has ended
        return export.get("run") == run.id and other.live
    model = spec.get("model") if isinstance(spec, dict) else None
    if not isinstance(model, dict):
        return False
    return model.get("id") == run.id or str(model.get("adapter") or "").startswith(f"{run.dir}{os.sep}")


def _size(folder: Path) -> tuple[int, int]:
    """Bytes on the disk and number of files; links count as themselves, hard links once."""
    total, files = 0, 0
    seen: set[tuple[int, int]] = set()
    for place, _folders, names in os.walk(folder, followlinks=False):
        for name in names:
            try:
                status = os.lstat(os.path.join(place, name))  # noqa: PTH118 (many thousands of files)
            except OSError:
                continue
            files += 1
            key = (status.st_dev, status.st_ino)
            if stat.S_ISREG(status.st_mode) and key not in seen:
                seen.add(key)
                total += status.st_blocks * 512
    return total, files


def _count(folder: Path) -> int:
    try:
        with os.scandir(folder) as entries:
            return sum(1 for _ in entries)
    except OSError:
        return 0


def _delete(folder: Path) -> list[str]:
    """Delete a folder without following a link; gives what resisted."""
    if folder.is_symlink():
        folder.unlink(missing_ok=True)
        return []
    problems: list[str] = []

    def resisted(_function: object, path: str, info: tuple[type[BaseException], BaseException, object]) -> None:
        if not isinstance(info[1], FileNotFoundError):
            problems.append(f"{path} stays: {info[1]}")

    shutil.rmtree(folder, onerror=resisted)
    return problems
