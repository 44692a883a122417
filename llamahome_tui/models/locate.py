"""Turns what a user calls a model (demo, a folder, a run, a Hub id) into a folder on this disk, proved to be usable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from llamahome_tui.config.models_file import NamedModel, read_models_file
from llamahome_tui.demo.paths import demo_model_dir
from llamahome_tui.errors import ConfigError, LlamaHomeError, ModelError, NotFoundError
from llamahome_tui.models import hub_cache
from llamahome_tui.models.folder import check

if TYPE_CHECKING:
    from llamahome_tui.config.places import Places
    from llamahome_tui.jobs.store import Run, RunStore

_LOOK = "what is here: llamahome --batch models list"
_DEPTH = 8  # a run on a run on a run: longer chains are loops


@dataclass(frozen=True, slots=True)
class Located:
    """A model to load: `path` is a checked folder, `revision` a commit where it came from the Hub.

    `adapter` is a PEFT folder that belongs on top, when the model was named by a run; `run` is that run's id.
    """

    path: Path
    id: str
    revision: str | None = None
    adapter: Path | None = None
    run: str | None = None


def locate(
    model_id: str,
    places: Places,
    store: RunStore | None = None,
    *,
    checkpoint: str = "",
    folder: Path | None = None,
) -> Located:
    """Find a model and check that it can be used.

    `demo`, a folder (relative ones count from `folder`), a name of models.toml, a run (its base, with its adapter;
    `checkpoint` picks which), or a Hub id with an optional `@revision` that is in the Hugging Face cache.
    Raises NotFoundError `model.not_found`, ModelError, or IntegrityError `model.broken`; each names the file.
    """
    return _locate(model_id, places, store, checkpoint, folder, 0)


def _locate(
    model_id: str, places: Places, store: RunStore | None, checkpoint: str, folder: Path | None, depth: int
) -> Located:
    if depth > _DEPTH:
        raise ModelError(f"{model_id}: runs that start from each other in a circle", code="model.circle", hint=_LOOK)
    if model_id == "demo":
        return _checked(Located(demo_model_dir(), "demo"))
    path = _as_folder(model_id, folder)
    if path is not None:
        from llamahome_tui.models.adapted import adapted

        plain = None if (path / "config.json").is_file() else adapted(path, places.cache)
        return _checked(Located(plain or path, str(path)))
    named = _named(model_id, places)
    if named is not None:
        return named
    # A model in the cache wins over a run that was given its name: training on must be asked for by the run's id.
    cached = hub_cache.is_hub_id(model_id) and hub_cache.find(places.hub_cache, model_id) is not None
    run = None if cached else _as_run(model_id, store)
    if run is not None:
        return _of_run(run, places, store, checkpoint, depth)
    return _in_hub_cache(model_id, places)


def named_models(places: Places) -> Mapping[str, NamedModel]:
    """The models that models.toml names. Raises ConfigError with every mistake of that file."""
    named, mistakes = read_models_file(places.models_file)
    if mistakes:
        raise ConfigError(
            "\n".join(str(mistake) for mistake in mistakes),
            hint="repair it, then: llamahome --batch config validate",
            data={"errors": [mistake.as_dict() for mistake in mistakes]},
        )
    return named


def _named(text: str, places: Places) -> Located | None:
    """What models.toml means by NAME or NAME@VERSION; None where it names no such model."""
    name, _, version = text.partition("@")
    model = named_models(places).get(name)
    if model is None:
        return None
    target = model.target(version)
    if target is None:
        known = ", ".join(model.versions) or "none"
        raise _absent(text, f"{places.models_file} names {name}, but not its version {version!r} (versions: {known})")
    place, is_folder = target
    if not is_folder:
        return _in_hub_cache(place, places)
    path = Path(place).expanduser()
    return _checked(Located(path, str(path)))


def _as_folder(text: str, folder: Path | None) -> Path | None:
    """The path a text names: anything written as a path, or the plain name of a folder that holds a config."""
    if not text or "\0" in text:
        raise NotFoundError("no model is named", code="model.not_found", hint=_LOOK)
    path = Path(text).expanduser()
    path = path if path.is_absolute() else (folder or Path.cwd()) / path
    if text.startswith(("/", "./", "../", "~")) or text in {".", ".."}:
        return path.resolve()
    return path.resolve() if (path / "config.json").is_file() else None


def _as_run(text: str, store: RunStore | None) -> Run | None:
    if store is None or "/" in text:
        return None
    try:
        return store.resolve(text)
    except NotFoundError:
        return None


def at_revision(name: str, revision: str) -> str:
    """A spec's model.id and model.revision as one name for `locate`."""
    return name if revision == "main" or "@" in name else f"{name}@{revision}"


def _of_run(run: Run, places: Places, store: RunStore | None, checkpoint: str, depth: int) -> Located:
    from llamahome_tui.models.adapters import run_weights

    spec = run.job.get("spec")
    model = spec.get("model", {}) if isinstance(spec, dict) else {}
    named = model.get("id")
    if not isinstance(named, str) or not named:
        raise ModelError(
            f"run {run.id} trained no model of ours, so it has none to load", code="model.none", hint=_LOOK
        )
    revision = model.get("revision") or "main"
    weights = run_weights(run, checkpoint)
    if not weights.is_adapter:
        return _checked(Located(weights.path, named, run=run.id))
    text = at_revision(named, revision) if hub_cache.is_hub_id(named) else named
    base = _locate(text, places, store, "", None, depth + 1)
    return replace(base, adapter=weights.path, run=run.id)


def _in_hub_cache(model_id: str, places: Places) -> Located:
    repo_id, revision = hub_cache.split_id(model_id)
    repository = hub_cache.find(places.hub_cache, repo_id) if hub_cache.is_hub_id(repo_id) else None
    if repository is None:
        raise _absent(model_id, f"no model, folder or run is called {model_id!r} on this machine")
    commit = hub_cache.commit_of(repository, revision)
    if commit is None or commit not in repository.snapshots:
        known = ", ".join([*repository.refs, *repository.snapshots]) or "none"
        raise _absent(model_id, f"{repo_id} is here, but not its revision {revision or 'main'} (here: {known})")
    for _ in hub_cache.snapshot_files(repository, commit):
        pass  # every link is proved to stay inside before anything is opened
    return _checked(Located(repository.path / "snapshots" / commit, repo_id, commit))


def _checked(located: Located) -> Located:
    try:
        check(located.path)
    except LlamaHomeError as error:
        error.data.setdefault("model", located.id)
        raise
    return located


def _absent(model_id: str, message: str) -> NotFoundError:
    return NotFoundError(message, code="model.not_found", hint=_LOOK, data={"model": model_id})
