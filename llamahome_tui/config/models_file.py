"""models.toml: short names for models, each a folder or a family on the Hub with versions; never more than names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamahome_tui.config.fields import Entry, Mistake, build, nearest_key, option, schema_of

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FORMATS = ("hf", "meta", "gguf")
_VERSION = "{version}"


@dataclass(frozen=True, slots=True)
class NamedModel:
    """One `[models.NAME]`: exactly one of `path` and `id`; `{version}` in it stands for a version."""

    path: str = option("", "a model folder", "text")
    id: str = option("", "a Hub id", "text")
    formats: tuple[str, ...] = option(("hf",), "formats it comes in: hf, meta, gguf", "texts")
    versions: tuple[str, ...] = option((), "versions there are", "texts")
    default_version: str = option("", "the version taken when none is named", "text")

    def target(self, version: str = "") -> tuple[str, bool] | None:
        """(folder or Hub id, whether it is a folder) of a version, the default one where none is named.

        None where there is no such version, or none is named and there is no default one.
        """
        wanted = version or self.default_version
        if (version and version not in self.versions) or (not wanted and _VERSION in self.path + self.id):
            return None
        return (self.path or self.id).replace(_VERSION, wanted), bool(self.path)


SCHEMA: dict[str, Entry] = schema_of(NamedModel)


def read_models_file(path: Path) -> tuple[dict[str, NamedModel], list[Mistake]]:
    """The named models of a file and what is wrong in it; a model with a mistake is left out."""
    from llamahome_tui.config.toml_lines import key_lines, parse

    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}, []
    except UnicodeDecodeError:
        return {}, [Mistake(str(path), 0, "", "is not UTF-8 text")]
    except OSError as error:
        return {}, [Mistake(str(path), 0, "", f"cannot be read: {error.strerror}")]
    tables, broken = parse(text, str(path))
    return ({}, [broken]) if broken else check_models(tables, key_lines(text), str(path))


def check_models(
    tables: Mapping[str, Any], lines: dict[str, int], source: str
) -> tuple[dict[str, NamedModel], list[Mistake]]:
    """The named models in parsed tables, and every mistake with its line."""
    from llamahome_tui.config.toml_lines import line_of

    found: dict[str, NamedModel] = {}
    wrong: list[Mistake] = []

    def mistake(key: str, reason: str, nearest: str = "") -> None:
        wrong.append(Mistake(source, line_of(lines, key), key, reason, nearest))

    for key, value in tables.items():
        if key != "models" or not isinstance(value, Mapping):
            mistake(key, "only [models.NAME] tables stand in this file", "models" if key != "models" else "")
    models = tables.get("models")
    for name, values in (models if isinstance(models, Mapping) else {}).items():
        before = len(wrong)
        here = f"models.{name}"
        if not isinstance(values, Mapping):
            mistake(here, "must be a table")
            continue
        if not NAME.fullmatch(name):
            mistake(here, "is no name: letters, digits, dots, dashes and underscores, at most 64")
        for key, value in values.items():
            entry = SCHEMA.get(key)
            problem = entry.field.problem(value) if entry else "there is no such key"
            if problem:
                mistake(f"{here}.{key}", problem, "" if entry else nearest_key(key, SCHEMA))
        if len(wrong) == before:
            for key, reason in _rules(values):
                mistake(f"{here}.{key}" if key else here, reason)
        if len(wrong) == before:
            found[name] = build(NamedModel, values)
    return found, wrong


def _rules(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    wrong: list[tuple[str, str]] = []
    path, hub_id = values.get("path", ""), values.get("id", "")
    if bool(path) == bool(hub_id):
        wrong.append(("", "needs a path or an id, and not both"))
    if path and not path.startswith(("/", "~/")):
        wrong.append(("path", "must be absolute"))
    if hub_id and not re.fullmatch(r"[\w.{}-]+(/[\w.{}-]+)?", hub_id):
        wrong.append(("id", "is no Hub id"))
    for one in values.get("formats", ()):
        if one not in _FORMATS:
            wrong.append(("formats", f'"{one[:40]}" is none of {", ".join(_FORMATS)}'))
    versions, default = values.get("versions", []), values.get("default_version", "")
    if default and default not in versions:
        wrong.append(("default_version", "is none of its versions"))
    if versions and _VERSION not in path + hub_id:
        wrong.append(("versions", f"have no effect without {_VERSION} in path or id"))
    return wrong
