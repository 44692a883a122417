"""The numbers of a data set, against what is counted by hand from the same tokens."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from llamahome_tui.data.check import samples
from llamahome_tui.data.encode import Encoded, Encoding
from llamahome_tui.data.pool import Pool
from llamahome_tui.data.prepare import prepare
from llamahome_tui.data.stats import Bin, histogram, stats
from llamahome_tui.errors import DataError
from llamahome_tui.training.shape import Data
from llamahome_tui.training.spec import make_spec
from tests.unit.data import templates

SAID = templates.TEXT.split()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return templates.write_tokenizer(tmp_path_factory.mktemp("models") / "m", "bytes", templates.CHATML)


def chat(draw: random.Random, longest: int = 40) -> dict[str, object]:
    asked, told = (" ".join(draw.choices(SAID, k=draw.randrange(5, longest))) for _ in range(2))
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]}


def write(path: Path, rows: list[object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def encoded(data: Data, model: Path) -> list[Encoded]:
    """The rows, tokenised one by one."""
    with Pool(Encoding(model, data)) as pool:
        read = [one for one, _ in samples(Path(data.train[0]), data.format, data.columns)]
        (found,) = pool.encode([read])
    assert all(isinstance(one, Encoded) for one in found)
    return found


@pytest.mark.parametrize("long", ["drop", "truncate", "split"])
def test_counts_are_those_of_the_tokens(tmp_path: Path, model: Path, long: str) -> None:
    draw = random.Random(3)
    rows: list[object] = [chat(draw) for _ in range(300)]
    data = Data(train=(write(tmp_path / "a.jsonl", rows),), max_length=96, long=long, eval=0)
    found = stats(data, model, workers=2)
    sequences = [one.sequences[0] for one in encoded(data, model)]
    lengths = np.array([len(one.ids) for one in sequences])
    assert (found.rows, found.tokens) == (300, lengths.sum())
    assert found.trained_tokens == sum(one.mask.count(1) for one in sequences)
    assert found.long_rows == (lengths > 96).sum() > 0
    assert found.lost_trained_tokens == sum(one.mask[96:].count(1) for one in sequences)
    assert found.untrained_rows == sum(not one.mask[:96].count(1) for one in sequences)
    assert (found.lengths.min, found.lengths.max) == (lengths.min(), lengths.max())
    assert found.lengths.p50 == sorted(lengths)[149]
    assert sum(one.rows for one in found.lengths.histogram) == 300
    assert [one.tokens for one in found.longest] == sorted(lengths)[:-6:-1]
    assert lengths[found.longest[0].place.line - 1] == lengths.max()
    assert found.padding["packed"] <= found.padding["sorted"] <= found.padding["plain"] < 1
    assert found.messages == {"user": 300, "assistant": 300}
    assert found.format == "messages"


@pytest.mark.parametrize(
    "more", [{}, {"long": "truncate"}, {"long": "split"}, {"weights": [2.5, 0.5]}, {"eval": "b.jsonl"}]
)
def test_tokens_of_an_epoch_are_those_that_are_prepared(tmp_path: Path, model: Path, more: dict[str, object]) -> None:
    draw = random.Random(4)
    for name in "ab":
        write(tmp_path / f"{name}.jsonl", [chat(draw) for _ in range(200)])
    named = {"train": ["a.jsonl", "b.jsonl"], "max_length": 96, "long": "drop"} | more
    document = {"model": {"id": str(model)}, "data": named}
    spec = make_spec(document, source="s", folder=tmp_path, environ={})
    found = stats(spec.data, model)
    prepared = prepare(spec, model, None)
    assert found.tokens_per_epoch == prepared.train.tokens > 0


def test_duplicates_exact_and_near_with_their_places(tmp_path: Path, model: Path) -> None:
    draw = random.Random(5)
    rows = [{"prompt": " ".join(draw.choices(SAID, k=60)), "completion": f"is {n}"} for n in range(40)]
    words = str(rows[4]["prompt"]).split()
    words[30] = "changed"
    rows += [rows[2], {"prompt": " ".join(words), "completion": rows[4]["completion"]}, rows[2]]
    place = write(tmp_path / "a.jsonl", rows)
    found = stats(Data(train=(place,), eval=0), model).duplicates
    assert (found.exact, found.near, found.compared) == (2, 1, 43)
    shown = [(str(one.row), str(one.twin)) for one in found.examples]
    assert shown == [(f"{place}:41", f"{place}:3"), (f"{place}:43", f"{place}:3"), (f"{place}:42", f"{place}:5")]
    assert [one.likeness for one in found.examples[:2]] == [1, 1]
    assert 0.8 <= found.examples[2].likeness < 1


def test_overlap_with_a_file_and_with_the_split(tmp_path: Path, model: Path) -> None:
    draw = random.Random(6)
    rows = [{"prompt": " ".join(draw.choices(SAID, k=60)), "completion": f"is {n}"} for n in range(200)]
    near = [{"prompt": f"{row['prompt']} indeed", "completion": row["completion"]} for row in rows]
    train = write(tmp_path / "a.jsonl", rows)
    held = write(tmp_path / "b.jsonl", [rows[7], near[9], {"prompt": "new", "completion": "is it"}])
    found = stats(Data(train=(train,), eval=held), model)
    assert (found.rows, found.overlap.against, found.overlap.rows) == (200, "file", 3)
    assert (found.overlap.twins.exact, found.overlap.twins.near) == (1, 1)
    assert [str(one.twin) for one in found.overlap.twins.examples] == [f"{train}:8", f"{train}:10"]
    assert found.duplicates.exact == found.duplicates.near == 0
    # A split never has an equal row on both sides; near ones it may have, and that is what is told.
    both = write(tmp_path / "c.jsonl", [*rows, *near, *rows])
    found = stats(Data(train=(both,), eval=0.1), model)
    assert (found.overlap.against, found.overlap.twins.exact) == ("split", 0)
    assert found.overlap.rows <= 60
    assert found.overlap.twins.near > 0
    assert stats(Data(train=(train,), eval=0), model).overlap.against == "none"


def test_where_all_files_are_for_evaluation_nothing_overlaps(tmp_path: Path, model: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"prompt": str(n), "completion": "x"} for n in range(9)])
    found = stats(Data(train=(file,), eval=file), model)
    assert (found.rows, found.tokens_per_epoch, found.overlap.against) == (9, 0, "none")
    assert found.warnings == (f"{file} is for evaluation, so nothing is left to train on",)


def test_bad_rows_are_told_and_counted_nowhere_else(tmp_path: Path, model: Path) -> None:
    draw = random.Random(8)
    rows: list[object] = [chat(draw) for _ in range(150)]
    rows[3] = {"messages": [{"role": "user", "content": "x"}]}
    rows[140] = {"messages": []}
    found = stats(Data(train=(write(tmp_path / "a.jsonl", rows),), eval=0), model)
    assert (found.rows, found.bad_count) == (148, 2)
    assert [one.line for one in found.bad] == [4, 141]
    assert found.longest[0].place.line not in (4, 141)


def test_where_nothing_can_be_held_out_it_says_so(tmp_path: Path, model: Path) -> None:
    rows = [{"prompt": "what is it", "completion": "it is fine"}] * 10
    found = stats(Data(train=(write(tmp_path / "a.jsonl", rows),)), model)
    assert (found.rows, found.duplicates.exact, found.overlap.against) == (10, 9, "none")
    assert "no rows can be held out" in found.warnings[0]
    few = [{"prompt": f"what is {n % 2}", "completion": "it is fine"} for n in range(10)]
    found = stats(Data(train=(write(tmp_path / "a.jsonl", few),), eval=2), model)
    assert "there are more of each than the 2 wanted" in found.warnings[0]
    with pytest.raises(DataError, match="context of 512"):
        stats(Data(train=(str(tmp_path / "a.jsonl"),), max_length=4096), model)


def test_a_file_with_nothing_in_it_is_numbers_all_the_same(tmp_path: Path, model: Path) -> None:
    (tmp_path / "a.jsonl").write_text("")
    found = stats(Data(train=(str(tmp_path / "a.jsonl"),)), model)
    assert (found.rows, found.tokens, found.bad_count) == (0, 0, 1)
    assert found.lengths.histogram == found.longest == ()
    json.dumps(found.as_dict())


def test_pairs_texts_and_labels(tmp_path: Path, model: Path) -> None:
    pairs = [{"prompt": f"what is {n}", "chosen": "it is fine thanks", "rejected": "no"} for n in range(20)]
    found = stats(Data(train=(write(tmp_path / "p.jsonl", pairs),), eval=0), model)
    assert (found.format, found.rows) == ("preference", 20)
    assert found.lengths.max < found.tokens / 20 < 2 * found.lengths.max
    texts = [{"text": f"the answer is {n}"} for n in range(20)]
    found = stats(Data(train=(write(tmp_path / "t.jsonl", texts),), eval=0), model)
    assert (found.format, found.trained_tokens) == ("text", found.tokens - 20)
    labels = [{"prompt": f"what is {n}", "completion": "four", "label": n % 2 == 0} for n in range(20)]
    assert stats(Data(train=(write(tmp_path / "l.jsonl", labels),), eval=0), model).format == "labels"


def test_progress_ends_at_the_whole_and_what_it_raises_passes_through(tmp_path: Path, model: Path) -> None:
    draw = random.Random(9)
    data = Data(train=(write(tmp_path / "a.jsonl", [chat(draw) for _ in range(400)]),), eval=0)
    seen: list[tuple[int, int]] = []
    stats(data, model, lambda done, total: seen.append((done, total)))
    size = (tmp_path / "a.jsonl").stat().st_size
    assert seen[-1] == (size, size)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)

    def stop(done: int, total: int) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError):
        stats(data, model, stop)


def test_bars_have_one_round_width_and_the_tail_shares_the_last() -> None:
    lengths = np.concatenate((np.arange(100, 300), [100_000]))
    bars = histogram(lengths)
    widths = {one.end - one.start for one in bars[:-1]}
    assert widths == {20}
    assert bars[0].start == 100
    assert (bars[-1].end, bars[-1].rows) == (100_001, 1)
    assert sum(one.rows for one in bars) == 201
    assert histogram(np.array([7, 7])) == (Bin(7, 8, 2),)
    assert histogram(np.zeros(0, dtype=np.int64)) == ()
    for one, other in pairwise(bars):
        assert one.end == other.start
