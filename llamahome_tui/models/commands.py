"""`models list` and `models show`: what is on this disk, as plain records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from llamahome_tui.errors import NotFoundError
from llamahome_tui.models import hub_cache
from llamahome_tui.models.inventory import Model, describe_folder, files_of
from llamahome_tui.models.inventory import list_models as installed
from llamahome_tui.models.locate import locate
from llamahome_tui.outcome import Outcome, Result

if TYPE_CHECKING:
    from llamahome_tui.context import Context
    from llamahome_tui.jobs.store import RunStore


def list_models(context: Context) -> Iterator[Outcome]:
    """Every model here, with its size, dtype, parameters, state and the runs that use it."""
    from llamahome_tui.jobs.store import RunStore

    models = installed(context.places, RunStore(context.places))
    yield Result([model.to_dict() for model in models], next=("llamahome --batch models show ID",))


def show(context: Context, id: str) -> Iterator[Outcome]:
    """One model with its files. A broken one is shown, state and reason; an unknown one is exit 4."""
    from llamahome_tui.jobs.store import RunStore

    store = RunStore(context.places)
    model = _listed(context, id, store)
    if model is None:
        located = locate(id, context.places, store, folder=context.cwd)
        model = describe_folder(located.id, located.path, store)
    files = [{"name": file.name, "bytes": file.bytes} for file in files_of(model)]
    yield Result(model.to_dict() | {"files": files})


def _listed(context: Context, text: str, store: RunStore) -> Model | None:
    """The installed model of that name; of several revisions the one asked for, else what `main` is."""
    repo_id, revision = hub_cache.split_id(text)
    found = [m for m in installed(context.places, store) if m.id == repo_id]
    if not found:
        return None
    repository = hub_cache.find(context.places.hub_cache, repo_id) if hub_cache.is_hub_id(repo_id) else None
    if repository is None or found[0].revision is None:
        return found[0]
    commit = hub_cache.commit_of(repository, revision)
    chosen = next((model for model in found if model.revision == commit), None)
    if chosen is None:
        here = ", ".join(model.revision or "" for model in found)
        raise NotFoundError(
            f"{repo_id} is here, but not its revision {revision or 'main'} (here: {here})",
            code="model.not_found",
            hint="what is here: llamahome --batch models list",
            data={"model": text},
        )
    return chosen
