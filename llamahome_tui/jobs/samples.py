"""What a run wrote to each of its prompts over time; of very many the middle is thinned, first and newest stay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

PROMPTS: Final = 200
TEXTS: Final = 500  # for one prompt, at most twice as many
LONGEST: Final = 20_000  # characters of a text


@dataclass(frozen=True, slots=True)
class Written:
    """One prompt and its answers, (step, text), oldest first; of a held-out row also what is expected."""

    prompt: str
    texts: tuple[tuple[int, str], ...]
    expected: str | None = None
    right: frozenset[int] = frozenset()  # steps whose text is the expected one


class Samples:
    """Takes a trainer's records in any portions; what an earlier attempt wrote past a later one's `from_step` goes."""

    def __init__(self) -> None:
        self._found: dict[str, dict[int, str]] = {}

    def take(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Fold in records, in their order."""
        for record in records:
            step = record.get("step")
            if record.get("type") == "start" and isinstance(begun := record.get("from_step"), int):
                for texts in self._found.values():
                    for late in [one for one in texts if one > begun]:
                        del texts[late]
            elif record.get("type") == "sample" and isinstance(step, int):
                self._add(str(record.get("prompt")), step, str(record.get("text"))[:LONGEST])

    def _add(self, prompt: str, step: int, text: str) -> None:
        if prompt not in self._found and len(self._found) >= PROMPTS:
            return
        texts = self._found.setdefault(prompt, {})
        texts[step] = text
        if len(texts) > 2 * TEXTS:
            for middle in list(texts)[1:-1:2]:
                del texts[middle]

    def told(self) -> tuple[Written, ...]:
        """The state now; prompts in the order they were first answered."""
        return tuple(Written(prompt, tuple(sorted(texts.items()))) for prompt, texts in self._found.items() if texts)
