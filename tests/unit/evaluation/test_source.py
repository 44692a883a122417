"""The rows that a split holds out, told as rows of the files: they are those that the trainer evaluates on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.data.prepare import held_out, prepare
from llamahome_tui.evaluation.rows import read
from llamahome_tui.training.spec import Spec, read_spec
from tests.unit.data import templates


def _chat(word: str, group: str, answer: str) -> dict[str, Any]:
    turns = [{"role": "user", "content": f"say {word}"}, {"role": "assistant", "content": answer}]
    return {"messages": turns, "who": group}


@pytest.mark.parametrize("settings", [("data.eval=0.2",), ("data.eval=9", "data.split_seed=7"), ("data.group=who",)])
def test_they_are_those_that_training_is_given(tmp_path: Path, settings: tuple[str, ...]) -> None:
    model = templates.write_tokenizer(tmp_path / "model", "bytes", templates.CHATML)
    for name in ("a", "b"):
        rows = [_chat(f"{name}{i % 20}", f"g{i % 7}", "moo " * (1 + i % 3) * (90 if i == 4 else 1)) for i in range(30)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec: Spec = read_spec(
        '[model]\nid = "m"\n[data]\ntrain = ["*.jsonl"]\nlong = "drop"\nmax_length = 250\n',
        source="s.toml", folder=tmp_path, environ={}, overrides=settings,
    )  # fmt: skip
    prepared = prepare(spec, model, None)
    found = held_out(spec, model)
    asked = read(found.files, spec.data, model, 0, 0, lambda done, total: None, frozenset(found.rows)).asked
    assert len(found.rows) == len(prepared.eval) > 0
    assert [list(one.row.sequences[0].ids) for one in asked] == [example.ids for example in prepared.eval]
    assert [list(one.row.sequences[0].mask) for one in asked] == [example.mask for example in prepared.eval]
    assert found.hashes == prepared.hashes
