"""The operations of `config`: show, get, set, path, validate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from llamahome_tui.config import themes
from llamahome_tui.config.fields import plain
from llamahome_tui.config.models_file import SCHEMA, read_models_file
from llamahome_tui.config.secrets import redact, secret_values
from llamahome_tui.config.settings import config_error, load_settings
from llamahome_tui.errors import NotFoundError
from llamahome_tui.outcome import Level, Note, Outcome, Result

if TYPE_CHECKING:
    from llamahome_tui.context import Context


def show(context: Context) -> Iterator[Outcome]:
    """Every setting with its value, origin and the place that set it, and the named models of models.toml."""
    for warning in context.settings.warnings:
        yield Note(warning, Level.WARNING)
    secrets = secret_values(context.environ)
    rows = [row | {"value": _safe(row["value"], secrets)} for row in context.settings.as_rows()]
    named, _ = read_models_file(context.places.models_file)
    for name, model in named.items():
        target = model.target()
        rows.append(
            {
                "key": f"models.{name}",
                "value": target[0] if target else "",
                "origin": "file",
                "where": str(context.places.models_file),
                "default": None,
                "help": "a name for a model",
            }
        )
    yield Result({"settings": rows})


def get(context: Context, key: str) -> Iterator[Outcome]:
    """One setting. Raises NotFoundError with the nearest known key."""
    if key.startswith("models."):
        yield Result(_named(context, key))
        return
    value = context.settings.get(key)
    row = next(row for row in context.settings.as_rows() if row["key"] == key)
    yield Result(row | {"value": _safe(value, secret_values(context.environ))})


def _named(context: Context, key: str) -> dict[str, Any]:
    name, _, last = key.removeprefix("models.").rpartition(".")
    models, mistakes = read_models_file(context.places.models_file)
    if mistakes:
        raise config_error(mistakes)
    if name not in models or last not in SCHEMA:
        raise NotFoundError(
            f"there is no {key} in {context.places.models_file}",
            code="config.unknown_key",
            hint="see all of them: llamahome --batch config show",
            data={"key": key, "nearest": ""},
        )
    value = plain(getattr(models[name], last))
    return {"key": key, "value": value, "origin": "file", "where": str(context.places.models_file)}


def set_value(context: Context, key: str, value: str) -> Iterator[Outcome]:
    """Write one setting to config.toml, or `models.NAME.KEY` to models.toml."""
    from llamahome_tui.config.edit import set_key

    if key == "ui.theme":
        themes.require(value, context.places.config)
    path, written, changed = set_key(context.places, key, value)
    origin = context.settings.origins.get(key)
    if origin is not None and origin.value in ("option", "environment", ".env"):
        where = context.settings.places_of.get(key, origin.value)
        yield Note(f"{key} is also set by {where}, and that wins", Level.WARNING)
    yield Result({"key": key, "value": written, "file": str(path)}, changed=changed)


def path(context: Context) -> Iterator[Outcome]:
    """Where everything lives."""
    places = context.places
    yield Result(
        {
            "config": str(places.config_file),
            "models": str(places.models_file),
            "runs": str(places.runs),
            "logs": str(places.logs),
            "cache": str(places.cache),
            "exports": str(places.exports),
            "hub_cache": str(places.hub_cache),
        }
    )


def validate(context: Context) -> Iterator[Outcome]:
    """Check config.toml, models.toml, `.env` and the environment. Raises ConfigError with every mistake of all."""
    settings, mistakes = load_settings(context.places, context.environ, context.cwd, lenient=True)
    _, named = read_models_file(context.places.models_file)
    for warning in settings.warnings:
        yield Note(warning, Level.WARNING)
    if mistakes or named:
        raise config_error([*mistakes, *named])
    themes.require(settings.ui.theme, context.places.config)
    files = [context.places.config_file, context.places.models_file, context.cwd / ".env"]
    yield Result({"checked": [str(file) for file in files if file.is_file()], "errors": []})


def _safe(value: Any, secrets: tuple[str, ...]) -> Any:
    """A command of `[notify]` may hold a token; it is not shown."""
    return redact(value, secrets) if isinstance(value, str) else value
