"""Their data sets as `data.train`, `format` and `columns`: one spec has one format and one set of columns.

A data set of the Hub becomes a file of a plain name, with the command that makes it; splits and subsets stand in that
command.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from llamahome_tui.text import clean
from llamahome_tui.training.imports.book import HARMLESS, Book, Fetch, shown

# Words for who speaks in a turn of a chat, as data sets have them.
ROLES: Final = frozenset(
    [
        "human",
        "user",
        "gpt",
        "assistant",
        "model",
        "chatgpt",
        "bot",
        "system",
        "developer",
        "tool",
        "function",
        "observation",
        "function_response",
        "function_call",
        "tool_call",
    ]
)
_HUB: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?")
_PLAIN: Final = re.compile(r"[\w.:%+\[\]/-]{1,120}")
_FILES: Final = (
    ".json", ".jsonl", ".ndjson", ".parquet", ".csv", ".tsv", ".txt", ".gz", ".zst", ".arrow",
)  # fmt: skip
# What our formats find without being told.
_FOUND: Final = {
    "messages": ("messages", "conversations", "conversation"),
    "role": ("role", "from"),
    "content": ("content", "value"),
}


@dataclass(frozen=True, slots=True)
class DataSet:
    """One of their entries: `files` where it lies here, else the Hub's id; its format, and our field = their column."""

    key: str
    id: str = ""
    subset: str = ""
    split: str = "train"
    data_files: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    format: str = "auto"
    columns: Mapping[str, str] = field(default_factory=dict)
    weight: float | None = None


def natural(columns: Mapping[str, Any]) -> dict[str, str]:
    """Only those columns that a format would not find by itself, as texts."""
    return {
        name: str(column)
        for name, column in columns.items()
        if column not in (None, "", name) and column not in _FOUND.get(name, ())
    }


def is_local(path: str, folders: Sequence[Path], *, data_set: bool = True) -> bool:
    """Whether a name means a file or folder here: by its look, or because it is there."""
    if path.startswith(("/", "./", "../", "~")):
        return True
    if data_set and path.lower().endswith(_FILES):
        return True
    return (any((folder / path).exists() for folder in folders) and "/" in path) or (
        any((folder / path).is_file() for folder in folders)
    )


def files_of(path: str, data_files: Sequence[str], folders: Sequence[Path]) -> tuple[str, ...]:
    """What a local name means as entries of data.train: files of a folder, all of a folder, or a file."""
    if data_files:
        return tuple(f"{path.rstrip('/')}/{one}" for one in data_files)
    folder = any((base / path).is_dir() for base in folders)
    return (f"{path.rstrip('/')}/*" if folder else path,)


def write(book: Book, sets: Sequence[DataSet], *, target: str = "data.train") -> None:
    """Put data sets into the spec, and name what one format and one set of columns can't say of several."""
    entries: list[str] = []
    weights: list[float] = []
    for one in sets:
        found = list(one.files) if one.files else [_file_of(book, one)] if one.id else []
        for file in found:
            if file in entries:
                weights[entries.index(file)] += 1.0 if one.weight is None else one.weight
                book.change(one.key, file, "is named twice: its rows count as often by data.weights", HARMLESS)
                continue
            entries.append(file)
            weights.append(1.0 if one.weight is None else one.weight)
    if not entries:
        return
    keys = ", ".join(dict.fromkeys(one.key for one in sets))
    book.set(target, tuple(entries) if target == "data.train" else entries[0], keys)
    if target != "data.train":
        return
    if any(weight != 1.0 for weight in weights):
        book.set("data.weights", tuple(weights), keys)
    formats = list(dict.fromkeys(one.format for one in sets))
    if len(formats) == 1:
        if formats[0] != "auto":
            book.set("data.format", formats[0], keys)
    else:
        book.change(keys, ", ".join(formats), "files of several formats: auto tells each by its columns", HARMLESS)
    _columns(book, sets, keys)


def _columns(book: Book, sets: Sequence[DataSet], keys: str) -> None:
    first = dict(sets[0].columns)
    for one in sets[1:]:
        if dict(one.columns) != first:
            said = dict(one.columns)
            book.leave(
                one.key,
                said,
                f"its columns are others than those of {sets[0].key}, and a spec has one set: rename them",
            )
    twice = {column for column in first.values() if list(first.values()).count(column) > 1}
    kept = {name: clean(column, limit=200) for name, column in first.items() if column not in twice}
    if twice:
        book.leave(keys, shown(sorted(twice)), "one column can't be two fields")
    if kept:
        book.set("data.columns", kept, keys)


def _file_of(book: Book, one: DataSet) -> str:
    """The name of the file that a data set of the Hub shall be, with the command that makes it."""
    parts = [one.id.replace("/", "--"), one.subset, "" if one.split == "train" else one.split]
    name = re.sub(r"[^\w.-]+", "-", "-".join(part for part in parts if part)).strip("-")[:150]
    file = f"{name or 'data'}.jsonl"
    fetch = Fetch(clean(one.id, limit=200), file, _command(one, file))
    if fetch not in book.fetches:
        book.fetches.append(fetch)
    return file


def _command(one: DataSet, file: str) -> str:
    """What makes the file, safe to paste; "" where a name is none of the Hub's."""
    if not _HUB.fullmatch(one.id) or not all(
        _PLAIN.fullmatch(word) for word in (one.split, *([one.subset] if one.subset else []), *one.data_files)
    ):
        return ""
    said = json.dumps  # plain names, which Python reads as JSON does
    words = [said(one.id), *([said(one.subset)] if one.subset else []), f"split={said(one.split)}"]
    if one.data_files:
        words.append(f"data_files={said(list(one.data_files))}")
    code = f"from datasets import load_dataset; load_dataset({', '.join(words)}).to_json({said(file)})"
    return f"python -c {shlex.quote(code)}"
