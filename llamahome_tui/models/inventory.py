"""Lists the models on this disk: Hugging Face cache, registered folders, the embedded one; a bad one hides no other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamahome_tui.demo.paths import demo_model_dir
from llamahome_tui.errors import LlamaHomeError
from llamahome_tui.models import hub_cache
from llamahome_tui.models.folder import check, read_json
from llamahome_tui.models.locate import named_models

if TYPE_CHECKING:
    from llamahome_tui.config.places import Places
    from llamahome_tui.jobs.store import RunStore

_Inode = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Model:
    """One installed model, one revision of it. Sizes in bytes; what the files do not tell is None.

    `state` is ok, incomplete or broken, with its `reason`; `freed_bytes` is what only this revision holds;
    `used_by` are ids of runs that were trained from it, newest first.
    """

    id: str
    revision: str | None
    size_bytes: int
    freed_bytes: int
    format: str | None
    dtype: str | None
    parameters: int | None
    architecture: str | None
    context: int | None
    path: str
    state: str
    reason: str
    pinned: bool
    last_used: str | None
    used_by: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, fields as the contract names them."""
        return asdict(self) | {"used_by": list(self.used_by)}


@dataclass(frozen=True, slots=True)
class File:
    """A file of a model, for `models show`."""

    name: str
    bytes: int


def list_models(places: Places, store: RunStore | None = None) -> list[Model]:
    """Every model here, by id; the embedded one last. Raises ConfigError only, for a models.toml that is no TOML."""
    users = _users(store)
    found = [*_from_hub_cache(places.hub_cache, users)]
    found += [_from_folder(name, path, users) for name, path in _named_folders(places)]
    found.sort(key=lambda model: (model.id.lower(), model.revision or ""))
    return [*found, _from_folder("demo", demo_model_dir(), users)]


def files_of(model: Model) -> list[File]:
    """The files of a listed model with their sizes, by name."""
    top = Path(model.path)
    found: list[File] = []
    for root, folders, names in os.walk(top):
        folders.sort()
        for name in sorted(names):
            path = Path(root) / name
            try:
                found.append(File(path.relative_to(top).as_posix(), path.stat().st_size))
            except OSError:
                continue
    return sorted(found, key=lambda file: file.name)


def describe_folder(model_id: str, path: Path, store: RunStore | None = None) -> Model:
    """A folder that stands in no list, described as the listed ones are."""
    return _from_folder(model_id, path, _users(store))


def _named_folders(places: Places) -> Iterator[tuple[str, Path]]:
    """Names of models.toml with their folders: NAME, or NAME@VERSION for each version. Hub ids stand in the cache."""
    for name, model in named_models(places).items():
        for version in model.versions or ("",):
            target = model.target(version)
            if target is not None and target[1]:
                yield (f"{name}@{version}" if version else name), Path(target[0]).expanduser()


def _from_hub_cache(cache: Path, users: Mapping[str, list[str]]) -> Iterator[Model]:
    for repository in hub_cache.repositories(cache):
        contents: dict[str, list[hub_cache.CachedFile]] = {}
        faults: dict[str, LlamaHomeError] = {}
        holders: dict[_Inode, int] = {}
        for commit in repository.snapshots:
            contents[commit] = []
            try:
                for file in hub_cache.snapshot_files(repository, commit):
                    contents[commit].append(file)
            except LlamaHomeError as error:
                faults[commit] = error
            for inode in {file.inode for file in contents[commit]}:
                holders[inode] = holders.get(inode, 0) + 1
        for commit in repository.snapshots:
            sizes = {file.inode: file.bytes for file in contents[commit]}
            yield _describe(
                repository.id,
                repository.path / "snapshots" / commit,
                commit,
                size=sum(sizes.values()),
                freed=sum(size for inode, size in sizes.items() if holders[inode] == 1),
                used=max((file.used for file in contents[commit]), default=None),
                users=_users_of(repository, commit, users),
                fault=faults.get(commit),
            )
        if not repository.snapshots and _has_blobs(repository.path):
            size = _folder_bytes(repository.path)
            yield _describe(
                repository.id, repository.path, None, size=size, freed=size,
                used=None, users=users.get(repository.id, []),
                fault=LlamaHomeError("no revision of it has arrived yet", code="model.incomplete"),
            )  # fmt: skip


def _users_of(repository: hub_cache.Repository, commit: str, users: Mapping[str, list[str]]) -> list[str]:
    """Runs on this commit: those that name it, a branch or tag at it, or none while `main` is it or unknown."""
    names = [commit, *(ref for ref, target in repository.refs.items() if target == commit and ref != "main")]
    found = [run for name in names for run in users.get(f"{repository.id}@{name}", [])]
    if repository.refs.get("main", commit) == commit:
        found += users.get(repository.id, [])
    return found


def _from_folder(model_id: str, path: Path, users: Mapping[str, list[str]]) -> Model:
    used: float | None = None
    size = 0
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_file():
                    stat = entry.stat()
                    size += stat.st_size
                    used = max(used or 0.0, stat.st_atime)
    except OSError:
        pass
    return _describe(
        model_id, path, None, size=size, freed=0, used=used,
        users=list(dict.fromkeys([*users.get(model_id, []), *users.get(str(path), [])])),
    )  # fmt: skip


def _describe(
    model_id: str,
    path: Path,
    revision: str | None,
    *,
    size: int,
    freed: int,
    used: float | None,
    users: list[str],
    fault: LlamaHomeError | None = None,
) -> Model:
    config: Mapping[str, Any] = {}
    dtype: str | None = None
    parameters: int | None = None
    if fault is None:
        try:
            contents = check(path, tokenizer=False)
            config, dtype, parameters = contents.config, contents.dtype, sum(contents.parameters.values())
        except LlamaHomeError as error:
            fault = error
            config = _config(path)
    form = _format(path)
    if fault is not None and form in {"gguf", "meta"} and fault.error_code in {"model.no_config", "model.incomplete"}:
        fault = None  # these forms have no safetensors to check
    return Model(
        id=model_id,
        revision=revision,
        size_bytes=size,
        freed_bytes=freed,
        format=form,
        dtype=dtype,
        parameters=parameters,
        architecture=_first_text(config.get("architectures")) or _text(config.get("model_type")),
        context=_context(config),
        path=str(path),
        state=_state(fault),
        reason="" if fault is None else str(fault.data.get("reason") or fault.message),
        pinned=False,
        last_used=None if used is None else datetime.fromtimestamp(used, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        used_by=tuple(sorted(set(users), reverse=True)),
    )


def _state(fault: LlamaHomeError | None) -> str:
    if fault is None:
        return "ok"
    return "incomplete" if fault.error_code in {"model.incomplete", "model.no_config", "model.not_found"} else "broken"


def _config(path: Path) -> Mapping[str, Any]:
    try:
        return read_json(path / "config.json")
    except LlamaHomeError:
        return {}


def _format(path: Path) -> str | None:
    try:
        names = os.listdir(path)  # noqa: PTH208 - names are all that is wanted
    except OSError:
        return None
    if any(name.endswith(".gguf") for name in names):
        return "gguf"
    if "params.json" in names and any(name.endswith(".pth") for name in names):
        return "meta"
    return "hf" if "config.json" in names else None


def _context(config: Mapping[str, Any]) -> int | None:
    inner = config.get("text_config")
    for table in (config, inner if isinstance(inner, dict) else {}):
        value = table.get("max_position_embeddings")
        if isinstance(value, int):
            return value
    return None


def _users(store: RunStore | None) -> dict[str, list[str]]:
    """Ids of runs per model: under its id, or under id@revision where the run named one."""
    users: dict[str, list[str]] = {}
    for run in [] if store is None else store.list():
        try:
            spec = run.job.get("spec")
        except LlamaHomeError:
            continue  # a run whose spec.json is lost; `runs list` says so
        model = spec.get("model") if isinstance(spec, dict) else None
        if not isinstance(model, dict) or not isinstance(model.get("id"), str):
            continue
        revision = model.get("revision") or "main"
        key = model["id"] if revision == "main" else f"{model['id']}@{revision}"
        users.setdefault(key, []).append(run.id)
    return users


def _has_blobs(path: Path) -> bool:
    try:
        with os.scandir(path / "blobs") as entries:
            return any(True for _ in entries)
    except OSError:
        return False


def _folder_bytes(path: Path) -> int:
    total = 0
    for root, _, names in os.walk(path):
        for name in names:
            try:
                total += (Path(root) / name).lstat().st_size
            except OSError:
                continue
    return total


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _first_text(value: object) -> str | None:
    return _text(value[0]) if isinstance(value, list) and value else None
