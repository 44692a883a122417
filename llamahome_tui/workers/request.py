"""What the generating child is asked for: one JSON line on its stdin, so that no prompt stands in a process list."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

Chat: TypeAlias = tuple[Mapping[str, str], ...]


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """Chats to answer with a model folder. Paths are absolute; `adapter` and `template` may be empty.

    `stream`: send the reply in pieces as it is written (one chat only). `temperature` 0 takes the likeliest token.
    """

    path: str
    chats: tuple[Chat, ...]
    adapter: str = ""
    template: str = ""
    template_options: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stream: bool = False

    def to_line(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> GenerateRequest:
        """The request in a line that `to_line` wrote."""
        values = json.loads(line)
        values["chats"] = tuple(tuple(chat) for chat in values["chats"])
        return cls(**values)
