"""Rows that people really train on, where they are at hand: every one of them is read, in the format it has."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from llamahome_tui.data.check import samples, validate
from llamahome_tui.data.samples import Chat, Pair, chats_of

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "data"
COLUMNS = {"gsm8k-train.jsonl": {"prompt": "question", "completion": "answer"}}


@pytest.mark.parametrize(
    ("name", "format", "rows"),
    [
        ("gsm8k-train.jsonl", "completion", 7473),
        ("alpaca-en.json", "alpaca", 500),
        ("preference-sharegpt.json", "preference", 100),
        ("toolcall-sharegpt.json", "sharegpt", 80),
    ],
)
def test_every_row_is_read(name: str, format: str, rows: int) -> None:
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    columns = COLUMNS.get(name, {})
    found = validate([path], "auto", columns)
    assert found.as_dict() == {"rows": rows, "format": format, "bad": [], "bad_count": 0}
    roles: Counter[str] = Counter()
    for sample, _ in samples(path, format, columns):
        assert isinstance(sample, Pair if format == "preference" else Chat)
        for chat in chats_of(sample):
            roles.update(message["role"] for message in chat.messages)
            roles["calls"] += sum(len(message.get("tool_calls", ())) for message in chat.messages)
            roles["tools"] += len(chat.tools)
            learned = [one for one in chat.messages if one["role"] == "assistant" and one.get("train", True)]
            assert learned
            assert len(learned) == 1 or format == "sharegpt"
    if name.startswith("toolcall"):
        assert roles["calls"] == roles["tool"] == 59
        assert roles["user"] == 210
        assert roles["tools"] > 0
