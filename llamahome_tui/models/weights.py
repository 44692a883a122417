"""Reads the headers of safetensors files and says whether they can be true; never trusts a number in them.

Layout of the format: eight bytes of little-endian header length, so many bytes of JSON, the tensors back to back.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from llamahome_tui.errors import IntegrityError

#: The format's own limit; a longer header is an attack or a wrong file.
HEADER_LIMIT = 100_000_000
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F4": 4,
    "F6_E2M3": 6, "F6_E3M2": 6, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Header:
    """What one file says of itself: parameters per dtype (`{"BF16": 1_000}`), its tensors' names, and their shapes."""

    parameters: Mapping[str, int]
    tensors: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...] = ()


def read_header(path: Path) -> Header:
    """The header of one file, checked against the file's size.

    Raises IntegrityError (code `model.broken`, exit 8) that names the file, for anything that does not add up.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or not 2 <= length <= min(HEADER_LIMIT, size - 8):
                raise _broken(path, f"its header cannot be {length} bytes in a file of {size} bytes")
            raw = file.read(length)
    except OSError as error:
        raise _broken(path, f"it cannot be read: {error.strerror}") from None
    try:
        entries = json.loads(raw)
    except (ValueError, RecursionError):
        raise _broken(path, "its header is not JSON") from None
    if not isinstance(entries, dict):
        raise _broken(path, "its header is not a JSON object")
    return _checked(path, entries, size - 8 - length)


def _checked(path: Path, entries: dict[str, object], room: int) -> Header:
    counts: Counter[str] = Counter()
    spans: list[tuple[int, int]] = []
    shapes: list[tuple[int, ...]] = []
    entries.pop("__metadata__", None)
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            raise _broken(path, f"tensor {name} has no description")
        dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
        if not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2 or not isinstance(dtype, str):
            raise _broken(path, f"tensor {name} has no sound dtype, shape and offsets")
        elements = math.prod(shape)
        begin, end = offsets
        bits = _BITS.get(dtype)
        if end > room:
            raise _broken(path, f"it ends before tensor {name}: {end - room} bytes are missing")
        if begin > end or (bits is not None and (elements * bits + 7) // 8 != end - begin):
            raise _broken(path, f"tensor {name} does not have the size its shape says")
        counts[dtype] += elements
        spans.append((begin, end))
        shapes.append(tuple(shape))
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            raise _broken(path, f"its tensors leave a gap or overlap at byte {position}")
        position = end
    if position != room:
        raise _broken(path, f"{room - position} bytes belong to no tensor")
    return Header(dict(counts), tuple(entries), tuple(shapes))


def _naturals(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _broken(path: Path, reason: str) -> IntegrityError:
    return IntegrityError(
        f"{path}: not a sound safetensors file: {reason}",
        code="model.broken",
        hint="fetch or copy the file again, then look: llamahome --batch models list",
        data={"file": str(path), "reason": reason},
    )
