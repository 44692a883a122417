"""LLaMA-Factory's names of data sets, looked up in the `dataset_info.json` of its data folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from llamahome_tui.text import clean
from llamahome_tui.training.imports.book import CHANGES, HARMLESS, Book, shown
from llamahome_tui.training.imports.data_sets import ROLES, DataSet, natural
from llamahome_tui.training.imports.data_sets import write as write_sets
from llamahome_tui.training.imports.reading import read
from llamahome_tui.training.imports.rules import Source, names, text
from llamahome_tui.training.imports.unlike import refuse

INFO: Final = "dataset_info.json"
_UP: Final = 6  # folders above the configuration that are looked into: examples lie two below the data folder's
_MEDIA: Final = ("images", "videos", "audios")
# Their columns of each formatting -> our fields.
_ALPACA: Final = {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "system": "system",
    "history": "history",
}


def write(source: Source, book: Book) -> None:
    """Read `dataset` and `eval_dataset` into the spec."""
    folder = source.get("dataset_dir", text, "data")
    wanted = source.get("dataset", names, ())
    held_out = source.get("eval_dataset", names, ())
    info, place = _info(source, folder, (*wanted, *held_out), book)
    sets = [_set(source, book, "dataset", name, info, place) for name in wanted]
    write_sets(book, sets)
    if held_out:
        tested = [_set(source, book, "eval_dataset", name, info, place) for name in held_out]
        write_sets(book, tested[:1], target="data.eval")
        if len(tested) > 1:
            book.leave("eval_dataset", held_out[1:], "data.eval names one file", HARMLESS)


def _info(source: Source, folder: str, wanted: tuple[str, ...], book: Book) -> tuple[Mapping[str, Any] | None, str]:
    """The descriptions of the data sets, and the folder whose files they name; None where there is no such file."""
    if folder == "ONLINE":
        return None, ""
    if folder.startswith("REMOTE:"):
        book.leave(
            "dataset_dir",
            folder,
            "the descriptions of these data sets lie on the Hub: fetch the folder, and import again beside it",
        )
        return None, folder
    above = [source.given.folder, *source.given.folder.absolute().parents[:_UP]]
    for base in (source.given.cwd, *above):
        file = base / folder / INFO
        if file.is_file():
            found = read(file, clean(str(file), limit=300)).values
            near = os.path.relpath(base / folder, source.given.cwd)
            return found, str((base / folder).absolute()) if near.startswith("..") else near
    if wanted:
        book.leave(
            "dataset_dir",
            folder,
            f"there is no {folder}/{INFO} here or above the file, so the names of data sets are taken for files' names",
        )
    return None, folder


def _set(source: Source, book: Book, key: str, name: str, info: Mapping[str, Any] | None, place: str) -> DataSet:
    if info is None:
        if not place:
            return DataSet(f"{key} {name}", id=name)
        return DataSet(
            f"{key} {name}", files=(f"{place}/{name}.json" if not place.startswith("REMOTE:") else f"{name}.json",)
        )
    entry = info.get(name)
    if not isinstance(entry, Mapping):
        near = ", ".join(list(info)[:12])
        source.mistake(key, f"{shown(name)} is not in {place}/{INFO}, which has {near}")
        return DataSet(f"{key} {name}")
    columns, tags = _table(entry, "columns"), _table(entry, "tags")
    if media := [one for one in _MEDIA if columns.get(one)]:
        refuse(source, {key: f"{clean(name, limit=60)} has {' and '.join(media)}, and LlamaHome trains on text"})
    shape, ours = _shape(book, f"{key} {name}", entry, columns, tags)
    if entry.get("num_samples"):
        book.leave(f"{key} {name} num_samples", entry["num_samples"], "all rows are read", CHANGES)
    where = f"{key} {name}"
    if entry.get("hf_hub_url"):
        subset, split = str(entry.get("subset") or ""), str(entry.get("split") or "train")
        folder = entry.get("folder")
        return DataSet(
            where, str(entry["hf_hub_url"]), subset, split, (f"{folder}/*",) if folder else (), (), shape, ours
        )
    file = entry.get("file_name")
    if not isinstance(file, str):
        book.leave(
            where,
            shown(dict(entry)),
            "is no file and no data set of the Hugging Face Hub: save its rows as a file",
            CHANGES,
        )
        file = f"{name}.jsonl"
    return DataSet(where, files=(os.path.normpath(f"{place}/{file}"),), format=shape, columns=ours)


def _table(entry: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = entry.get(name)
    return value if isinstance(value, Mapping) else {}


def _shape(
    book: Book, key: str, entry: Mapping[str, Any], columns: Mapping[str, Any], tags: Mapping[str, Any]
) -> tuple[str, dict[str, str]]:
    chats = entry.get("formatting", "alpaca") in ("sharegpt", "openai")
    ranked, judged = bool(entry.get("ranking")), bool(columns.get("kto_tag"))
    kind = book.values.get("method.kind", "sft")
    said: dict[str, Any] = {}
    role = "from"
    if chats:
        default = ("role", "content") if entry.get("formatting") == "openai" else ("from", "value")
        role, content = tags.get("role_tag", default[0]), tags.get("content_tag", default[1])
        said = {"messages": columns.get("messages", "conversations")} | natural({"role": role, "content": content})
        strange = [
            str(word) for tag, word in tags.items() if tag not in ("role_tag", "content_tag") and str(word) not in ROLES
        ]
        if strange:
            book.leave(f"{key} tags", strange, "are no roles that LlamaHome knows: rename them in the rows")
    elif ranked:
        said = {"prompt": columns.get("prompt")}
    elif judged:
        said = {"prompt": columns.get("prompt", "instruction"), "completion": columns.get("response", "output")}
    else:
        said = {ours: columns.get(theirs) for theirs, ours in _ALPACA.items()}
    if ranked:
        said |= {"chosen": columns.get("chosen"), "rejected": columns.get("rejected")}
    if judged and columns["kto_tag"] != "kto_tag":
        said["label"] = columns["kto_tag"]
    if columns.get("tools"):
        said["tools"] = columns["tools"]
    if kind == "pretrain":
        return "text", natural({"text": columns.get("prompt")})
    shape = (
        "preference"
        if ranked
        else "labels"
        if judged
        else "alpaca"
        if not chats
        else "messages"
        if role == "role"
        else "sharegpt"
    )
    return shape, natural(said)
