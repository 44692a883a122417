"""A model whose tensors are read one at a time: the seam between what makes weights and what writes them to files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from llamahome_tui.models.folder import weight_files
from llamahome_tui.models.weights import read_header


class Tensors(Protocol):
    """Names and layout are those of a model's own safetensors files; tied tensors that files leave out are absent."""

    @property
    def config(self) -> Mapping[str, Any]:
        """What config.json says."""

    @property
    def folder(self) -> Path:
        """Where tokenizer files and generation_config.json lie."""

    def names(self) -> Sequence[str]:
        """Every tensor, in the order of the files."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Its shape as stored."""

    def dtype(self, name: str) -> str:
        """Its type as safetensors writes it, `BF16`."""

    def read(self, name: str) -> Any:
        """A contiguous torch.Tensor on the CPU of that shape and type; nothing of it is kept."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Where one tensor lies: bytes `begin` to `end` of a file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    def raw(self) -> bytearray:
        """Its bytes; read, not mapped, so that what was read does not stay in memory. Raises OSError."""
        data = bytearray(self.end - self.begin)
        view = memoryview(data)
        with self.file.open("rb", buffering=0) as file:
            file.seek(self.begin)
            done = 0
            while done < len(data):
                count = file.readinto(view[done:])
                if not count:
                    raise OSError(f"{self.file} ends early")
                done += count
        return data


def stored_in(folder: Path) -> dict[str, Stored]:
    """Every tensor of a model folder, file by file, in the order in which they lie there.

    Raises ModelError or IntegrityError where a file is missing or cannot be true.
    """
    return {name: stored for file in weight_files(folder) for name, stored in stored_in_file(file).items()}


def stored_in_file(file: Path) -> dict[str, Stored]:
    """The same of one file."""
    read_header(file)  # everything below can be believed then
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        entries = json.loads(stream.read(length))
    entries.pop("__metadata__", None)
    found = {
        name: Stored(
            file,
            entry["dtype"],
            tuple(entry["shape"]),
            8 + length + entry["data_offsets"][0],
            8 + length + entry["data_offsets"][1],
        )
        for name, entry in entries.items()
    }
    return dict(sorted(found.items(), key=lambda pair: pair[1].begin))


def free_bytes(folder: Path) -> int | None:
    """What the file system under the nearest folder that exists has free; None where it does not tell."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    status = os.statvfs(place)
    return status.f_bavail * status.f_frsize if status.f_blocks else None
