"""Puts the keys of a plan into a spec file: comments and order stay, and the file is whole at every moment."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llamahome_tui.errors import NotFoundError
from llamahome_tui.jobs.store import sync_folder


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
    _replace(path.resolve(), tomlkit.dumps(document))


def _replace(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, path.stat().st_mode & 0o7777)  # noqa: PTH101 - of a name
        os.replace(name, path)  # noqa: PTH105 - of a name
        sync_folder(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(name)  # noqa: PTH108 - of a name
        raise
