"""The journal: what is acknowledged stays, readers never see half a line, odd bytes spoil nothing but themselves."""

from __future__ import annotations

import json
import os
import random
import resource
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamahome_tui.jobs.journal import (
    MAX_LINE,
    JournalReader,
    JournalWriter,
    head,
    last_seq,
    parse,
    read,
    tail,
    tail_offset,
)
from llamahome_tui.jobs.records import encode


def seqs(path: Path) -> list[int]:
    return [record["seq"] for record in read(path)]


def write(path: Path, count: int, **fields: object) -> None:
    writer = JournalWriter(path)
    for number in range(count):
        writer.append("metrics", step=number, **fields)
    writer.close()


def test_records_are_numbered_without_a_gap_over_openings(tmp_path: Path) -> None:
    path = tmp_path / "j"
    for _ in range(3):
        write(path, 4)
    assert seqs(path) == list(range(1, 13))
    first = next(read(path))
    assert first["v"] == 1
    assert first["type"] == "metrics"
    assert {"t", "mono"} <= set(first)


def test_file_is_private(tmp_path: Path) -> None:
    write(tmp_path / "j", 1)
    assert (tmp_path / "j").stat().st_mode & 0o777 == 0o600


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "j").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"symbolic|Too many levels"):
        JournalWriter(tmp_path / "j")


def test_nonfinite_numbers_become_null(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "j")
    writer.append("metrics", loss=float("nan"), nested={"a": [float("inf"), 1.5]})
    writer.close()
    assert b"NaN" not in (tmp_path / "j").read_bytes()
    assert next(read(tmp_path / "j"))["nested"] == {"a": [None, 1.5]}


def test_a_torn_tail_waits_and_is_ended_by_the_next_writer(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path, 3)
    with path.open("ab") as file:
        file.write(b'{"v":1,"seq":4,"type":"met')
    reader = JournalReader(path)
    assert [r["seq"] for r in reader.poll()] == [1, 2, 3]
    assert reader.poll() == []
    assert reader.bad == 0
    write(path, 2)
    assert [r["seq"] for r in reader.poll()] == [4, 5]
    assert reader.bad == 1
    assert seqs(path) == [1, 2, 3, 4, 5]


def test_a_whole_record_without_its_newline_keeps_its_number(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path, 3)
    path.write_bytes(path.read_bytes()[:-1])
    assert seqs(path) == [1, 2]
    write(path, 1)
    assert seqs(path) == [1, 2, 3, 4]


def test_odd_lines_are_counted_and_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path, 2)
    odd = [
        b"\0" * 5000,
        b"garbage",
        b"[1]",
        b'{"v":1,"seq":"x","type":"y"}',
        b'{"v":2,"seq":3,"type":"end","reason":"completed"}',
        b'{"v":1,"seq":3,"type":"metrics"}',
        b'{"v":1,"seq":3,"t":"now","mono":1.0,"type":"metrics"}',
        b'{"v":1,"seq":3,"t":1e999,"mono":1.0,"type":"metrics"}',
        b'{"a":' * 60_000,
        b'{"v":1,"seq":1' + b"0" * 9000 + b',"type":"y"}',
        b'{"v":1,"seq":9,"type":"big","x":"' + b"a" * (5 << 20) + b'"}',
        b"\xff\xfe",
    ]
    with path.open("ab") as file:
        file.write(b"\n".join(odd) + b"\n")
    reader = JournalReader(path)
    found = []
    while records := reader.poll(max_bytes=1):
        found += records
    assert [r["seq"] for r in found] == [1, 2]
    assert reader.bad == len(odd)
    assert [r["seq"] for r in tail(path, 10)] == [1, 2]
    # A record of another version has used up its number.
    assert last_seq(path) == 3
    write(path, 1)
    assert seqs(path)[-1] == 4


def test_unknown_types_are_given_as_they_are(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "j")
    writer.append("from_the_future", x=1)
    writer.close()
    assert next(read(tmp_path / "j"))["type"] == "from_the_future"


def test_a_record_that_is_too_long_is_cut(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "j")
    writer.append("sample", text="x" * (3 << 20), step=7, big=list(range(400_000)), **{"k" * 300: 1})
    writer.append("end", reason="completed")
    writer.close()
    cut, end = read(tmp_path / "j")
    assert cut["cut"] is True
    assert cut["step"] == 7
    assert len(encode(cut)) < MAX_LINE
    assert end["seq"] == 2


def test_the_reader_tells_a_replaced_journal(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path, 3)
    reader = JournalReader(path)
    assert len(reader.poll()) == 3
    path.unlink()
    assert reader.poll() == []
    assert reader.replaced == 1
    write(path, 5)
    assert len(reader.poll()) == 5
    # Put there anew with the same inode number, or cut and written again, and longer than before.
    lines = path.read_bytes().replace(b'"step":0', b'"step":9')
    path.write_bytes(lines * 2)
    assert len(reader.poll()) == 10
    assert reader.replaced == 2


def test_tail_reads_backwards_and_by_type(tmp_path: Path) -> None:
    path = tmp_path / "j"
    writer = JournalWriter(path)
    for number in range(5000):
        writer.append("metrics" if number % 1000 else "checkpoint", step=number, pad="x" * 50)
    writer.close()
    assert [r["step"] for r in tail(path, 3)] == [4997, 4998, 4999]
    assert [r["step"] for r in tail(path, 2, {"checkpoint"})] == [3000, 4000]
    assert tail(path, 2, {"checkpoint"}, limit_bytes=10_000) == []
    assert [r["step"] for r in head(path, 2)] == [0, 1]
    assert [r["seq"] for r in read(path, 4998)] == [4999, 5000]
    assert next(read(path, 2500))["seq"] == 2501
    assert [r["step"] for r in JournalReader(path, tail_offset(path, 4)).poll()] == [4996, 4997, 4998, 4999]
    assert tail(tmp_path / "none", 1) == list(read(tmp_path / "none")) == []
    assert tail_offset(tmp_path / "none", 5) == last_seq(tmp_path / "none") == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=12), st.integers(1, 4))
def test_reading_forwards_and_backwards_agree(pieces: list[bytes], count: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "j"
        good = encode({"v": 1, "seq": 1, "t": 0.0, "mono": 0.0, "type": "x"})
        path.write_bytes(b"".join(piece + good for piece in pieces))
        whole = [parse(line) for line in path.read_bytes().split(b"\n")[:-1]]
        expected = [record for record in whole if record is not None]
        assert list(read(path)) == expected
        assert tail(path, 1000) == expected
        assert tail(path, count) == expected[-count:]


def test_the_pipe_gets_a_copy_and_is_never_waited_for(tmp_path: Path) -> None:
    reader, writer_fd = os.pipe()
    writer = JournalWriter(tmp_path / "j", writer_fd)
    for number in range(5000):  # far more than a pipe holds
        writer.append("metrics", step=number, pad="y" * 100)
    assert seqs(tmp_path / "j") == list(range(1, 5001))
    first = os.read(reader, 1 << 16).split(b"\n")[0]
    assert json.loads(first)["step"] == 0
    os.close(reader)
    writer.append("metrics", step=5000)  # EPIPE
    writer.append("end", reason="completed")
    writer.close()
    assert seqs(tmp_path / "j")[-1] == 5002


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_the_writer_goes_on_in_a_new_file_when_its_own_is_gone(tmp_path: Path, how: str) -> None:
    path = tmp_path / "j"
    writer = JournalWriter(path)
    writer.append("metrics", step=1)
    path.unlink()
    if how == "replaced":
        path.write_text("stranger")
    writer.append("end", sync=True, reason="completed")
    writer.close()
    warning, end = read(path)
    assert (warning["what"], warning["seq"]) == ("journal_replaced", 2)
    assert (end["reason"], end["seq"]) == ("completed", 3)


def test_random_cuts_lose_only_what_was_cut(tmp_path: Path) -> None:
    rng = random.Random(5)
    path = tmp_path / "j"
    for _ in range(30):
        write(path, rng.randint(1, 5), text="z" * rng.randint(0, 300))
        size = path.stat().st_size
        whole = seqs(path)
        os.truncate(path, size - rng.randint(0, 40))
        assert whole[: len(seqs(path))] == seqs(path)
        write(path, 1)
        assert seqs(path) == sorted(set(seqs(path)))


def test_a_disk_that_refuses_costs_no_lifecycle_record_and_leaves_no_gap(tmp_path: Path) -> None:
    """A limit on file sizes cuts writes short and then refuses them, as a full disk does."""
    path = tmp_path / "j"
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            writer = JournalWriter(path)
            for number in range(10):
                writer.append("metrics", step=number)
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 150, hard))
            for number in range(10, 25_000):
                record = writer.append("metrics" if number % 5000 else "checkpoint", step=number, sync=number < 12)
            assert writer.behind > 0
            assert writer.lost > 0
            assert seqs(path) == list(range(1, 12))  # whole records only, though the last write was cut short
            assert path.read_bytes().endswith(b"\n")
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            writer.append("end", sync=True, reason="completed", lost=writer.lost, seq_said=record["seq"])
            assert writer.behind == 0
            writer.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    records = list(read(path))
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    (warning,) = [record for record in records if record["type"] == "warning"]
    assert warning["what"] == "disk_full"
    assert warning["lost"] == records[-1]["lost"] == 25_000 + 2 - len(records)
    assert records[-1]["type"] == "end"
    assert [record["step"] for record in records if record["type"] == "checkpoint"] == [5000, 10_000, 15_000, 20_000]
