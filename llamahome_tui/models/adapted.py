"""Models in formats that plug-ins know: a folder of theirs becomes a plain one, made once and kept in the cache.

The folder that a plug-in writes counts only if it is a sound model folder; until then it has another name.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from llamahome_tui import plugins
from llamahome_tui.errors import ConfigError, LlamaHomeError, ModelError
from llamahome_tui.models.folder import check
from llamahome_tui.text import clean

FOLDER: Final = "adapted"
_LONGEST: Final = 300  # characters of why a plug-in refuses a folder


@dataclass(frozen=True, slots=True)
class ModelFormat:
    """What an entry point in `llamahome.adapters` names. It is loaded where models are looked up: no torch in it."""

    fits: Callable[[Path], bool]  # whether a folder without a config.json is of this format; cheap
    write: Callable[[Path, Path], None]  # (folder, empty folder): config, safetensors, tokenizer; ValueError refuses


def adapted(path: Path, cache: Path) -> Path | None:
    """The plain folder for a model in a plug-in's format; None where no plug-in knows it.

    Raises ModelError where its plug-in refuses or fails, and what `folder.check` raises for what it wrote.
    """
    if not path.is_dir():
        return None
    for name, plugin in plugins.listed(plugins.Group.ADAPTERS)[0].items():
        try:
            model: ModelFormat = plugin.load()
            fits = model.fits(path)
        except ConfigError:
            continue  # `system doctor` names it
        except Exception as error:  # a stranger's function meets a stranger's folder
            raise _refused(path, name, f"{type(error).__name__}: {error}") from error
        if fits:
            return _made(path, name, plugin, model, cache / FOLDER)
    return None


def _made(path: Path, name: str, plugin: plugins.Plugin, model: ModelFormat, folder: Path) -> Path:
    wanted = folder / _key(path, plugin)
    if wanted.is_dir():
        return wanted
    folder.mkdir(parents=True, exist_ok=True)
    making = Path(mkdtemp(dir=folder, prefix=".making-"))
    try:
        try:
            model.write(path, making)
        except Exception as error:  # the same
            what = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            raise _refused(path, name, what) from error
        try:
            check(making)
        except LlamaHomeError as error:
            raise _refused(path, name, f"what it wrote is no model: {error.message}") from error
        try:
            making.rename(wanted)
        except OSError:
            if not wanted.is_dir():  # else another process was first, and made the same
                raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return wanted


def _key(path: Path, plugin: plugins.Plugin) -> str:
    """Changes with the folder's files and with the plug-in."""
    found = hashlib.sha256(f"{plugin.value} {plugin.package} {path}".encode())
    for file in sorted(path.rglob("*")):
        status = file.stat()
        found.update(f"{file.relative_to(path)} {status.st_size} {status.st_mtime_ns}".encode())
    return found.hexdigest()[:32]


def _refused(path: Path, name: str, what: str) -> ModelError:
    return ModelError(
        f"{path}: the plug-in {clean(name)} cannot make a model of it: {clean(what)[:_LONGEST]}",
        code="model.not_adapted",
        hint="see which plug-ins are sound: llamahome --batch system doctor",
    )
