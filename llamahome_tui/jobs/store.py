"""Where jobs are kept on disk: a run's folder appears whole or not at all, and its spec.json is never changed."""

from __future__ import annotations

import copy
import errno
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from llamahome_tui.config.places import make_private
from llamahome_tui.errors import BusyError, ConfigError, LlamaHomeError, NotFoundError, ResourceError, UsageError
from llamahome_tui.jobs.journal import read
from llamahome_tui.jobs.locks import RecordLock, holder

if TYPE_CHECKING:
    from llamahome_tui.config.places import Places

_ROOM: Final = 1 << 20  # bytes that must be free before a run is made: its journals have to begin somewhere
_SMALL_FILE: Final = 4 << 20  # bytes; no spec or label file is larger
_ID: Final = re.compile(r"\d{8}-\d{6}-[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class Run:
    """One job's folder. Everything else about it is read from the files in there."""

    id: str
    dir: Path

    @classmethod
    def open(cls, folder: Path) -> Run:
        """The run that lives in `folder`. Raises NotFoundError when there is none."""
        folder = folder.absolute()
        if not (folder / "spec.json").is_file():
            raise NotFoundError(
                f"{folder} is not a run's folder", hint="see: llamahome --batch runs list", code="run.not_found"
            )
        return cls(folder.name, folder)

    @cached_property
    def state(self) -> Path:
        """The state folder this run belongs to."""
        return self.dir.parent.parent

    @cached_property
    def locks(self) -> Path:
        return self.state / "locks"

    @property
    def events_path(self) -> Path:
        return self.dir / "events.jsonl"

    @property
    def supervisor_path(self) -> Path:
        return self.dir / "supervisor.jsonl"

    @property
    def out_path(self) -> Path:
        return self.dir / "out.log"

    @property
    def labels_path(self) -> Path:
        return self.dir / "labels.json"

    @property
    def control_dir(self) -> Path:
        return self.dir / "control"

    @property
    def checkpoints_dir(self) -> Path:
        return self.dir / "checkpoints"

    @property
    def artifacts_dir(self) -> Path:
        return self.dir / "artifacts"

    @property
    def trainer_lock(self) -> Path:
        return self.locks / f"{self.id}.trainer"

    @property
    def supervisor_lock(self) -> Path:
        return self.locks / f"{self.id}.supervisor"

    @property
    def labels_lock(self) -> Path:
        return self.locks / f"{self.id}.labels"

    @property
    def name(self) -> str:
        """As it was given; a run whose spec.json is broken still has the name in its id."""
        try:
            return str(self.job.get("name") or self.id[16:])
        except ConfigError:
            return self.id[16:]

    @property
    def live(self) -> bool:
        """Whether a trainer or a supervisor of it runs, as the locks say."""
        return holder(self.trainer_lock) is not None or holder(self.supervisor_lock) is not None

    @cached_property
    def job(self) -> dict[str, Any]:
        """spec.json as it was written once. Raises ConfigError when it can't be read."""
        path = self.dir / "spec.json"
        value = read_object(path)
        if value is None:
            raise ConfigError(
                f"{path} can't be read as a job", code="run.broken", hint=f"llamahome --batch runs remove {self.id}"
            )
        return value

    def effective_job(self) -> dict[str, Any]:
        """The job with everything that `runs resume --set` has changed since; a fresh value."""
        from llamahome_tui.jobs.control import requests  # which itself knows runs

        job = copy.deepcopy(self.job)
        applied: dict[object, bool] = {}
        for record in read(self.supervisor_path):
            if record["type"] == "control":
                applied[record.get("request")] = record.get("outcome") == "applied"
            elif record["type"] in ("begin", "spawn"):
                applied.setdefault(record.get("request"), True)
        asked = [request for request in requests(self, ("resume", "stop")) if not request.fault]
        last_stop = max((request.id for request in asked if request.op == "stop"), default="")
        # From the request itself: it is there before the attempt that it asks for begins. One that a stop overtook
        # before anything was begun for it never counts.
        for request in asked:
            changes = request.value.get("set") if request.op == "resume" and isinstance(request.value, dict) else None
            if isinstance(changes, dict) and applied.get(request.id, request.id > last_stop):
                for key, value in changes.items():
                    _set_dotted(job.setdefault("spec", {}), key.split("."), value)
        return job

    def labels(self) -> dict[str, Any]:
        """Title, tags and note; empty when none were given."""
        return read_object(self.labels_path) or {}

    def set_labels(self, **changes: Any) -> dict[str, Any]:
        """Replace some labels (None takes one off) and give back all of them."""
        lock = RecordLock(self.labels_lock)
        if not lock.acquire(blocking=True, timeout=5.0):
            raise BusyError(f"the labels of {self.id} are being changed by another process", code="run.labels_busy")
        try:
            labels = {key: value for key, value in {**self.labels(), **changes}.items() if value is not None}
            write_object(self.labels_path, labels)
        finally:
            lock.release()
        return labels


class RunStore:
    """All runs of one state folder."""

    def __init__(self, places: Places | Path) -> None:
        self.state: Path = places if isinstance(places, Path) else places.state
        self.runs = self.state / "runs"
        self.locks = self.state / "locks"

    def create(self, job: Mapping[str, Any]) -> Run:
        """Make a run of `job` (name, kind, spec or command, ...) and give it its id.

        Raises ConfigError when the state folder can't be written, ResourceError when its disk is full; nothing is
        left behind then.
        """
        name = str(job.get("name") or "run")
        staging = self.runs / f".new-{os.urandom(8).hex()}"
        try:
            self.prepare()
            self._clear_staging()
            staging.mkdir(mode=0o700)
            for folder in ("control", "checkpoints", "artifacts"):
                (staging / folder).mkdir(mode=0o700)
            return self._publish(staging, name, job)
        except OSError as error:
            raise self._refusal(error) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def prepare(self) -> None:
        """Make sure that a run could be made now: folders there, writable, not full. Raises like `create`."""
        try:
            for folder in (self.runs, self.locks):
                make_private(folder)
                if not os.access(folder, os.W_OK | os.X_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
            status = os.statvfs(self.runs)
            if status.f_flag & os.ST_RDONLY:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self.runs))
            if status.f_bavail * status.f_frsize < _ROOM:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.runs))
        except OSError as error:
            raise self._refusal(error) from error

    def list(self) -> list[Run]:
        """Every run, newest first."""
        try:
            with os.scandir(self.runs) as entries:
                names = [e.name for e in entries if _ID.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return []
        return [Run(name, self.runs / name) for name in sorted(names, reverse=True)]

    def resolve(self, text: str) -> Run:
        """The run that `text` means: an id, a unique prefix of one, the name of a live run, or `latest`.

        Raises NotFoundError, and UsageError with the candidates when several are meant.
        """
        runs = self.list()
        if text == "latest":
            if runs:
                return runs[0]
            raise NotFoundError("there is no run yet", hint="start one: llamahome --batch demo", code="run.not_found")
        for run in runs:
            if run.id == text:
                return run
        meant = [run for run in runs if text and run.id.startswith(text)]
        if not meant:
            # The folder's name holds the name as a slug: only runs that can be meant are opened.
            named = [run for run in runs if run.id[16:].startswith(_slug(text)) and run.name == text]
            meant = [run for run in named if run.live] or named
        if len(meant) == 1:
            return meant[0]
        if meant:
            raise UsageError(
                f"{text!r} is the beginning or the name of {len(meant)} runs",
                hint="give more of the id, such as: llamahome --batch runs show " + meant[0].id,
                code="run.ambiguous",
                data={"candidates": [run.id for run in meant[:50]]},
            )
        raise NotFoundError(f"there is no run {text!r}", hint="see: llamahome --batch runs list", code="run.not_found")

    def live(self, name: str) -> Run | None:
        """The live run of this name, if there is one."""
        named = (run for run in self.list() if run.id[16:].startswith(_slug(name)))
        return next((run for run in named if run.live and run.name == name), None)

    def _clear_staging(self) -> None:
        """Take away what a killed `create` has left: nobody needs an hour between its first and its last step."""
        for left in self.runs.glob(".new-*"):
            try:
                old = time.time() - left.stat(follow_symlinks=False).st_mtime > 3600
            except FileNotFoundError:
                continue
            if old and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)

    def _publish(self, staging: Path, name: str, job: Mapping[str, Any]) -> Run:
        now = time.time()
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
        for number in range(1, 1000):
            run_id = f"{stamp}-{_slug(name)}" + (f"-{number}" if number > 1 else "")
            if (self.runs / run_id).exists():
                continue
            created = job.get("created_at") or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
            whole = {"v": 1, **job, "id": run_id, "name": name, "created_at": created}
            write_object(staging / "spec.json", whole)
            try:
                staging.rename(self.runs / run_id)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    continue  # another process was faster
                raise
            sync_folder(self.runs)
            return Run(run_id, self.runs / run_id)
        raise BusyError(f"a thousand runs named {name} in one second", code="run.id_busy")

    def _refusal(self, error: OSError) -> LlamaHomeError:
        where = error.filename or self.state
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = 0
            try:
                status = os.statvfs(self.state)
                free = status.f_bavail * status.f_frsize
            except OSError:
                pass
            return ResourceError(
                f"the disk under {self.state} is full: {_ROOM} bytes are needed to begin, {free} are free",
                hint="see what takes space: llamahome --batch cache usage",
                code="places.full",
                data={"needed_bytes": _ROOM, "free_bytes": free},
            )
        return ConfigError(
            f"the state folder can't be written: {where}: {error.strerror}",
            hint="choose another: LLAMAHOME_HOME=/some/folder llamahome --batch config path",
            code="places.not_writable",
        )


def write_object(path: Path, value: Mapping[str, Any]) -> None:
    """Put a JSON object at `path` atomically and durably: under another name, synced, renamed, folder synced."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1, default=str) + "\n")


def write_text(path: Path, text: str) -> None:
    """The same for a text."""
    write_portions(path, [text])


def write_portions(path: Path, portions: Iterable[str], mode: int = 0o600) -> int:
    """The same for a text that comes in portions, none of which is kept; gives its bytes. `mode` is the file's."""
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            for portion in portions:
                file.write(portion.encode("utf-8", "replace"))
            file.flush()
            if mode != 0o600:
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
            size = file.tell()
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return size


def sync_folder(folder: Path) -> None:
    """Make renames and new files of a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_object(path: Path, limit: int = _SMALL_FILE) -> dict[str, Any] | None:
    """The JSON object in a small file; None when it is missing, no regular file, longer than `limit`, or no object."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        with os.fdopen(fd, "rb") as file:
            # A read takes as much memory as it is allowed to give: with the file's own size it is what is needed.
            data = file.read(min(limit, os.fstat(file.fileno()).st_size) + 1)
        value = json.loads(data) if len(data) <= limit else None
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _set_dotted(target: dict[str, Any], keys: Iterable[str], value: Any) -> None:
    *path, last = keys
    for key in path:
        inner = target.get(key)
        if not isinstance(inner, dict):
            inner = target[key] = {}
        target = inner
    target[last] = value


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")[:48] or "run"
