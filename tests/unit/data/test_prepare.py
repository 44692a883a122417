"""From files to tokens: what is refused before a model loads, the split, the length rules and the cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.data.prepare import Prepared, preflight, prepare, validate
from llamahome_tui.errors import DataError, LlamaHomeError, ModelError, NotFoundError
from llamahome_tui.training.spec import Spec, read_spec
from tests.unit.data import templates


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return templates.write_tokenizer(tmp_path_factory.mktemp("model") / "m", "bytes", templates.CHATML)


def rows(count: int, start: int = 0, words: int = 3) -> list[dict[str, Any]]:
    said = " ".join(templates.TEXT.split()[:words])
    return [{"prompt": f"say {number}", "completion": f"{said} {number}"} for number in range(start, start + count)]


def write(path: Path, values: list[Any]) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def spec(folder: Path, *overrides: str, train: str = "train.jsonl") -> Spec:
    text = f'[model]\nid = "demo"\n[data]\ntrain = ["{train}"]\n'
    return read_spec(text, source="s.toml", folder=folder, environ={}, overrides=overrides)


Prepare = Callable[..., Prepared]


@pytest.fixture
def made(tmp_path: Path, model: Path) -> Prepare:
    def run(values: list[Any], *overrides: str, cache: Path | None = None, **more: Any) -> Prepared:
        write(tmp_path / "train.jsonl", values)
        return prepare(spec(tmp_path, *overrides), model, cache, **more)

    return run


def text(model: Path, ids: list[int]) -> str:
    from tokenizers import Tokenizer

    decoded: str = Tokenizer.from_file(str(model / "tokenizer.json")).decode(ids, skip_special_tokens=False)
    return decoded


def test_ids_masks_and_hashes(made: Prepare, model: Path, tmp_path: Path) -> None:
    found = made(rows(10), "data.eval=2")
    assert (len(found.train), len(found.eval), found.format) == (8, 2, "completion")
    for example in [*found.train, *found.eval]:
        assert len(example.ids) == len(example.mask)
        whole = text(model, example.ids)
        learned = text(model, [one for one, bit in zip(example.ids, example.mask, strict=True) if bit])
        assert whole.startswith("<|im_start|>user\nsay ")
        assert learned == whole.split("assistant\n")[1].removesuffix("\n")
    assert found.train.lengths.tolist() == [len(example.ids) for example in found.train]
    assert found.max_length == max(len(example.ids) for example in [*found.train, *found.eval])
    import hashlib

    assert found.hashes == {
        str(tmp_path / "train.jsonl"): hashlib.sha256((tmp_path / "train.jsonl").read_bytes()).hexdigest()
    }
    assert len(found.train[2:5]) == 3
    assert found.train[-1] == found.train[len(found.train) - 1]


def test_duplicates_never_stand_on_both_sides(made: Prepare) -> None:
    values = rows(30) * 3
    found = made(values, "data.eval=12")
    held = {tuple(example.ids) for example in found.eval}
    assert held
    assert len(found.eval) % 3 == 0
    assert not held & {tuple(example.ids) for example in found.train}


def test_groups_stay_together(made: Prepare) -> None:
    values = [row | {"user": number // 5} for number, row in enumerate(rows(50))]
    found = made(values, "data.eval=10", "data.group=user")
    assert len(found.eval) == 10
    with pytest.raises(DataError) as error:
        made([*values, rows(1)[0]], "data.group=user")
    assert error.value.data["bad"] == [
        {
            "file": error.value.data["bad"][0]["file"],
            "line": 51,
            "field": "user",
            "reason": "is missing, and data.group names it",
        }
    ]


def test_rows_of_the_eval_file_are_not_trained_on(made: Prepare, tmp_path: Path) -> None:
    write(tmp_path / "held.jsonl", rows(3))
    found = made(rows(10), "data.eval=held.jsonl")
    assert (len(found.train), len(found.eval), found.dropped["in_eval"]) == (7, 3, 3)
    assert "3 rows also stand in the eval file" in found.warnings[0]
    assert set(found.hashes) == {str(tmp_path / "train.jsonl"), str(tmp_path / "held.jsonl")}


def test_no_eval(made: Prepare) -> None:
    assert len(made(rows(5), "data.eval=0").eval) == 0
    assert len(made(rows(4)).eval) == 0


def long_rows() -> list[dict[str, Any]]:
    return [*rows(10), {"prompt": "x", "completion": "word " * 120}]


def test_long_rows(made: Prepare) -> None:
    limit = "data.max_length=64"
    with pytest.raises(DataError, match="1 of 11 rows are longer than 64 tokens") as error:
        made(long_rows(), "data.eval=0", limit)
    assert error.value.data["bad"][0]["line"] == 11
    found = made(long_rows(), "data.eval=0", limit, "data.long=drop")
    assert (len(found.train), found.dropped["long"], found.max_length) == (10, 1, 64)
    found = made(long_rows(), "data.eval=0", limit, "data.long=truncate")
    assert (len(found.train), max(found.train.lengths)) == (11, 64)
    found = made(long_rows(), "data.eval=0", limit, "data.long=split")
    pieces = found.train[10:]
    assert len(pieces) > 2
    assert max(found.train.lengths) == 64
    assert all(sum(example.mask) for example in pieces)
    assert all(example.mask[0] == 0 for example in pieces)
    with pytest.raises(DataError, match="tokens long, over 64"):
        made(long_rows(), "data.eval=0", limit, "data.long=error")


def test_few_long_rows_are_dropped_with_a_warning(made: Prepare) -> None:
    found = made([*rows(200), long_rows()[-1]], "data.eval=0", "data.max_length=64")
    assert (len(found.train), found.warnings) == (200, ("1 rows are too long and left out",))


def test_rows_are_capped_by_the_models_context(made: Prepare) -> None:
    found = made([*rows(200), {"prompt": "x", "completion": "z" * 600}], "data.eval=0")
    assert found.dropped["long"] == 1
    with pytest.raises(DataError, match="over the model's context of 512"):
        made(rows(5), "data.max_length=513")


def test_rows_cut_before_the_answer_have_nothing_to_learn(made: Prepare) -> None:
    values = [{"prompt": "word " * 60, "completion": "yes"}]
    found = made([*rows(10), *values], "data.eval=0", "data.max_length=64", "data.long=truncate")
    assert (len(found.train), found.dropped["untrained"]) == (10, 1)
    with pytest.raises(DataError, match="no row has a token to learn") as error:
        made(values * 3, "data.eval=0", "data.max_length=64", "data.long=truncate")
    assert error.value.error_code == "data.all_masked"


BROKEN: dict[str, tuple[bytes, int, str, str]] = {
    "no field": (b'{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n', 2, "completion", "is missing"),
    "empty file": (b"", 0, "", "the file is empty"),
    "only blank lines": (b"\n\n", 0, "", "the file is empty"),
    "wrong encoding": (b'{"prompt": "a", "completion": "\xe9"}\n', 1, "", "not UTF-8"),
    "not JSON": (b'{"prompt": "a", "completion": "b"}\n{]\n', 2, "", "not JSON"),
    "unknown format": (b'{"q": "a", "a": "b"}\n', 1, "", "columns are q, a"),
    "NUL": (b'{"prompt": "a\\u0000", "completion": "b"}\n', 1, "prompt", "NUL"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize(
    "step", [preflight, lambda spec, model: prepare(spec, model, None)], ids=["preflight", "prepare"]
)
def test_f40_broken_data_names_file_line_and_field(tmp_path: Path, model: Path, name: str, step: Any) -> None:
    content, line, field, reason = BROKEN[name]
    (tmp_path / "train.jsonl").write_bytes(content)
    with pytest.raises(DataError) as error:
        step(spec(tmp_path), model)
    assert error.value.exit == 3
    bad = error.value.data["bad"][0]
    assert (bad["file"], bad["line"], bad["field"]) == (str(tmp_path / "train.jsonl"), line, field)
    assert reason in bad["reason"]
    assert str(tmp_path / "train.jsonl") in error.value.message


@pytest.mark.parametrize(
    "step", [preflight, lambda spec, model: prepare(spec, model, None)], ids=["preflight", "prepare"]
)
def test_f40_all_labels_masked_and_template_missing(tmp_path: Path, model: Path, step: Any) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]
    write(tmp_path / "train.jsonl", [{"messages": messages}] * 5)
    with pytest.raises(DataError) as error:
        step(spec(tmp_path), model)
    assert error.value.error_code == "data.all_masked"
    bare = templates.write_tokenizer(tmp_path / "bare", "bytes")
    with pytest.raises(DataError) as error:
        step(spec(tmp_path), bare)
    assert error.value.error_code == "template.missing"
    (bare / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        step(spec(tmp_path), bare)
    with pytest.raises(NotFoundError, match="is not there"):
        step(spec(tmp_path, train="none.jsonl"), model)
    with pytest.raises(NotFoundError, match="matches no file"):
        step(spec(tmp_path, train="none*.jsonl"), model)


def test_a_template_that_refuses_a_row_names_it(tmp_path: Path) -> None:
    model = templates.write_tokenizer(tmp_path / "m", "bytes", templates.LLAMA2)
    talk = [{"role": "system", "content": "a"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    write(tmp_path / "train.jsonl", [{"messages": talk[1:]}, {"messages": talk}])
    with pytest.raises(DataError) as error:
        preflight(spec(tmp_path), model)
    assert error.value.data["bad"][0]["line"] == 2
    assert "only user and assistant speak here" in error.value.message


def test_bad_rows_are_capped(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", [*rows(1), *[{"prompt": 1}] * 5000])
    found = validate([path])
    assert (found.rows, found.bad_count, len(found.bad)) == (1, 5000, 100)
    with pytest.raises(DataError, match="and 4999 more"):
        found.raise_if_bad()


@pytest.mark.parametrize("kind", ["bytes", "pieces"])
def test_plain_rows_need_no_template_and_have_one_bos(tmp_path: Path, kind: str) -> None:
    model = templates.write_tokenizer(tmp_path / "m", kind)
    write(
        tmp_path / "train.jsonl",
        [{"prompt": "hello world ", "completion": "it is fine"}, {"prompt": "<s>hello", "completion": " you"}],
    )
    found = prepare(spec(tmp_path, "data.eval=0"), model, None)
    for example, prompt in zip(found.train, ("hello world ", "<s>hello"), strict=True):
        whole = text(model, example.ids)
        assert whole.count("<s>") == (1 if kind == "pieces" or "<s>" in prompt else 0)
        assert whole.endswith("</s>")
        learned = text(model, [one for one, bit in zip(example.ids, example.mask, strict=True) if bit])
        assert learned.strip() in ("it is fine</s>", "you</s>")


def test_train_on_all_leaves_out_the_first_token_only(made: Prepare) -> None:
    example = made(rows(3), "data.eval=0", "data.train_on=all").train[0]
    assert example.mask == [0] + [1] * (len(example.ids) - 1)


def test_the_cache_gives_the_same_and_follows_what_goes_in(made: Prepare, tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "prepared"
    first = made(rows(20), "data.eval=4", cache=cache)
    again = made(rows(20), "data.eval=4", cache=cache)
    assert (first.cached, again.cached) == (False, True)
    assert list(first.train) == list(again.train)
    assert list(first.eval) == list(again.eval)
    assert (first.key, first.max_length, first.warnings) == (again.key, again.max_length, again.warnings)
    assert len(list(cache.iterdir())) == 1
    assert (cache.stat().st_mode & 0o777, (cache / first.key).stat().st_mode & 0o777) == (0o700, 0o700)
    keys = {first.key, made(rows(21), "data.eval=4", cache=cache).key}
    for change in ("data.eval=5", "data.split_seed=1", "data.train_on=all", "data.max_length=100", "data.long=drop"):
        keys.add(made(rows(20), *(["data.eval=4"] if "eval" not in change else []), change, cache=cache).key)
    assert len(keys) == 7
    # What does not decide the rows does not count.
    assert made(rows(20), "data.eval=4", "training.seed=7", "name=other", cache=cache).cached


@pytest.mark.parametrize("harm", ["ids", "facts", "missing", "flip"])
def test_a_harmed_cache_is_made_again(made: Prepare, tmp_path: Path, harm: str) -> None:
    cache = tmp_path / "prepared"
    first = made(rows(20), cache=cache)
    was = list(first.train)
    folder = cache / first.key
    if harm == "ids":
        os.truncate(folder / "ids.npy", 200)
    elif harm == "facts":
        (folder / "facts.json").write_text("{")
    elif harm == "missing":
        (folder / "mask.npy").unlink()
    else:
        raw = bytearray((folder / "ids.npy").read_bytes())
        raw[-1] ^= 1
        (folder / "ids.npy").write_bytes(raw)
    again = made(rows(20), cache=cache)
    assert not again.cached
    assert list(again.train) == was
    assert made(rows(20), cache=cache).cached


def test_a_cache_that_cannot_be_written_is_a_warning(made: Prepare, tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("")
    found = made(rows(20), cache=tmp_path / "blocked")
    assert len(found.train) == 16
    assert "is not kept" in found.warnings[-1]


def test_left_overs_of_killed_writers_are_swept(made: Prepare, tmp_path: Path) -> None:
    cache = tmp_path / "prepared"
    for name, age in ((".old.1.tmp", 2 * 24 * 3600), (".new.2.tmp", 0)):
        (cache / name).mkdir(parents=True)
        os.utime(cache / name, (time.time() - age,) * 2)
    made(rows(20), cache=cache)
    assert not (cache / ".old.1.tmp").exists()
    assert (cache / ".new.2.tmp").exists()


def test_progress_and_the_date(tmp_path: Path) -> None:
    model = templates.write_tokenizer(tmp_path / "m", "bytes", "{{ strftime_now('%Y') }}" + templates.CHATML)
    path = write(tmp_path / "train.jsonl", rows(20))
    told: list[tuple[int, int]] = []
    at = datetime(2024, 2, 3, tzinfo=UTC)
    found = prepare(spec(tmp_path), model, tmp_path / "c", lambda done, total: told.append((done, total)), now=at)
    assert told[-1] == (path.stat().st_size, path.stat().st_size)
    assert text(model, found.train[0].ids).startswith("2024")
    assert prepare(spec(tmp_path), model, tmp_path / "c", now=at).cached
    assert not prepare(spec(tmp_path), model, tmp_path / "c", now=at.replace(day=4)).cached


def test_tool_calls_are_not_dropped_silently(tmp_path: Path, model: Path) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": {}}}
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [call]}]
    write(tmp_path / "train.jsonl", [{"messages": talk}])
    with pytest.raises(DataError, match="leaves tool calls out"):
        preflight(spec(tmp_path), model)


def test_the_demo(model: Path) -> None:
    made = prepare(spec(Path("/"), train="demo"), model, None)
    assert len(made.eval) == 200
    assert len(made.train) >= 2000


def test_checking_rows_needs_no_heavy_library(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", rows(3))
    code = (
        "import sys; from pathlib import Path; from llamahome_tui.data.check import validate\n"
        f"assert validate([Path({str(path)!r})]).rows == 3\n"
        "heavy = {'numpy', 'torch', 'transformers', 'tokenizers', 'jinja2', 'rich', 'textual'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    everything = (
        code.replace("data.check", "data.prepare").replace("'numpy', ", "").replace("'tokenizers', 'jinja2', ", "")
    )
    subprocess.run([sys.executable, "-c", everything], check=True)


@pytest.mark.parametrize("garbage", [b"", b"{}", b"\xff\xfe", b'{"version": "1.0"}'])
def test_a_broken_tokenizer_is_a_model_error(tmp_path: Path, model: Path, garbage: bytes) -> None:
    bare = templates.write_tokenizer(tmp_path / "bare", "bytes", templates.CHATML)
    (bare / "tokenizer.json").write_bytes(garbage)
    write(tmp_path / "train.jsonl", rows(3))
    with pytest.raises(LlamaHomeError) as error:
        preflight(spec(tmp_path), bare)
    assert error.value.error_code == "model.broken"
