"""`train init --from FILE`: the spec as the result's text, and in notes how much of the file is not in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from llamahome_tui.outcome import Level, Note, Outcome, Result
from llamahome_tui.training.imports.book import CHANGES, Book
from llamahome_tui.training.imports.translation import translate

if TYPE_CHECKING:
    from llamahome_tui.context import Context


def imported(context: Context, file: str, *, dialect: str | None, method: str | None) -> Iterator[Outcome]:
    """Raises what `translate` raises."""
    path = context.path(file)
    made = translate(path, file, dialect=dialect, method=method, cwd=context.cwd)
    for text, level in notes(made.book):
        yield Note(text, level)
    yield Result(made.to_dict(), next=("llamahome --batch train plan SPEC",))


def notes(book: Book) -> list[tuple[str, Level]]:
    """What a person has to know before starting, in a line each."""
    found: list[tuple[str, Level]] = []
    other = [one for one in (*book.changed, *book.left) if one.severity is CHANGES]
    if other:
        keys = ", ".join(dict.fromkeys(one.key for one in other))
        said = f"{len(other)} of its settings train otherwise here or are left out: {keys}"
        found.append((said if len(said) <= 400 else said[:399] + "…", Level.WARNING))
    if book.fetches:
        many = len(book.fetches) > 1
        sets, files = ("data sets", "files") if many else ("data set", "a file")
        said = f"{len(book.fetches)} {sets} of the Hub must be saved as {files} first"
        found.append((f"{said}; the spec has the command{'s' * many}", Level.WARNING))
    found.append((f"this spec is made from {book.tool}'s; its comments name all that is not as it was", Level.INFO))
    return found
