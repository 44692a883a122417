"""The children that render templates: in order, within limits (T07), and gone however their user leaves."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, pre_tokenizers

from llamahome_tui.data import pool as pools
from llamahome_tui.data.answers import LEFT_OUT
from llamahome_tui.data.confined import Limits
from llamahome_tui.data.encode import Encoded, Encoder, Encoding, Seen
from llamahome_tui.data.pool import Pool, workers_of
from llamahome_tui.data.rows import Bad
from llamahome_tui.data.samples import Chat, Judged, Pair, Sample, Text
from llamahome_tui.errors import DataError, Interrupted, LlamaHomeError, ModelError, ResourceError
from tests.unit.data import templates


def chat(number: int, said: str = "you") -> Chat:
    messages = ({"role": "user", "content": f"hi {number}"}, {"role": "assistant", "content": f"{said} {number}"})
    return Chat(messages, file="d.jsonl", line=number + 1, group=str(number % 3))


def model(folder: Path, template: str | None = templates.CHATML, kind: str = "bytes", **config: object) -> Encoding:
    return Encoding(templates.write_tokenizer(folder / "m", kind, template, **config))


@pytest.fixture
def encoding(tmp_path: Path) -> Encoding:
    return model(tmp_path)


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    yield
    assert children() == []


def children() -> list[int]:
    """The processes this one has started and that are still there."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in listed if b"confined" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def batches(count: int, size: int) -> list[list[Sample]]:
    return [[chat(start * size + at) for at in range(size)] for start in range(count)]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_order_and_are_those_of_this_process(encoding: Encoding, workers: int) -> None:
    given = batches(20, 7)
    wanted = [Encoder(encoding).encode(batch) for batch in given]
    with Pool(encoding, workers) as pool:
        assert [*pool.encode(given)] == wanted
        assert [*pool.encode(iter(given[:1]))] == wanted[:1]  # it can be used again
        assert len(children()) == workers
    first = wanted[0][0]
    assert isinstance(first, Encoded)
    assert (first.file, first.line, first.group, first.good, len(first.sequences)) == ("d.jsonl", 1, "0", None, 1)


def test_every_kind_of_sample(encoding: Encoding) -> None:
    samples: list[Sample] = [
        Text("running text", "t.txt", 3, "g"),
        Pair(chat(1), chat(1, "nobody"), "p.jsonl", 4, "h"),
        Judged(chat(2), True, "k.jsonl", 5),
        Chat(({"role": "assistant", "content": "first"},), file="bad.jsonl", line=6),
    ]
    with Pool(encoding) as pool:
        (found,) = pool.encode([samples])
        seen = [pool.look(sample) for sample in samples]
    text, pair, judged, bad = found
    assert isinstance(text, Encoded) and isinstance(pair, Encoded) and isinstance(judged, Encoded)
    assert bytes(text.sequences[0].mask) == b"\0" + b"\1" * (len(text.sequences[0].ids) - 1)
    assert (text.group, text.line, pair.group, len(pair.sequences), judged.good) == ("g", 3, "h", 2, True)
    assert isinstance(bad, Bad)
    assert (bad.file, bad.line, bad.reason[:30]) == ("bad.jsonl", 6, "the chat starts with an answer")
    assert seen[3] == bad
    for look, whole in zip(seen[:3], (text, pair, judged), strict=True):
        assert isinstance(look, Seen)
        assert [list(part.ids) for part in look.parts] == [list(row.ids) for row in whole.sequences]
        assert [part.mask for part in look.parts] == [bytes(row.mask) for row in whole.sequences]
    assert isinstance(seen[0], Seen) and isinstance(seen[1], Seen)
    assert seen[0].parts[0].text == "running text</s>"
    assert seen[0].parts[0].special == bytes(len(text.sequences[0].ids) - 1) + b"\1"
    assert [part.title for part in seen[1].parts] == ["chosen", "rejected"]


def test_a_framed_bos_is_seen_and_none_is_doubled(tmp_path: Path) -> None:
    with Pool(model(tmp_path, None, "pieces")) as pool:
        plain, framed = pool.look(Text("hello")), pool.look(Text("<s>hello"))
    assert isinstance(plain, Seen) and isinstance(framed, Seen)
    assert plain.parts[0].text == framed.parts[0].text == "<s>hello</s>"
    assert [part.ids.count(part.ids[0]) for part in (plain.parts[0], framed.parts[0])] == [1, 1]
    assert plain.parts[0].offsets[0] == (0, 3)
    assert plain.parts[0].mask[:2] == b"\0\1"


def test_what_an_encoder_raises_is_raised_here(tmp_path: Path, encoding: Encoding) -> None:
    bare = Encoding(templates.write_tokenizer(tmp_path / "bare", "bytes"))
    with Pool(bare, 2) as pool, pytest.raises(DataError, match="has no chat template") as error:
        list(pool.encode(batches(3, 2)))
    assert error.value.error_code == "template.missing"
    (bare.model_dir / "tokenizer.json").write_bytes(b"{}")
    with Pool(bare) as pool, pytest.raises(ModelError, match="is no tokenizer"):
        pool.look(chat(1))


@pytest.mark.parametrize("sample", [Text("a", "d", 7), chat(6)])
def test_f40_a_tokenizer_without_an_end_names_the_row(tmp_path: Path, sample: Sample) -> None:
    with Pool(model(tmp_path, templates.NO_END, eos_token=None)) as pool, pytest.raises(DataError) as error:
        list(pool.encode([[sample]]))
    assert (error.value.error_code, error.value.data["bad"][0]["line"]) == ("tokenizer.no_end", 7)
    with Pool(model(tmp_path, templates.NO_END, eos_token="<nowhere>")) as pool, pytest.raises(DataError):
        list(pool.encode([[sample]]))


def encoded(encoding: Encoding, samples: list[Sample]) -> list[Encoded | Bad]:
    with Pool(encoding) as pool:
        return [one for batch in pool.encode([samples]) for one in batch]


@pytest.mark.parametrize("name", ["CHATML", "LLAMA2", "THINKING", "NO_END", "REWRITES"])
def test_honest_templates_pass(tmp_path: Path, name: str) -> None:
    assert len(encoded(model(tmp_path, getattr(templates, name)), [chat(1)] * 3)) == 3
    assert "no" in str(encoded(model(tmp_path, "{{ raise_exception('no') }}"), [chat(1)])[0])


@pytest.mark.parametrize(
    "text",
    [
        "{{ 'a' * 4000000000 }}",
        "{{ 'x' | center(4000000000) }}",
        "{% set n = namespace(s='aaaaaaaaaa') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
    ],
)
def test_t07_memory(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"memory.*tokenizer_config\.json \(at d\.jsonl:2\)") as error:
        encoded(model(tmp_path, text), [chat(1)])
    assert (error.value.error_code, error.value.exit) == ("template.unbounded", 3)


ENDLESS = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
DEAF = "{{ 3 ** (3 ** 17) > 1 }}"  # one operation that never comes back to Python
ON_THE_THIRD = "{% if messages[0].content == 'hi 2' %}" + ENDLESS + "{% endif %}" + templates.CHATML


@pytest.mark.parametrize("text", [ENDLESS + templates.CHATML, DEAF, ON_THE_THIRD], ids=["loop", "deaf", "third"])
def test_t07_endless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(pools, "LIMITS", Limits(cpu_s=0.5))
    before = os.times()
    with pytest.raises(DataError, match=r"is not done within 0\.5 s") as error:
        encoded(model(tmp_path, text), [chat(0), chat(1), chat(2), chat(3)])
    after = os.times()
    assert error.value.error_code == "template.unbounded"
    assert error.value.data["bad"][0]["line"] == (3 if text == ON_THE_THIRD else 1)
    assert after.user - before.user < 2
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_t07_a_tokenizer_that_gives_up_names_the_row(tmp_path: Path) -> None:
    bare = model(tmp_path)
    path = bare.model_dir / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    cut = pre_tokenizers.Split(Regex("(a|aa|aaa)+c"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.save(str(path))
    with pytest.raises(DataError, match=r"^f\.txt:4: the tokenizer fails on it: ") as error:
        encoded(bare, [Text("fine", "f.txt", 3), Text("a" * 400 + "b", "f.txt", 4)])
    assert (error.value.error_code, error.value.exit) == ("tokenizer.unbounded", 3)


def test_t07_an_endless_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "LIMITS", Limits(cpu_s=0.01, rate=1 << 40))
    with pytest.raises(DataError, match=r"f\.txt:3: tokenising it does not come to an end"):
        encoded(model(tmp_path), [Text("日本 " * 30_000, "f.txt", 3)] * 2)


def test_after_an_endless_row_the_next_look_has_a_fresh_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "LIMITS", Limits(cpu_s=0.5))
    with Pool(model(tmp_path, ON_THE_THIRD)) as pool:
        with pytest.raises(DataError, match="is not done"):
            pool.look(chat(2))
        assert isinstance(pool.look(chat(1)), Seen)


def test_a_template_sees_no_secret_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnop")
    with Pool(model(tmp_path)) as pool:
        pool.look(chat(1))
        (pid,) = children()
        proc = Path(f"/proc/{pid}")
        assert b"hf_abcdefghijklmnop" not in (proc / "environ").read_bytes()
        assert (proc / "cwd").readlink() == Path("/")
        assert [resource.prlimit(pid, one) for one in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE)] == [(0, 0)] * 2
        assert resource.prlimit(pid, resource.RLIMIT_AS)[0] < 2 << 30
        assert os.getpgid(pid) != os.getpgrp()


def test_text_that_is_long_is_no_fault(tmp_path: Path) -> None:
    (found,) = encoded(model(tmp_path), [Text("it is fine " * 400_000)])
    assert isinstance(found, Encoded)
    assert found.tokens > 1_000_000


def test_a_child_killed_by_the_kernel_is_a_lack_of_memory(encoding: Encoding) -> None:
    def given() -> Iterator[list[Sample]]:
        yield from batches(2, 2)
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        yield from batches(20, 2)

    with Pool(encoding, 2) as pool, pytest.raises(ResourceError, match="was killed") as error:
        list(pool.encode(given()))
    assert error.value.exit == 5


def test_leaving_in_the_middle_leaves_no_child(tmp_path: Path) -> None:
    with Pool(model(tmp_path, ENDLESS), 2) as pool:
        before = time.monotonic()
        with pytest.raises(ZeroDivisionError):
            list(pool.encode(1 / 0 if at == 3 else [chat(at)] for at in range(9)))  # type: ignore[misc]
        assert children() == []
        assert time.monotonic() - before < 2
    with Pool(model(tmp_path), 2) as pool:
        for _ in pool.encode(batches(50, 3)):
            break
        assert [*pool.encode(batches(1, 2))] != []


def test_closing_from_another_thread_ends_a_look(tmp_path: Path) -> None:
    pool = Pool(model(tmp_path, ENDLESS))
    timer = threading.Timer(0.4, pool.close)
    timer.start()
    before = time.monotonic()
    with pytest.raises(Interrupted):
        pool.look(chat(1))
    assert time.monotonic() - before < 2.4
    timer.join()
    with pytest.raises(Interrupted):
        pool.look(chat(1))


def test_batches_are_read_only_as_far_ahead_as_needed(encoding: Encoding) -> None:
    read = 0

    def given() -> Iterator[list[Sample]]:
        nonlocal read
        for batch in batches(100, 2):
            read += 1
            yield batch

    with Pool(encoding, 2) as pool:
        for taken, _ in enumerate(pool.encode(given()), 1):
            assert read - taken <= 8


def test_no_more_children_than_there_is_work_for(encoding: Encoding) -> None:
    with Pool(encoding, 8) as pool:
        list(pool.encode(batches(1, 5)))
        assert len(children()) == 1
        list(pool.encode([[]]))
        assert list(pool.encode([])) == []


def test_whoever_waits_is_called_meanwhile(tmp_path: Path) -> None:
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt

    before = time.monotonic()
    with Pool(model(tmp_path, ENDLESS), 1, stop) as pool, pytest.raises(KeyboardInterrupt):
        list(pool.encode(batches(1, 1)))
    assert time.monotonic() - before < 3


def test_doubts_come_along(tmp_path: Path) -> None:
    asked, answered = chat(1).messages
    (found,) = encoded(model(tmp_path), [Chat((asked, {**answered, "reasoning_content": "hm"}))])
    assert isinstance(found, Encoded)
    assert found.doubts == (LEFT_OUT,)


def test_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert [workers_of(setting) for setting in ("auto", 0, 1, 40)] == [16, 1, 1, 40]


def test_the_parent_loads_nothing_heavy(encoding: Encoding) -> None:
    code = f"""
import sys
from pathlib import Path
from llamahome_tui.data.encode import Encoding
from llamahome_tui.data.pool import Pool
from llamahome_tui.data.samples import Text
with Pool(Encoding(Path({str(encoding.model_dir)!r}))) as pool:
    assert pool.look(Text("a")).parts
heavy = {{"numpy", "torch", "transformers", "tokenizers", "jinja2", "rich", "textual"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")


def test_a_fault_of_ours_is_told(encoding: Encoding) -> None:
    broken = Chat(({"content": "no role"},))
    with Pool(encoding) as pool, pytest.raises(LlamaHomeError, match="KeyError"):
        pool.look(broken)
