"""Says whether a folder is a model that can be used: config, sound weights, tokenizer; the first fault is raised."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamahome_tui.errors import LlamaHomeError, ModelError, NotFoundError
from llamahome_tui.models.weights import Header, read_header

INDEX = "model.safetensors.index.json"
_JSON_LIMIT = 64 * 1024 * 1024
_LOOK = "look what is here: llamahome --batch models list"


@dataclass(frozen=True, slots=True)
class Contents:
    """What a sound model folder holds; `parameters` counts per dtype."""

    config: Mapping[str, Any]
    weights: tuple[Path, ...]
    parameters: Mapping[str, int]

    @property
    def dtype(self) -> str | None:
        """The dtype most parameters have, as `bf16`, or None without weights."""
        if not self.parameters:
            return None
        return max(self.parameters, key=lambda dtype: self.parameters[dtype]).lower()


def check(path: Path, *, tokenizer: bool = True) -> Contents:
    """Prove that a model folder is complete, reading nothing but its JSON files and weight headers.

    Raises NotFoundError (exit 4) for a missing folder, ModelError (exit 3) where a file is missing or has no sense, and
    IntegrityError (exit 8) for a corrupt weight file. Every message names the file.
    """
    if not path.is_dir():
        raise NotFoundError(f"{path}: no such model folder", code="model.not_found", hint=_LOOK)
    if not (path / "config.json").is_file():
        raise _fault(path / "config.json", "is missing, so this is no model folder", "model.no_config")
    config = read_json(path / "config.json")
    weights = weight_files(path)
    parameters: dict[str, int] = {}
    for file in weights:
        for dtype, count in read_header(file).parameters.items():
            parameters[dtype] = parameters.get(dtype, 0) + count
    if tokenizer and not (path / "tokenizer.json").is_file():
        raise _fault(path / "tokenizer.json", "is missing, so no text can be turned into tokens", "model.no_tokenizer")
    return Contents(config, weights, parameters)


def weight_files(path: Path) -> tuple[Path, ...]:
    """The safetensors files a model folder needs, all of them there; raises ModelError where one is missing."""
    if (path / INDEX).is_file():
        table = read_json(path / INDEX).get("weight_map")
        if not isinstance(table, dict) or not table or not all(_plain(name) for name in table.values()):
            raise _fault(path / INDEX, "has no sound weight_map", "model.broken")
        files = tuple(path / name for name in sorted(set(table.values())))
        absent = [file for file in files if not file.is_file()]
        if absent:
            raise _fault(absent[0], f"is missing ({len(absent)} of {len(files)} weight files)", "model.incomplete")
        return files
    if (path / "model.safetensors").is_file():
        return (path / "model.safetensors",)
    if any(path.glob("*.safetensors.index.json")) or any(path.glob("*.safetensors")):
        raise _fault(path / "model.safetensors", "is missing, and there is no index of its parts", "model.incomplete")
    if any(path.glob("*.bin")) or any(path.glob("*.pth")):
        raise ModelError(
            f"{path}: the weights are pickle files, which can run code when loaded",
            code="model.pickle",
            hint=f"use a safetensors version of the model; {_LOOK}",
        )
    raise _fault(path / "model.safetensors", "is missing: the folder has no weights", "model.incomplete")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a model folder; raises ModelError that names the file."""
    try:
        if path.stat().st_size > _JSON_LIMIT:
            raise _fault(path, "is far too large", "model.broken")
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _fault(path, f"cannot be read: {error.strerror}", "model.broken") from None
    except (ValueError, RecursionError) as error:
        raise _fault(path, f"is not JSON: {error}", "model.broken") from None
    if not isinstance(value, dict):
        raise _fault(path, "is not a JSON object", "model.broken")
    return value


def header_or_reason(path: Path) -> Header | str:
    """The header, or in one clause why there is none: for lists, where one bad file must not hide the others."""
    try:
        return read_header(path)
    except LlamaHomeError as error:
        return str(error.data.get("reason", error.message))


def _plain(name: object) -> bool:
    return isinstance(name, str) and name.endswith(".safetensors") and "/" not in name and "\\" not in name


def _fault(file: Path, what: str, code: str) -> ModelError:
    return ModelError(f"{file} {what}", code=code, hint=_LOOK, data={"file": str(file)})
