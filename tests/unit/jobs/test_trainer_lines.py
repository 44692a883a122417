"""Lines of Hugging Face's Trainer, of TRL and of tqdm, as they are really printed, become numbers."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamahome_tui.jobs.trainer_lines import MAX_SEGMENT, Bar, Measured, Segments, read_segment


def one(segment: bytes) -> Measured | Bar:
    (found,) = read_segment(segment)
    return found


@pytest.mark.parametrize(
    ("line", "values"),
    [
        (
            b"{'loss': 1.2, 'grad_norm': 0.5, 'learning_rate': 1e-05, 'epoch': 0.1}",
            {"loss": 1.2, "grad_norm": 0.5, "lr": 1e-05, "epoch": 0.1},
        ),
        (
            b"{'loss': '1.2', 'grad_norm': '0.5', 'learning_rate': '1e-05', 'epoch': '0.1'}",
            {"loss": 1.2, "grad_norm": 0.5, "lr": 1e-05, "epoch": 0.1},
        ),
        (
            b"{'eval_loss': 0.9, 'eval_runtime': 1.5, 'eval_samples_per_second': 12.1, 'epoch': 1.0}",
            {"eval_loss": 0.9, "eval_runtime": 1.5, "eval_samples_per_second": 12.1, "epoch": 1.0},
        ),
        (
            b"{'train_runtime': '12.3', 'train_loss': '0.71', 'epoch': '3'}",
            {"train_runtime": 12.3, "train_loss": 0.71, "epoch": 3},
        ),
        (b"{'loss': nan, 'grad_norm': inf, 'epoch': 0.2}", {"loss": None, "grad_norm": None, "epoch": 0.2}),
        (b"{'loss': 'nan', 'epoch': '0.2'}", {"loss": None, "epoch": 0.2}),
        (b'{"loss": 1.5, "name": "x", "lr": 0.1}', {"loss": 1.5, "lr": 0.1}),
        (b"\x1b[32m{'loss': 2.0}\x1b[0m", {"loss": 2.0}),
        (
            b"{'rewards/chosen': 0.4, 'rewards/margins': 0.1, 'loss': 0.6}",
            {"rewards/chosen": 0.4, "rewards/margins": 0.1, "loss": 0.6},
        ),
        (b"INFO trainer: {'loss': 3}", {"loss": 3}),
    ],
)
def test_log_lines(line: bytes, values: dict[str, float | None]) -> None:
    found = one(line)
    assert isinstance(found, Measured)
    assert found.values == values


def test_a_line_that_names_its_step() -> None:
    assert one(b'{"loss": 1.5, "step": 40}') == Measured({"loss": 1.5}, 40)
    assert one(b"{'global_step': 7, 'loss': 1.5}") == Measured({"loss": 1.5}, 7)


@pytest.mark.parametrize(
    ("segment", "bar"),
    [
        (b" 10%|\xe2\x96\x88         | 10/100 [00:05<00:45,  2.00it/s]", Bar("", 10, 100, 45.0, "2.00it/s")),
        (b"  5%|5         | 1/20 [01:02:03<?, ?it/s]", Bar("", 1, 20, None, "?it/s")),
        (
            b"Map: 100%|#####| 1.00k/1.00k [00:00<00:00, 5000 examples/s]",
            Bar("Map", 1000, 1000, 0.0, "5000 examples/s"),
        ),
        (
            b"Loading checkpoint shards:  50%|##  | 1/2 [00:01<00:01,  1.0s/it]",
            Bar("Loading checkpoint shards", 1, 2, 1.0, "1.0s/it"),
        ),
        (b" 10%|#  | 1/10 [00:01<00:09, 1it/s] 20%|##  | 2/10 [00:02<00:08, 1it/s]", Bar("", 2, 10, 8.0, "1it/s")),
        (b"  0%|          | 0/500 [00:00<?, ?it/s]", Bar("", 0, 500, None, "?it/s")),
        (b" 30%|###   | 3/10 [00:01<1:00:02,  1.3it/s, loss=0.4]", Bar("", 3, 10, 3602.0, "1.3it/s")),
    ],
)
def test_bars(segment: bytes, bar: Bar) -> None:
    found = one(segment)
    assert isinstance(found, Bar)
    assert (found.label or "").endswith(bar.label)
    assert (found.done, found.total, found.eta_s, found.rate) == (bar.done, bar.total, bar.eta_s, bar.rate)


def test_a_log_line_behind_a_bar_that_was_not_ended() -> None:
    found = list(read_segment(b" 10%|# | 1/10 [00:01<00:09, 1it/s]{'loss': 1.0, 'epoch': 0.1}"))
    assert [type(f) for f in found] == [Bar, Measured]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b"{}",
        b"{'a': 1}",
        b"{'loss': __import__('os').system('true')}",
        b"{'loss': [1, 2]}",
        b"{'loss': 1.0",
        b"loss: 1.0",
        b"{'losses': {'loss': 'high'}}",
        b"100%|",
        b"{" * 5000,
        b"\xff\xfe{'\xff': \xff}",
        b"x" * (MAX_SEGMENT + 1),
    ],
)
def test_other_lines_say_nothing(line: bytes) -> None:
    assert list(read_segment(line)) == []


@given(st.binary(max_size=400))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    for segment in [data, b"{'loss': " + data, b" 1%|" + data]:
        list(read_segment(segment))


@pytest.mark.parametrize("piece", [b"{'a': 1, ", b"%|", b"1%|x| 1", b"{", b"'loss': 1, ", b": 9%|", b"99"])
def test_hostile_lines_take_no_long_time(piece: bytes) -> None:
    begun = time.perf_counter()
    list(read_segment((piece * MAX_SEGMENT)[:MAX_SEGMENT]))
    assert time.perf_counter() - begun < 1.0


@given(
    st.lists(st.sampled_from([b"one", b"\n", b"\r", b"\r\n", b"two three", b"x" * 100]), max_size=30), st.integers(1, 7)
)
def test_segments_do_not_depend_on_how_bytes_arrive(parts: list[bytes], size: int) -> None:
    data = b"".join(parts)
    segments = Segments()
    found = [s for at in range(0, len(data), size) for s in segments.feed(data[at : at + size])] + segments.rest()
    assert found == [s for s in data.replace(b"\r", b"\n").split(b"\n") if s]


def test_an_endless_line_keeps_memory_bounded() -> None:
    segments = Segments()
    for _ in range(100):
        assert segments.feed(b"y" * 8192) == []
    assert segments.feed(b"tail\nnext\n") == [b"next"]
