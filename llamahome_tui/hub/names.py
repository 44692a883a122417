"""How a repository of the Hub is named where a folder may stand too: `hf://owner/name`, and nothing looser."""

from __future__ import annotations

import re
from typing import Final

HUB: Final = "hf://"  # before the name of a repository, where a folder may stand too
_PART: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_REPO: Final = re.compile(rf"{_PART}/{_PART}")


def is_hub(text: str) -> bool:
    """Whether a repository is meant, well named or not."""
    return text.startswith(HUB)


def repo_of(text: str) -> str:
    """`owner/name` of `hf://owner/name`; "" where that is no name that the Hub gives."""
    name = text.removeprefix(HUB)
    good = is_hub(text) and _REPO.fullmatch(name) and ".." not in name and "--" not in name
    return name if good else ""
