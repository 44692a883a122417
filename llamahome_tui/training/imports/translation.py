"""From a file of another tool to a spec that our own reader takes: the whole way, in order."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from llamahome_tui.errors import ConfigError, SpecError
from llamahome_tui.text import clean
from llamahome_tui.training.imports import axolotl, llama_factory, trl
from llamahome_tui.training.imports.book import Book
from llamahome_tui.training.imports.detect import detect
from llamahome_tui.training.imports.reading import Given, read
from llamahome_tui.training.imports.rules import Source
from llamahome_tui.training.imports.writing import write
from llamahome_tui.training.shape import REQUIRED
from llamahome_tui.training.spec import read_spec

_TOOLS: Final = {"axolotl": axolotl, "llama-factory": llama_factory, "trl": trl}
_ROUNDS: Final = 8  # each takes at least one key out, and what is left then is what every rule can hold of


@dataclass(frozen=True, slots=True)
class Translation:
    """The spec's text and what has to be known of it."""

    dialect: str
    source: str
    text: str
    book: Book

    def to_dict(self) -> dict[str, Any]:
        """What `train init --from` answers."""
        book = self.book
        return {
            "method": book.values.get("method.kind", "sft"),
            "dialect": self.dialect,
            "source": self.source,
            "text": self.text,
            "left": [one.to_dict() for one in book.left],
            "changed": [one.to_dict() for one in book.changed],
            "fetch": [one.to_dict() for one in book.fetches],
        }


def translate(
    path: Path, shown: str, *, dialect: str | None = None, method: str | None = None, cwd: Path | None = None
) -> Translation:
    """The spec that a file means. `shown` names the file in messages; `method` is what a YAML of TRL does not say.

    Raises NotFoundError, or ConfigError (exit 3): unreadable, unknown, of no training of ours, or with wrong values.
    """
    given = replace(read(path, clean(shown, limit=300)), cwd=cwd or path.parent)
    name = dialect or detect(given)
    tool = _TOOLS[name]
    source = Source(given)
    book = Book(tool.NAME)
    if name == "trl":
        trl.translate(source, book, method=method)
    else:
        tool.translate(source, book)
        if method is not None and method != book.values.get("method.kind", "sft"):
            book.change("--method", method, f"the file says {book.values.get('method.kind', 'sft')}, and that counts")
    source.refuse_mistakes()
    _required(given, book)
    return Translation(name, given.source, settled(given, book), book)


def _required(given: Given, book: Book) -> None:
    for key in REQUIRED:
        if not book.values.get(key):
            what = "model" if key == "model.id" else "data"
            raise ConfigError(
                f"{given.source}: names no {what}, so there is nothing to make {key} of",
                code="import.incomplete",
                hint=f"write its {what} into it, then: llamahome --batch train init --from FILE",
                data={"file": given.source, "key": key},
            )


def settled(given: Given, book: Book) -> str:
    """The spec as text once our reader takes it; what only the rules between keys refuse is left with their reason."""
    for _ in range(_ROUNDS):
        text = write(book, given.source)
        try:
            read_spec(text, source="<spec>", folder=Path("/"), environ={})
            return text
        except SpecError as error:
            dropped = [book.drop(str(one["key"]), str(one["reason"])) for one in error.data.get("errors", ())]
            if not any(dropped):
                raise ConfigError(
                    f"{given.source}: the spec made from it is not valid: {error.message}",
                    code="import.invalid",
                    hint="begin with a plain one: llamahome --batch train init > spec.toml",
                    data=error.data,
                ) from None
    raise AssertionError(re.escape(given.source))  # each round takes a key out, and rules hold of a few at most
