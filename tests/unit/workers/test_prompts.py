"""Files of prompts: every form of a line, every bad line at once, and replies written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.errors import DataError, NotFoundError
from llamahome_tui.workers.prompts import read_prompts, write_replies


def _file(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_text_lines(tmp_path: Path) -> None:
    prompts = read_prompts(_file(tmp_path, "p.txt", "Hello\n\n  Spell é.\r\n{x}\n"), system="Be kind.")
    assert [(p.line, p.chat[-1]["content"]) for p in prompts] == [(1, "Hello"), (3, "  Spell é."), (4, "{x}")]
    assert prompts[0].chat[0] == {"role": "system", "content": "Be kind."}


def test_json_lines(tmp_path: Path) -> None:
    lines: list[Any] = [
        "Hello",
        {"prompt": "Hi", "id": 7, "system": "Be brief."},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    hello, hi, chat = read_prompts(_file(tmp_path, "p.jsonl", text), system="Be kind.")
    assert [m["content"] for m in hello.chat] == ["Be kind.", "Hello"]
    assert [m["content"] for m in hi.chat] == ["Be brief.", "Hi"]
    assert hi.written["id"] == 7
    assert [m["content"] for m in chat.chat] == ["Be kind.", "a"]


def test_every_bad_line_is_named(tmp_path: Path) -> None:
    text = b'"fine"\n{"question": "x"}\nnot json\n[1]\n{"messages": [{"role": "user"}]}\n{"messages": []}\n"\xff"\n'
    path = _file(tmp_path, "p.jsonl", text)
    with pytest.raises(DataError) as caught:
        read_prompts(path)
    assert [row["line"] for row in caught.value.data["bad"]] == [2, 3, 4, 5, 6, 7]
    assert f"{path}:2:" in caught.value.message
    assert caught.value.exit == 3


@pytest.mark.parametrize("text", ["", "\n\n", " \n"])
def test_an_empty_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match="holds no prompt"):
        read_prompts(_file(tmp_path, "p.txt", text))
    with pytest.raises(NotFoundError):
        read_prompts(tmp_path / "none.txt")


def test_replies_are_whole_or_not_there(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    write_replies(target, [{"text": "é"}, {"text": "\x1b"}])
    assert [json.loads(line) for line in target.read_text().splitlines()] == [{"text": "é"}, {"text": "\x1b"}]

    def stops() -> Iterator[dict[str, str]]:
        yield {"text": "one"}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_replies(target, stops())
    assert len(target.read_text().splitlines()) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
