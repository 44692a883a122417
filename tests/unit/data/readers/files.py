"""Small data files for the tests of readers, and what is read of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llamahome_tui.data.rows import Bad, Row, read_rows


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def good(path: Path) -> list[tuple[int, Any]]:
    """(line, value) of a file without a bad row."""
    found = list(read_rows(path))
    assert all(isinstance(one, Row) for one in found), found
    return [(one.line, one.value) for one in found if isinstance(one, Row)]


def bad(path: Path) -> list[tuple[int, str, str]]:
    """(line, field, reason) of the bad rows of a file, which all name it."""
    found = [one for one in read_rows(path) if isinstance(one, Bad)]
    assert all(one.file == str(path) for one in found)
    return [(one.line, one.field, one.reason) for one in found]
