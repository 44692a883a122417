"""Copies of checkpoints in a private Hub repo: one commit each, so that one is there whole or not at all.

The layout is that of a mirror in a folder (see `mirror`), and so is the trust: paths have the one form that we write,
each file must have the size and sha256 of the list, and what does not is passed over.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from llamahome_tui.errors import AuthError, HubError, IntegrityError, LlamaHomeError
from llamahome_tui.hub.repo import Entry, Repo, Tree, open_repo
from llamahome_tui.jobs import recovery
from llamahome_tui.jobs.store import read_object
from llamahome_tui.training import mirror
from llamahome_tui.training.mirror import COUNTERS, LARGEST, Copy

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_PATH: Final = re.compile(rf"({mirror.RUN.pattern})/(step-\d{{1,12}})/({_NAME.pattern})")
PATIENCE_S: Final = 120.0
SCRATCH: Final = ".tmp-hub"  # in the run's checkpoints: whatever a killed download left there is cleared as a save's is


def send(repo: Repo, run: str, source: Path, keep: int, best: str) -> bool:
    """Add a checkpoint, and take away those that are kept no longer, in one commit; False when nothing was to be done.

    Whatever is there is compared by hash before and after. Raises as `Repo` does, and IntegrityError where the source
    is not what its list says.
    """
    tree = _private(repo)
    if wrong := recovery.verify(source):
        raise IntegrityError(wrong[0])
    hashes = {name: str(entry["sha256"]) for name, entry in _listed(source).items()}
    hashes[recovery.COMPLETE] = recovery.sha256_of(source / recovery.COMPLETE)
    gone = _dropped(tree, run, source.name, keep, best)
    lacking = _lacking(tree, run, source, hashes)
    if not lacking and not gone:
        return False
    add = {f"{run}/{source.name}/{name}": source / name for name in hashes} if lacking else {}
    repo.commit(f"{run} {source.name}", add, [f"{run}/{step}" for step in gone])
    if lacking := _lacking(repo.tree(), run, source, hashes):
        raise IntegrityError(f"{repo.name} has not what was sent: {source.name}/{lacking[0]}")
    return True


def copies(repo: Repo, tree: Tree, name: str, scratch: Path) -> Iterator[Copy | str]:
    """What a run of this name could go on from, newest first, and a text for what is no checkpoint, with the reason.

    Only lists and counters are fetched, into `scratch`; a Copy's path is where its files would go.
    """
    steps = {(run, int(step[5:]), step) for run, step, _ in _ours(tree)}
    for run, number, step in sorted(steps, reverse=True):
        folder = f"{run}/{step}"
        if not {f"{folder}/{COUNTERS}", f"{folder}/{recovery.COMPLETE}"} <= tree.files.keys():
            yield f"{folder} in the mirror is passed over: it has no list of its files"
            continue
        try:
            _fetch_step(repo, tree, scratch, folder, [recovery.COMPLETE, COUNTERS])
            notes = read_object(scratch / folder / COUNTERS, limit=LARGEST)
            best = mirror.best_of(notes) if notes and mirror.at(notes, "spec", "name") == name else None
            if best is None:
                continue
            for needed in dict.fromkeys(filter(None, (best, step))):
                _check_sizes(repo, tree, scratch, f"{run}/{needed}")
        except IntegrityError as error:
            yield f"{folder} in the mirror is passed over: {error.message}"
            continue
        yield Copy(run, scratch / folder, number, best)


def newest(repo_name: str, name: str, environ: Mapping[str, str], *, patience_s: float = PATIENCE_S) -> Copy | None:
    """The first of `copies` that has all its files; only lists are fetched. Raises as `Repo` does.

    HubError too where it takes longer than `patience_s`: the library sleeps as long as a Hub asks it to, even a day.
    """
    given: list[Copy | None] = []
    raised: list[LlamaHomeError | OSError] = []

    def look() -> None:
        try:
            repo = open_repo(repo_name, environ)
            tree = repo.tree()
            with tempfile.TemporaryDirectory(prefix="llamahome-") as scratch:
                found = copies(repo, tree, name, Path(scratch)) if tree else ()
                given.append(next((one for one in found if isinstance(one, Copy)), None))
        except (LlamaHomeError, OSError) as error:  # raised where it is waited for
            raised.append(error)

    thread = threading.Thread(target=look, name="look at the mirror", daemon=True)
    thread.start()
    thread.join(patience_s)
    if raised:
        raise raised[0]
    if not given:
        raise HubError(
            f"the Hub has told nothing of {repo_name} in {patience_s:.0f} s",
            code="hub.slow",
            hint="try again later: llamahome --batch train start SPEC --or-resume",
        )
    return given[0]


def fetch(repo: Repo, name: str, into: Path) -> tuple[Copy | None, list[str]]:
    """Download the first of `copies` that is whole, with its best, into a run's checkpoints; and why others were not.

    Raises AuthError or HubError where the Hub does not give what it has: nothing is passed over for that.
    """
    tree = repo.tree()
    passed: list[str] = []
    scratch = into / SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)

    def get(source: Path, target: Path) -> None:
        assert tree is not None
        _fetch_step(repo, tree, scratch, f"{source.parent.name}/{source.name}", _listed(source))
        mirror.copy(source, target)
        shutil.rmtree(source)

    try:
        for found in copies(repo, tree, name, scratch) if tree else ():
            if isinstance(found, str):
                passed.append(found)
            elif mirror.take_in(found, into, get, passed):
                return found, passed
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return None, passed


def _private(repo: Repo) -> Tree:
    """What the repository holds; made where it is not there, refused where all the world can read it."""
    tree = repo.tree()
    if tree is None:
        repo.create()
        tree = repo.tree()
    if tree is None:
        raise HubError(f"{repo.name} was made and is not there")
    if not tree.private:
        raise AuthError(f"{repo.name} is public, and checkpoints go into private repositories only", code="hub.public")
    return tree


def _dropped(tree: Tree, run: str, new: str, keep: int, best: str) -> list[str]:
    """The run's checkpoints there that are not kept once the new one is: the last ones and the best stay."""
    steps = sorted({step for there, step, _ in _ours(tree) if there == run} | {new}, key=lambda step: int(step[5:]))
    return [step for step in steps[: -max(1, keep)] if step not in (best, new)]


def _lacking(tree: Tree | None, run: str, source: Path, hashes: Mapping[str, str]) -> list[str]:
    """The files of a checkpoint that are not there, or are not the same."""
    files, folder = tree.files if tree else {}, f"{run}/{source.name}"
    return [name for name, sha in hashes.items() if not _same(files.get(f"{folder}/{name}"), source / name, sha)]


def _same(entry: Entry | None, path: Path, sha256: str) -> bool:
    if entry is None or entry.size != path.stat().st_size:
        return False
    if entry.sha256:
        return entry.sha256 == sha256
    digest = hashlib.sha1(b"blob %d\0" % entry.size, usedforsecurity=False)
    digest.update(path.read_bytes())
    return entry.blob == digest.hexdigest()


def _ours(tree: Tree) -> Iterator[tuple[str, str, str]]:
    for path in tree.files:
        if match := _PATH.fullmatch(path):
            yield match[1], match[2], match[3]


def _listed(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    """The files that a checkpoint's list names, each with a name that is one on every machine."""
    files = mirror.files_of(folder, read_object(folder / recovery.COMPLETE, limit=LARGEST))
    for name in files:
        if not _NAME.fullmatch(name):
            raise IntegrityError(f"{folder.name} names a file that leads out of it")
    return files


def _check_sizes(repo: Repo, tree: Tree, scratch: Path, folder: str) -> None:
    """Raises IntegrityError where the repository has not what the list of a checkpoint says, before that is fetched."""
    if not (scratch / folder / recovery.COMPLETE).exists():
        _fetch_step(repo, tree, scratch, folder, [recovery.COMPLETE])
    for name, entry in _listed(scratch / folder).items():
        there = tree.files.get(f"{folder}/{name}")
        if there is None or there.size != entry["bytes"]:
            raise IntegrityError(f"{folder.partition('/')[2]} lacks {name}, or it has another size")


def _fetch_step(repo: Repo, tree: Tree, scratch: Path, folder: str, names: Mapping[str, Any] | list[str]) -> None:
    for name in names:
        path = f"{folder}/{name}"
        there = tree.files.get(path)
        if there is None:
            raise IntegrityError(f"{folder.partition('/')[2]} lacks {name}")
        if name in (recovery.COMPLETE, COUNTERS) and there.size > LARGEST:
            raise IntegrityError(f"{name} is too large")
        if not (scratch / path).exists():
            repo.fetch(path, tree.commit, scratch)
