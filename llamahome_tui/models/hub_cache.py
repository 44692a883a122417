"""Finds repositories in the Hugging Face cache with os.scandir; a link that leaves its repository is never followed.

Layout: models--<org>--<name>/ with blobs/<hash>, refs/<branch> (a commit), snapshots/<commit>/<file> (links).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llamahome_tui.errors import IntegrityError, UsageError

_PREFIX = "models--"
_ID = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,95}/)?[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,200}")


@dataclass(frozen=True, slots=True)
class Repository:
    """One model repository in the cache; `refs` maps a branch or tag to the commit it names."""

    id: str
    path: Path
    refs: dict[str, str]
    snapshots: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CachedFile:
    """A file of a snapshot: its name in the repository, the real file behind it, bytes, and when it was last read."""

    name: str
    blob: Path
    inode: tuple[int, int]
    bytes: int
    used: float


def split_id(text: str) -> tuple[str, str | None]:
    """`org/name@revision` as (id, revision or None). Raises UsageError for a revision that could leave the cache."""
    repo, at, revision = text.partition("@")
    if not at:
        return repo, None
    if not _REVISION.fullmatch(revision) or ".." in revision or "//" in revision:
        raise UsageError(
            f"{revision!r} cannot be a revision",
            code="model.bad_revision",
            hint="give a branch, a tag or a commit, as org/name@main; what is here: llamahome --batch models list",
        )
    return repo, revision


def is_hub_id(text: str) -> bool:
    """Whether this could be the id of a repository, by the Hub's own rules."""
    return bool(_ID.fullmatch(text)) and "--" not in text and ".." not in text


def find(cache: Path, repo_id: str) -> Repository | None:
    """The repository of that id, or None."""
    path = cache / (_PREFIX + repo_id.replace("/", "--"))
    return _repository(path, repo_id) if path.is_dir() else None


def repositories(cache: Path) -> Iterator[Repository]:
    """Every model repository in the cache, by name."""
    try:
        with os.scandir(cache) as entries:
            names = sorted(e.name for e in entries if e.name.startswith(_PREFIX) and e.is_dir())
    except OSError:
        return
    for name in names:
        repo_id = name.removeprefix(_PREFIX).replace("--", "/")
        if is_hub_id(repo_id):
            yield _repository(cache / name, repo_id)


def commit_of(repository: Repository, revision: str | None) -> str | None:
    """The commit a revision names; without one `main`, or the only snapshot there is."""
    if revision is None or revision == "main":
        named = repository.refs.get("main")
        return named or (repository.snapshots[0] if len(repository.snapshots) == 1 and revision is None else None)
    if revision in repository.refs:
        return repository.refs[revision]
    return revision if _COMMIT.fullmatch(revision) else None


def snapshot_files(repository: Repository, commit: str) -> Iterator[CachedFile]:
    """The files of a snapshot. Raises IntegrityError `model.outside` for a link that leaves the repository,
    and `model.incomplete` for one that leads nowhere."""
    root = os.path.realpath(repository.path)
    if root != os.path.join(os.path.realpath(repository.path.parent), repository.path.name):  # noqa: PTH118
        raise _outside(repository.path)
    top = repository.path / "snapshots" / commit
    folders = [str(top)]
    while folders:
        folder = folders.pop()
        if os.path.realpath(folder) != os.path.join(root, os.path.relpath(folder, repository.path)):  # noqa: PTH118
            raise _outside(Path(folder))
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                    continue
                real = os.path.realpath(entry.path)
                if not real.startswith(root + os.sep):
                    raise _outside(Path(entry.path))
                try:
                    stat = os.stat(real)  # noqa: PTH116 - ten thousand of these are listed while a screen waits
                except OSError:
                    raise IntegrityError(
                        f"{entry.path}: the file is missing from the cache",
                        code="model.incomplete",
                        hint="look: llamahome --batch models list",
                        data={"file": entry.path, "reason": f"{entry.name} is missing"},
                    ) from None
                name = os.path.relpath(entry.path, top)
                yield CachedFile(name, Path(real), (stat.st_dev, stat.st_ino), stat.st_size, stat.st_atime)


def _repository(path: Path, repo_id: str) -> Repository:
    return Repository(repo_id, path, dict(_refs(path / "refs")), tuple(sorted(_names(path / "snapshots"))))


def _refs(folder: Path) -> Iterator[tuple[str, str]]:
    for root, folders, files in os.walk(folder):
        folders.sort()
        for file in files:
            path = Path(root) / file
            if path.is_symlink():
                continue
            try:
                with path.open(encoding="ascii", errors="replace") as text:
                    commit = text.read(64).strip()
            except OSError:
                continue
            if _COMMIT.fullmatch(commit):
                yield path.relative_to(folder).as_posix(), commit


def _names(folder: Path) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            yield from (e.name for e in entries if _COMMIT.fullmatch(e.name) and e.is_dir(follow_symlinks=False))
    except OSError:
        return


def _outside(path: Path) -> IntegrityError:
    return IntegrityError(
        f"{path}: the link leads outside its repository in the cache, so it is not followed",
        code="model.outside",
        hint="remove that link, then look: llamahome --batch models list",
        data={"file": str(path), "reason": f"{path.name} leads outside the cache"},
    )
