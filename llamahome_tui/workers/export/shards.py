"""Writes a model's tensors as safetensors files like those of its base, a tensor at a time; no more is in memory."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from llamahome_tui.export.tensors import Tensors
from llamahome_tui.models.folder import INDEX
from llamahome_tui.workers.export.merge import TYPES

SHARD_BYTES = 5 << 30  # of a file, where the base does not say how to part them


def parts_of(tensors: Tensors, like: Sequence[tuple[str, Sequence[str]]]) -> list[tuple[str, list[str]]]:
    """Files to write, each with its tensors: those of the base (`like`: file, names), what is new in the last one."""
    wanted = list(tensors.names())
    here = set(wanted)
    parts = [(name, [one for one in names if one in here]) for name, names in like]
    known = {one for _, names in parts for one in names}
    parts[-1][1].extend(one for one in wanted if one not in known)
    return [(name, names) for name, names in parts if names]


def bytes_of(tensors: Tensors, names: Sequence[str]) -> int:
    """What these tensors take in a file."""
    return sum(_size(tensors, name) for name in names)


def write(tensors: Tensors, names: Sequence[str], path: Path, each: Callable[[int], None]) -> None:
    """Write one file; `each` is told the bytes of every tensor that is written and may raise to leave. OSError."""
    with path.open("wb") as file:
        for block in _blocks(tensors, names, each):
            file.write(block)


def index(parts: Sequence[tuple[str, Sequence[str]]], total: int) -> tuple[str, str] | None:
    """Name and text of the table of a model in several files; None for one file of the usual name."""
    if len(parts) == 1 and parts[0][0] == "model.safetensors":
        return None
    table = {one: name for name, names in parts for one in names}
    return INDEX, json.dumps({"metadata": {"total_size": total}, "weight_map": table}, indent=2) + "\n"


def _size(tensors: Tensors, name: str) -> int:
    width: int = TYPES[tensors.dtype(name)].itemsize
    return math.prod(tensors.shape(name)) * width


def _blocks(tensors: Tensors, names: Sequence[str], each: Callable[[int], None]) -> Iterator[Any]:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name in names:
        size = _size(tensors, name)
        header[name] = {
            "dtype": tensors.dtype(name),
            "shape": list(tensors.shape(name)),
            "data_offsets": [at, at + size],
        }
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        tensor = tensors.read(name)
        if tensor.numel():
            yield memoryview(tensor.reshape(-1).view(torch.uint8).numpy())
        each(_size(tensors, name))
