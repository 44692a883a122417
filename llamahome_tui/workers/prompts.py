"""Reads prompts from files (text lines or JSON lines) and writes the replies beside them, whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamahome_tui.errors import DataError, NotFoundError, ResourceError
from llamahome_tui.workers.request import Chat

_LONGEST = 4 * 1024 * 1024
_HINT = 'a line is text, a JSON string, {"prompt": ...} or {"messages": [...]}; see llamahome --batch generate --help'


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt of a file: its line (from 1), the chat that ends before the reply, and how the file wrote it."""

    line: int
    chat: Chat
    written: Mapping[str, Any]


def chat_of(prompt: str, system: str | None = None) -> Chat:
    """A prompt, and the system prompt before it where there is one."""
    start = ({"role": "system", "content": system},) if system else ()
    return (*start, {"role": "user", "content": prompt})


def read_prompts(path: Path, system: str | None = None) -> list[Prompt]:
    """Every prompt of a file; `.jsonl` and `.json` files hold JSON lines, others text, blank lines left out.

    Raises NotFoundError, and DataError that lists every bad line at once (`data["bad"]`).
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such file", code="data.not_found", hint=_HINT) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", hint=_HINT) from None
    as_json = path.suffix in {".jsonl", ".json", ".ndjson"}
    found: list[Prompt] = []
    bad: list[dict[str, Any]] = []
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            if len(line) > _LONGEST:
                raise ValueError("is longer than 4 MiB")
            text = line.decode("utf-8").strip("\r")
            found.append(_prompt(number, json.loads(text) if as_json else text, system))
        except (ValueError, RecursionError) as error:
            reason = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            bad.append({"file": str(path), "line": number, "field": "", "reason": reason})
    if bad:
        first = bad[0]
        more = f" (and {len(bad) - 1} more lines)" if len(bad) > 1 else ""
        raise DataError(f"{path}:{first['line']}: {first['reason']}{more}", hint=_HINT, data={"bad": bad[:100]})
    if not found:
        raise DataError(f"{path} holds no prompt", code="data.empty", hint=_HINT)
    return found


def write_replies(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines under a temporary name, synced, then moved into place. Raises ResourceError when the disk is full."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ResourceError(
            f"{path} cannot be written: {error.strerror}", hint="llamahome --batch cache usage"
        ) from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _prompt(number: int, value: Any, system: str | None) -> Prompt:
    if isinstance(value, str):
        return Prompt(number, chat_of(value, system), {"prompt": value})
    if not isinstance(value, dict):
        raise ValueError("is no text and no JSON object")
    messages = value.get("messages")
    if isinstance(messages, list):
        return Prompt(number, _messages(messages, system), value)
    prompt = value.get("prompt")
    if not isinstance(prompt, str):
        raise ValueError("has neither a text `prompt` nor `messages`")
    own = value.get("system")
    return Prompt(number, chat_of(prompt, own if isinstance(own, str) else system), value)


def _messages(messages: list[Any], system: str | None) -> Chat:
    for message in messages:
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise ValueError("has a message without a text role and content")
    chat = tuple({"role": m["role"], "content": m["content"]} for m in messages)
    while chat and chat[-1]["role"] == "assistant":
        chat = chat[:-1]  # the reply is what we write
    if not chat:
        raise ValueError("has no message to answer")
    if system and chat[0]["role"] != "system":
        chat = ({"role": "system", "content": system}, *chat)
    return chat
