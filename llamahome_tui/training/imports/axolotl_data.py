"""Axolotl's `datasets`: its types as formats and columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from llamahome_tui.training.imports.book import CHANGES, HARMLESS, Book, shown
from llamahome_tui.training.imports.data_sets import ROLES, DataSet, files_of, is_local, natural
from llamahome_tui.training.imports.data_sets import write as write_sets
from llamahome_tui.training.imports.rules import Source, names, switch, text

# (what the type is called before its first dot or colon) -> (format, why it is another text; "" where it is not)
_INSTRUCTION: Final = (
    "the chat template renders the prompt here, not that type; a model without one needs data.template"
)
TYPES: Final[dict[str, tuple[str, str]]] = {
    "alpaca": ("alpaca", _INSTRUCTION),
    "alpaca_chat": ("alpaca", _INSTRUCTION),
    "alpaca_w_system": ("alpaca", _INSTRUCTION),
    "alpaca_instruct": ("alpaca", _INSTRUCTION),
    "sharegpt": ("sharegpt", ""),
    "chat_template": ("messages", ""),
    "completion": ("text", ""),
    "pretrain": ("text", ""),
}
# How answers and prompts are called by the types of rl, named by their last part.
PAIRS: Final[dict[str, dict[str, str]]] = {
    "icr": {"prompt": "input"},
    "intel": {"prompt": "question"},
    "argilla": {"prompt": "instruction", "chosen": "chosen_response", "rejected": "rejected_response"},
    "argilla_chat": {},
    "prompt_pairs": {},
    "ultra": {},
    "default": {},
}
LABELS: Final[dict[str, dict[str, str]]] = {
    "argilla": {"prompt": "instruction"},
    "intel": {"prompt": "question"},
    "prompt_pairs": {},
    "ultra": {},
    "argilla_chat": {"messages": "completion"},
}
ENTRY: Final = frozenset(
    [
        "path",
        "split",
        "type",
        "name",
        "revision",
        "data_files",
        "ds_type",
        "field",
        "field_messages",
        "message_property_mappings",
        "message_field_role",
        "message_field_content",
        "field_human",
        "field_model",
        "field_chosen",
        "field_rejected",
        "field_tools",
        "roles",
        "roles_to_train",
        "train_on_eos",
        "train_on_eot",
        "drop_system_message",
        "field_thinking",
        "template_thinking_key",
        "text_column",
        "trust_remote_code",
        "conversation",
        "chat_template",
        "skip",
        "field_instruction",
        "field_output",
        "field_input",
        "field_system",
    ]
)


def write(source: Source, book: Book) -> None:
    """Read `datasets`, `test_datasets` and `pretraining_dataset` into the spec."""
    pretraining = source.values.get("pretraining_dataset")
    entries = pretraining or source.values.get("datasets")
    key = "pretraining_dataset" if pretraining else "datasets"
    sets = _sets(source, book, key, entries)
    kinds = {one.format for one in sets}
    if "method.kind" not in book.values and (pretraining or kinds == {"text"}):
        book.set("method.kind", "pretrain", key)
    pretrains = book.values.get("method.kind") == "pretrain"
    write_sets(book, sets)
    tested = _sets(source, book, "test_datasets", source.values.get("test_datasets"))
    if tested:
        write_sets(book, tested[:1], target="data.eval")
        for one in tested[1:]:
            book.leave("test_datasets", one.id or one.files, "data.eval names one file", HARMLESS)
    _learned(source, book, pretrains)
    strategy = source.get("excess_length_strategy", text)
    words = {"drop": "drop", "truncate": "truncate", "raise": "error"}
    if pretrains:
        book.set("data.long", "split", key)
    elif strategy in words:
        book.set("data.long", words[strategy], "excess_length_strategy")
    else:
        book.default("data.long", "drop", theirs="excess_length_strategy")


def _learned(source: Source, book: Book, pretrains: bool) -> None:
    if source.has("train_on_inputs") and source.get("train_on_inputs", switch):
        if book.values.get("method.kind", "sft") == "sft":
            book.set("data.train_on", "all", "train_on_inputs")
        elif not pretrains:
            book.leave("train_on_inputs", True, "answers are compared, not their prompts")


def _sets(source: Source, book: Book, key: str, entries: Any) -> list[DataSet]:
    if entries is None:
        return []
    if isinstance(entries, str):
        entries = [{"path": entries}]
    if isinstance(entries, Mapping):
        entries = [entries]
    if not isinstance(entries, list):
        source.mistake(key, f"must be a list of data sets, not {shown(entries)}")
        return []
    sets: list[DataSet] = []
    for at, entry in enumerate(entries):
        entry = {"path": entry} if isinstance(entry, str) else entry
        name = f"{key}[{at}]"
        if not isinstance(entry, Mapping) or not isinstance(entry.get("path"), str):
            source.mistake(key, f"entry {at + 1} names no path: {shown(entry)}")
            continue
        sets.append(_set(source, book, name, {name_: value for name_, value in entry.items() if value is not None}))
    return sets


def _set(source: Source, book: Book, key: str, entry: Mapping[str, Any]) -> DataSet:
    for name, value in entry.items():
        if name not in ENTRY:
            book.leave(f"{key}.{name}", value, "is not carried over")
    shape, columns = _shape(source, book, key, entry)
    for name, reason, severity in (
        ("revision", "the newest revision is fetched", CHANGES),
        ("drop_system_message", "system messages stay", CHANGES),
        ("field_thinking", "thinking is what the messages hold as content", CHANGES),
        ("skip", "no rows are skipped", CHANGES),
        ("trust_remote_code", "no code of a data set is run here", HARMLESS),
        ("chat_template", "one template is taken for all rows", CHANGES),
        ("conversation", "the chat template is taken", CHANGES),
    ):
        if entry.get(name):
            book.leave(f"{key}.{name}", entry[name], reason, severity)
    _roles(book, key, entry)
    path, split = str(entry["path"]), str(entry.get("split", "train"))
    data_files = names_of(entry.get("data_files"))
    if data_files is None and entry.get("data_files"):
        book.leave(f"{key}.data_files", entry["data_files"], "name the files one by one")
    data_files = data_files or ()
    folders = (source.given.folder, source.given.cwd)
    if path in ("json", "csv", "parquet", "text") and data_files:
        return DataSet(key, files=data_files, format=shape, columns=columns)
    if is_local(path, folders) or entry.get("ds_type"):
        files = files_of(path, data_files, folders)
        if split != "train" and not split.startswith("train["):
            book.leave(f"{key}.split", split, "a file has no splits")
        elif split != "train":
            book.leave(f"{key}.split", split, "all rows of a file are read")
        return DataSet(key, files=files, format=shape, columns=columns)
    subset = str(entry.get("name", "") or "")
    return DataSet(key, path, subset, split, data_files, (), shape, columns)


def _shape(source: Source, book: Book, key: str, entry: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    said = entry.get("type")
    kind = book.values.get("method.kind", "sft")
    if kind in ("dpo", "orpo", "simpo"):
        return "preference", _pair(book, key, entry, said)
    if kind == "kto":
        return "labels", _label(book, key, entry, said)
    if isinstance(said, Mapping):
        return "alpaca", _own_type(book, key, said)
    word = str(said or "")
    head = word.replace(":", ".").split(".")[0]
    if head not in TYPES:
        if word:
            book.leave(f"{key}.type", word, "is not known here; the format is told by the columns (see: data formats)")
        return "auto", {}
    shape, other = TYPES[head]
    if other:
        book.change(f"{key}.type", word, other)
    if shape == "messages":
        return _chat(entry)
    if shape == "text":
        return "text", natural({"text": entry.get("field") or entry.get("text_column")})
    columns = {ours: entry.get(f"field_{ours}") for ours in ("instruction", "input", "output", "system")}
    if shape == "sharegpt":
        columns = {"messages": entry.get("field_messages")}
    return shape, natural(columns)


def _chat(entry: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    mapping = entry.get("message_property_mappings")
    mapping = mapping if isinstance(mapping, Mapping) else {}
    role = entry.get("message_field_role") or mapping.get("role") or "role"
    content = entry.get("message_field_content") or mapping.get("content") or "content"
    messages = entry.get("field_messages") or "messages"
    columns = natural({"messages": messages, "tools": entry.get("field_tools")})
    if (role, content) == ("from", "value"):
        return "sharegpt", columns
    return "messages", columns | {n: str(c) for n, c in (("role", role), ("content", content)) if n != c}


def _pair(book: Book, key: str, entry: Mapping[str, Any], said: Any) -> dict[str, str]:
    if isinstance(said, Mapping):
        for name in ("prompt_format", "chosen_format", "rejected_format"):
            if said.get(name):
                book.change(f"{key}.type.{name}", said[name], _INSTRUCTION)
        if said.get("field_system"):
            book.leave(f"{key}.type.field_system", said["field_system"], "a pair has no system column")
        return natural({ours: said.get(f"field_{ours}") for ours in ("prompt", "chosen", "rejected")})
    word = str(said or "default")
    head, _, tail = word.partition(".")
    if head == "chat_template" and tail in ("", "default"):
        _, columns = _chat(entry)
        return columns | natural({"chosen": entry.get("field_chosen"), "rejected": entry.get("field_rejected")})
    if tail in PAIRS or word in PAIRS or head == "chat_template":
        if head not in ("chat_template", "default"):
            book.change(f"{key}.type", word, f"the model's own chat template is taken, not that of {head}")
        columns = PAIRS.get(tail, {}) if head != "chat_template" else {}
        if head != "chat_template" and tail in ("", "default"):
            reason = (
                "the first of prompt, input, question, instruction is the prompt there; here data.columns names one"
            )
            book.change(f"{key}.type", word, reason)
        return natural(
            {**columns, **{o: entry.get(f"field_{o}") for o in ("chosen", "rejected") if entry.get(f"field_{o}")}}
        )
    book.leave(f"{key}.type", word, "is not known here; rows need chosen and rejected (see: data formats)")
    return {}


def _label(book: Book, key: str, entry: Mapping[str, Any], said: Any) -> dict[str, str]:
    if isinstance(said, Mapping):
        for name in ("prompt_format", "completion_format"):
            if said.get(name):
                book.change(f"{key}.type.{name}", said[name], _INSTRUCTION)
        return natural({ours: said.get(f"field_{ours}") for ours in ("prompt", "completion", "label")})
    head, _, tail = str(said or "").partition(".")
    if tail in LABELS:
        book.change(f"{key}.type", said, f"the model's own chat template is taken, not that of {head}")
        return natural(LABELS[tail])
    book.leave(f"{key}.type", said, "is not known here; rows need prompt, completion and label (see: data formats)")
    return {}


def _own_type(book: Book, key: str, said: Mapping[str, Any]) -> dict[str, str]:
    """A type of the user's own: its columns, and a text around them that a chat template takes the place of."""
    for name in ("format", "no_input_format", "system_format", "system_prompt"):
        if said.get(name):
            book.change(f"{key}.type.{name}", said[name], _INSTRUCTION)
    return natural({ours: said.get(f"field_{ours}") for ours in ("instruction", "input", "output", "system")})


def _roles(book: Book, key: str, entry: Mapping[str, Any]) -> None:
    roles = entry.get("roles")
    if isinstance(roles, Mapping):
        strange = [word for words in roles.values() for word in (words if isinstance(words, list) else [words])
                   if str(word) not in ROLES]  # fmt: skip
        if strange:
            book.leave(f"{key}.roles", strange, "are no roles that LlamaHome knows: rename them in the rows")
    trained = entry.get("roles_to_train")
    trained = names_of(trained)
    if trained is not None and not set(trained) <= {"assistant", "gpt"}:
        if book.values.get("method.kind", "sft") == "sft" and {"user", "human"} & set(trained):
            book.set("data.train_on", "all", f"{key}.roles_to_train")
        else:
            book.leave(f"{key}.roles_to_train", trained, "what the assistant says is learned")
    if entry.get("train_on_eos") in ("all", "none"):
        book.leave(f"{key}.train_on_eos", entry["train_on_eos"], "the end of each learned turn is learned")
    if entry.get("train_on_eot") in ("all", "none"):
        book.leave(f"{key}.train_on_eot", entry["train_on_eot"], "the end of each learned turn is learned")


def names_of(value: Any) -> tuple[str, ...] | None:
    """A list of roles, None where nothing is said or it is no list."""
    try:
        return None if value is None else names(value)
    except ValueError:
        return None
