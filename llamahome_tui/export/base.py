"""Which base a run was trained on, recognised again later: cheap enough for every start, sure enough for an export."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from llamahome_tui.errors import IntegrityError
from llamahome_tui.models.folder import weight_files

_WHOLE: Final = 64 << 20  # bytes of a file that is hashed from end to end
_PIECES: Final = 64  # of a larger one, of so many bytes each, spread over it evenly
_PIECE: Final = 1 << 20
_HASH: Final = re.compile(r"[0-9a-f]{64}")


def fingerprint(folder: Path) -> dict[str, str]:
    """What tells each weight file and config.json of a model folder from another one, by name.

    In a Hugging Face cache a file's blob is named after its sha256: that name. Else the size and the sha256 of the
    content, of files over 64 MiB that of their header and of 64 MiB spread over them: training or quantising again
    changes tensors everywhere, so the pieces notice it; a full hash would read the whole model at every start.
    """
    return prints([*weight_files(folder), folder / "config.json"])


def prints(files: Iterable[Path]) -> dict[str, str]:
    """The same of these files."""
    return {file.name: _told(file) for file in files}


def changed(recorded: Mapping[str, Any], now: Mapping[str, str]) -> str:
    """The first file that is not what the run has trained on; "" where all are."""
    for name in [*recorded, *now]:
        if recorded.get(name) != now.get(name):
            return str(name)
    return ""


def has_changed(file: Path) -> IntegrityError:
    """The error (exit 8) of a base that is not the run's any more."""
    return IntegrityError(
        f"{file} is not what the run was trained on: it has changed since",
        code="export.base_changed",
        hint="put the old file back, or fetch that revision again; what is here: llamahome --batch models list",
        data={"file": str(file)},
    )


def _told(file: Path) -> str:
    blob = file.resolve().name
    if file.is_symlink() and _HASH.fullmatch(blob):
        return f"sha256:{blob}"
    size = file.stat().st_size
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        if size <= _WHOLE:
            while block := stream.read(_PIECE):
                digest.update(block)
            return f"sha256:{digest.hexdigest()}"
        for number in range(_PIECES):
            stream.seek(number * (size - _PIECE) // (_PIECES - 1))
            digest.update(stream.read(_PIECE))
    return f"sampled:{size}:{digest.hexdigest()}"
