"""What is no training of ours at all: refused with the keys that say so, for no spec could do it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llamahome_tui.errors import ConfigError
from llamahome_tui.training.imports.rules import Source


def refuse(source: Source, found: Mapping[str, str]) -> None:
    """Raises ConfigError `import.unlike` where `found` (key -> reason) has something."""
    if not found:
        return
    said = [f"{source.given.place(key)}: {key}: {reason}" for key, reason in found.items()]
    mistakes: list[dict[str, Any]] = [
        {"file": source.given.source, "line": source.given.lines.get(key, 0), "key": key, "reason": reason}
        for key, reason in found.items()
    ]
    raise ConfigError(
        "\n".join(said),
        code="import.unlike",
        hint="see what LlamaHome trains: llamahome --batch train init --help",
        data={"errors": mistakes},
    )
