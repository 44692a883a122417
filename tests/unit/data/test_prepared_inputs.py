"""What prepared rows follow: all that decides them, also what changes while they are made."""

from __future__ import annotations

import json
import shutil
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamahome_tui.data import writer as writer_module
from llamahome_tui.data.examples import Store, load
from llamahome_tui.data.masks import PARTED
from llamahome_tui.data.prepare import prepare
from llamahome_tui.data.writer import Writer
from llamahome_tui.errors import DataError
from llamahome_tui.training.spec import Spec, read_spec
from tests.unit.data import templates


def write(path: Path, values: list[Any]) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def spec(folder: Path, *overrides: str, train: str = "train.jsonl") -> Spec:
    text = f'[model]\nid = "demo"\n[data]\ntrain = ["{train}"]\n'
    return read_spec(text, source="s.toml", folder=folder, environ={}, overrides=overrides)


def rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"prompt": f"say {number}", "completion": f"hello {number}"} for number in range(start, start + count)]


def test_another_end_of_text_of_a_model_without_a_template_is_no_hit(tmp_path: Path) -> None:
    model = templates.write_tokenizer(tmp_path / "m", "bytes")
    write(tmp_path / "train.jsonl", rows(5))
    prepare(spec(tmp_path, "data.eval=0"), model, tmp_path / "c")
    config = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": "<|end|>"}))
    found = prepare(spec(tmp_path, "data.eval=0"), model, tmp_path / "c")
    fresh = prepare(spec(tmp_path, "data.eval=0"), model, None)
    assert list(found.train) == list(fresh.train)


def test_the_same_bytes_under_another_kind_of_name_are_no_hit(tmp_path: Path) -> None:
    model = templates.write_tokenizer(tmp_path / "m", "bytes")
    (tmp_path / "rows.txt").write_text("text\nhello world\nhow are you\n")
    shutil.copy(tmp_path / "rows.txt", tmp_path / "rows.csv")
    lines = prepare(spec(tmp_path, "data.eval=0", train="rows.txt"), model, tmp_path / "c")
    table = prepare(spec(tmp_path, "data.eval=0", train="rows.csv"), model, tmp_path / "c")
    fresh = prepare(spec(tmp_path, "data.eval=0", train="rows.csv"), model, None)
    assert list(table.train) == list(fresh.train)
    assert list(lines.train) != list(table.train)


@pytest.mark.parametrize("which", ["train.jsonl", "template.jinja", "m/tokenizer.json"])
def test_what_changes_while_it_is_read_is_refused(tmp_path: Path, which: str) -> None:
    model = templates.write_tokenizer(tmp_path / "m", "bytes", templates.CHATML)
    (tmp_path / "template.jinja").write_text(templates.CHATML)
    write(tmp_path / "train.jsonl", rows(600))

    def change(done: int, total: int, count: int) -> None:
        if count and not (tmp_path / "changed").exists():
            (tmp_path / "changed").touch()
            with (tmp_path / which).open("a") as stream:
                stream.write("\n")

    asked = spec(tmp_path, "data.eval=0", "data.template=template.jinja")
    with pytest.raises(DataError, match="changed while") as error:
        prepare(asked, model, tmp_path / "c", change)
    assert which in str(error.value)
    assert list((tmp_path / "c").iterdir()) == []
    assert not prepare(asked, model, tmp_path / "c").cached


def test_a_group_of_the_eval_file_is_not_trained_on(tmp_path: Path) -> None:
    model = templates.write_tokenizer(tmp_path / "m", "bytes", templates.CHATML)
    write(tmp_path / "train.jsonl", [row | {"user": number // 5} for number, row in enumerate(rows(20))])
    write(tmp_path / "held.jsonl", [row | {"user": 1} for row in rows(2, 100)])
    found = prepare(spec(tmp_path, "data.eval=held.jsonl", "data.group=user"), model, None)
    assert (len(found.train), len(found.eval), found.dropped["in_eval"]) == (15, 2, 5)


def test_an_eval_file_that_has_every_row_is_named(tmp_path: Path) -> None:
    model = templates.write_tokenizer(tmp_path / "m", "bytes", templates.CHATML)
    write(tmp_path / "train.jsonl", rows(3))
    write(tmp_path / "held.jsonl", rows(5))
    with pytest.raises(DataError, match=r"each row of data.train stands in .*held.jsonl: nothing is left"):
        prepare(spec(tmp_path, "data.eval=held.jsonl"), model, None)


def test_warnings_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    # Only rows far behind have a prompt whose end is one token alone, and two before an answer.
    template = "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    model = templates.write_tokenizer(tmp_path / "m", "bytes", template)
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["ĠĊ"] = 1000
    tokenizer["model"]["merges"].append(["Ġ", "Ċ"])
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    values = [{"prompt": f"{number}{chr(10)}", "completion": "hello"} for number in range(512)]
    values += [{"prompt": f"{number} {chr(10)}", "completion": "hello"} for number in range(512, 768)]
    write(tmp_path / "train.jsonl", values)
    found = [
        prepare(spec(tmp_path, "data.eval=0", f"training.max_workers={workers}"), model, None).warnings
        for workers in (1, 3)
    ]
    assert found[0] == found[1] == (PARTED,)


def store(folder: Path, count: int) -> Writer:
    """A writer that has rows and is not finished."""
    writer = Writer(folder)
    for number in range(count):
        writer.add(array("i", [number, number + 1]), b"\0\1")
    return writer


def close(writer: Writer, count: int) -> Store:
    return writer.finish("rows", b"", np.arange(count), np.arange(0), {})


def test_a_writer_that_comes_second_takes_nothing_from_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = store(tmp_path / "k", 3), store(tmp_path / "k", 3)
    published: list[int] = []

    def found(folder: Path) -> Store | None:
        """The other one publishes right after this one has looked."""
        seen = load(folder)
        if not published:
            published.append(0)
            monkeypatch.setattr(writer_module, "load", load)
            close(first, 3)
            published[0] = folder.stat().st_ino
        return seen

    monkeypatch.setattr(writer_module, "load", found)
    with first, second:
        close(second, 3)
    assert published == [(tmp_path / "k").stat().st_ino]
    assert [path.name for path in tmp_path.iterdir()] == ["k"]


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_stands_in_a_stores_place_and_is_none_gives_way(tmp_path: Path, kind: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/kept").write_text("")
    place = tmp_path / "cache/k"
    place.parent.mkdir()
    if kind == "folder":
        place.mkdir()
        (place / "facts.json").write_text("{")
    elif kind == "file":
        place.write_text("")
    else:
        place.symlink_to(tmp_path / "elsewhere")
    with store(place, 2) as writer:
        assert len(close(writer, 2).train) == 2
    assert not writer.lost_disk
    assert load(place) is not None
    assert [path.name for path in place.parent.iterdir()] == ["k"]
    assert (tmp_path / "elsewhere/kept").exists()
