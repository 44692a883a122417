"""Puts the keys of a plan into a spec file: comments and order stay, and the file is whole at every moment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llamahome_tui.errors import NotFoundError
from llamahome_tui.jobs.store import write_portions


def write_into(path: Path, values: Mapping[str, Any]) -> None:
    """Set dotted keys in a spec file. Raises NotFoundError where it is gone; an OSError leaves it as it was."""
    import tomlkit

    try:
        text = path.read_bytes().decode("utf-8-sig")  # with the line ends that it has
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no spec {path}", code="spec.not_found", hint="make one: llamahome --batch train init > spec.toml"
        ) from None
    document = tomlkit.parse(text)
    for key, value in values.items():
        table, _, name = key.partition(".")
        if table not in document:
            document.add(table, tomlkit.table())
        at: Any = document[table]
        at[name] = value
    target = path.resolve()  # a link stays a link
    write_portions(target, [tomlkit.dumps(document)], target.stat().st_mode & 0o7777)
