"""From files to tokens: what is refused before a model loads, the split, the length rules and the cache."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
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
    "empty file": (b"", 0, "", "has no rows"),
    "only blank lines": (b"\n\n", 0, "", "has no rows"),
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


@pytest.mark.parametrize("harm", ["ids", "facts", "missing", "flip", "starts"])
def test_a_harmed_cache_is_made_again(made: Prepare, tmp_path: Path, harm: str) -> None:
    cache = tmp_path / "prepared"
    first = made(rows(20), cache=cache)
    was = list(first.train)
    folder = cache / first.key
    if harm == "ids":
        os.truncate(folder / "ids.bin", 200)
    elif harm == "facts":
        (folder / "facts.json").write_text("{")
    elif harm == "missing":
        (folder / "mask.bin").unlink()
    else:
        path = folder / ("ids.bin" if harm == "flip" else "starts.npy")
        raw = bytearray(path.read_bytes())
        raw[-1] ^= 1
        path.write_bytes(raw)
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
    for name, age in ((".old.1.tmp", 2 * 24 * 3600), (".dead.2.tmp", 0), (".held.3.tmp", 2 * 24 * 3600), (".a.new", 0)):
        (cache / name).mkdir(parents=True)
        os.utime(cache / name, (time.time() - age,) * 2)
    held = os.open(cache / ".held.3.tmp", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    found = made(rows(20), cache=cache)
    assert {path.name for path in cache.iterdir()} == {".held.3.tmp", ".a.new", found.key}
    os.close(held)


def test_progress_and_the_date(tmp_path: Path) -> None:
    model = templates.write_tokenizer(tmp_path / "m", "bytes", "{{ strftime_now('%Y') }}" + templates.CHATML)
    path = write(tmp_path / "train.jsonl", rows(20))
    told: list[tuple[int, ...]] = []
    at = datetime(2024, 2, 3, tzinfo=UTC)
    found = prepare(spec(tmp_path), model, tmp_path / "c", lambda *figures: told.append(figures), now=at)
    assert told[-1] == (path.stat().st_size, path.stat().st_size, 20)
    assert text(model, found.train[0].ids).startswith("2024")
    assert prepare(spec(tmp_path), model, tmp_path / "c", now=at).cached
    assert not prepare(spec(tmp_path), model, tmp_path / "c", now=at.replace(day=4)).cached


def test_tool_calls_are_not_dropped_silently(tmp_path: Path, model: Path) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": {}}}
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [call]}]
    write(tmp_path / "train.jsonl", [{"messages": talk}])
    with pytest.raises(DataError, match="leaves tool calls out"):
        preflight(spec(tmp_path), model)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_bytes_are_the_same_for_any_number_of_workers(made: Prepare, tmp_path: Path) -> None:
    values = [
        *rows(900),
        *[{"prompt": f"long {number}", "completion": "word " * 100} for number in range(9)],
        *rows(300),
    ]
    stores = []
    for workers in (1, 2, 3, 0):
        cache = tmp_path / f"cache-{workers}"
        found = made(values, f"training.max_workers={workers}", "data.max_length=64", "data.long=split", cache=cache)
        stores.append(contents(cache / found.key))
    assert len(stores[0]) > 5
    assert stores[0] == stores[1] == stores[2] == stores[3]


def test_what_progress_raises_stops_it_and_leaves_nothing(made: Prepare, tmp_path: Path) -> None:
    def stop(done: int, total: int, rows: int) -> None:
        if rows >= 512:
            raise KeyboardInterrupt

    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = children.read_text().split()
    with pytest.raises(KeyboardInterrupt):
        made(rows(3000), "training.max_workers=2", cache=tmp_path / "cache", progress=stop)
    assert list((tmp_path / "cache").iterdir()) == []
    assert set(children.read_text().split()) <= set(before)


def weigh(folder: Path, weights: str, *overrides: str) -> Spec:
    text = f'[model]\nid = "demo"\n[data]\ntrain = ["a.jsonl", "b*.jsonl"]\nweights = {weights}\n'
    return read_spec(text, source="s.toml", folder=folder, environ={}, overrides=overrides)


def test_weights_repeat_rows_of_an_entry_and_never_held_out_ones(tmp_path: Path, model: Path) -> None:
    write(tmp_path / "a.jsonl", rows(40))
    write(tmp_path / "b1.jsonl", rows(20, 100))
    write(tmp_path / "b2.jsonl", rows(20, 200))
    plain = prepare(weigh(tmp_path, "[1, 1]", "data.eval=8"), model, None)
    assert (len(plain.train), len(plain.eval)) == (72, 8)
    found = prepare(weigh(tmp_path, "[2.5, 0.25]", "data.eval=8"), model, None)
    assert list(found.eval) == list(plain.eval)
    held = {tuple(example.ids) for example in found.eval}
    counts: dict[str, int] = {}
    for example in found.train:
        assert tuple(example.ids) not in held
        asked = text(model, example.ids).split("say ")[1].split("<")[0]
        counts[asked] = counts.get(asked, 0) + 1
    of_a = [count for asked, count in counts.items() if int(asked) < 100]
    of_b = [count for asked, count in counts.items() if int(asked) >= 100]
    trained_a = sum(1 for example in plain.train if int(text(model, example.ids).split("say ")[1].split("<")[0]) < 100)
    assert (sorted(set(of_a)), set(of_b)) == ([2, 3], {1})
    assert sum(of_a) == 2 * trained_a + round(trained_a / 2)
    assert sum(of_b) == round((72 - trained_a) / 4)
    assert found.key != plain.key
    write(tmp_path / "a.jsonl", rows(40)[::-1])  # the same rows are taken in whatever order they stand
    again = prepare(weigh(tmp_path, "[2.5, 0.25]", "data.eval=8"), model, None)
    assert sorted(example.ids for example in again.train) == sorted(example.ids for example in found.train)


def preferred(count: int, chosen: str = "hello world how") -> list[dict[str, Any]]:
    return [{"prompt": f"say {number}", "chosen": chosen, "rejected": "no"} for number in range(count)]


@pytest.mark.parametrize("step", [preflight, lambda spec, model: prepare(spec, model, None)])
def test_rows_of_the_wrong_kind_are_refused_by_name(tmp_path: Path, model: Path, step: Any) -> None:
    write(tmp_path / "train.jsonl", preferred(3))
    with pytest.raises(DataError, match=r"preference pairs.*, and method\.kind = sft trains on answers") as error:
        step(spec(tmp_path), model)
    assert (error.value.error_code, error.value.data["bad"][0]["line"]) == ("data.wrong_kind", 1)
    labelled = [{"prompt": "a", "completion": "b", "label": True}]
    write(tmp_path / "train.jsonl", labelled)
    with pytest.raises(DataError, match="labelled answers"):
        step(spec(tmp_path), model)
    write(tmp_path / "train.jsonl", preferred(3))
    write(tmp_path / "held.jsonl", labelled)
    with pytest.raises(DataError, match=r"labelled answers.*, and method\.kind = dpo trains on preference pairs"):
        step(of_method(spec(tmp_path, "data.eval=held.jsonl"), "dpo"), model)


def of_method(given: Spec, kind: str) -> Spec:
    return replace(given, method=replace(given.method, kind=kind))


def test_pairs_keep_both_answers(made: Prepare, tmp_path: Path, model: Path) -> None:
    write(tmp_path / "train.jsonl", [*preferred(20), *preferred(1, "word " * 120)])
    limit = ("data.eval=4", "data.max_length=64")
    for where in (None, tmp_path / "cache"):
        found = prepare(of_method(spec(tmp_path, *limit, "data.long=drop"), "dpo"), model, where)
        assert (found.kind, len(found.train), len(found.eval), found.dropped["long"]) == ("pairs", 16, 4, 1)
        for side in (found.train, found.eval):
            for at, (tokens, trained) in enumerate(zip(side.lengths, side.trained, strict=True)):
                chosen, rejected = side.sequences(at)
                assert "hello world how<|im_end|>" in text(model, chosen.ids)
                assert "\nno<|im_end|>" in text(model, rejected.ids)
                assert tokens == len(chosen.ids) + len(rejected.ids)
                assert trained == sum(chosen.mask) + sum(rejected.mask)
                assert side[at] == chosen
    cut = prepare(of_method(spec(tmp_path, *limit, "data.long=truncate"), "dpo"), model, None)
    assert (len(cut.train), cut.max_length) == (17, 64)
    assert max(len(one.ids) for at in range(17) for one in cut.train.sequences(at)) == 64
    with pytest.raises(DataError, match=r"train\.jsonl:21: the pair is longer than 64 tokens") as error:
        prepare(of_method(spec(tmp_path, *limit, "data.long=split"), "dpo"), model, None)
    assert error.value.error_code == "data.split_pairs"


def test_labels_keep_their_verdicts(tmp_path: Path, model: Path) -> None:
    write(tmp_path / "train.jsonl", [row | {"label": at % 3 == 0} for at, row in enumerate(rows(30))])
    found = prepare(of_method(spec(tmp_path, "data.eval=5"), "kto"), model, None)
    assert (found.kind, len(found.train), len(found.eval)) == ("labels", 25, 5)
    for side in (found.train, found.eval):
        for example, good in zip(side, side.good, strict=True):
            assert good == (int(text(model, example.ids).split("say ")[1].split("<")[0]) % 3 == 0)


def test_running_text_is_learned_in_full(tmp_path: Path, model: Path) -> None:
    write(
        tmp_path / "train.jsonl",
        [{"text": f"it is fine {number} thanks to the word café 日本 and thanks"} for number in range(9)],
    )
    found = prepare(spec(tmp_path, "data.eval=0"), model, None)
    for example in found.train:
        assert text(model, example.ids).endswith("thanks</s>")
        assert example.mask == [0] + [1] * (len(example.ids) - 1)
    write(tmp_path / "more.jsonl", rows(2))
    assert prepare(spec(tmp_path, "data.eval=0", train="*.jsonl"), model, None).format == "completion, text"
    pieces = prepare(spec(tmp_path, "data.eval=0", "data.max_length=8", "data.long=split"), model, None)
    assert pieces.train.lengths.tolist() == [8] * 18  # and the last token alone would teach nothing
    assert pieces.warnings == ("9 rows are longer than 8 tokens and split into pieces",)


def test_an_eval_file_in_the_glob_is_not_trained_on(tmp_path: Path, model: Path) -> None:
    write(tmp_path / "a.jsonl", rows(10))
    write(tmp_path / "b.jsonl", rows(3, 100))
    found = prepare(spec(tmp_path, "data.eval=b.jsonl", train="*.jsonl"), model, None)
    assert (len(found.train), len(found.eval)) == (10, 3)
    with pytest.raises(DataError, match=r"is the only file of data\.train"):
        prepare(spec(tmp_path, "data.eval=b.jsonl", train="b*.jsonl"), model, None)


def test_the_first_bad_rows_are_named_whoever_finds_them(tmp_path: Path) -> None:
    model = templates.write_tokenizer(tmp_path / "m", "bytes", templates.LLAMA2)
    refused = {
        "messages": [{"role": "system", "content": "a"}, *({"role": r, "content": "b"} for r in ("user", "assistant"))]
    }
    write(tmp_path / "train.jsonl", [refused, {"messages": 1}] * 700)
    for workers in (1, 2):
        with pytest.raises(DataError, match="and 1399 more") as error:
            prepare(spec(tmp_path, f"training.max_workers={workers}"), model, None)
        assert [bad["line"] for bad in error.value.data["bad"]] == list(range(1, 101))


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
