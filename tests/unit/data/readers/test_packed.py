"""gzip and zstd: streamed, in several members and frames, and never trusted: torn, broken, twice packed, bombs."""

from __future__ import annotations

import gzip
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from llamahome_tui.data import limits
from llamahome_tui.data.rows import Row, read_rows
from tests.unit.data.readers.files import bad, good, write

LINES = b"".join(b'{"n": %d, "text": "%s"}\n' % (n, random.Random(n).randbytes(40).hex().encode()) for n in range(5000))


def zstd(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1, write_checksum=True).compress(content)


PACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": zstd}


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("name", ["d.jsonl", "d.json", "d.csv", "d.txt"])
def test_what_is_in_an_archive_is_read_as_if_it_stood_alone(tmp_path: Path, suffix: str, name: str) -> None:
    content = {"d.jsonl": LINES, "d.json": b"[" + b",".join(LINES.splitlines()) + b"]", "d.csv": b"a,b\n1,2\n"}
    plain = write(tmp_path, name, content.get(name, b"one\n\ntwo"))
    packed = write(tmp_path, name + suffix, PACK[suffix](plain.read_bytes()))
    assert good(packed) == good(plain)
    unnamed = write(tmp_path, "other-" + name, packed.read_bytes())
    assert good(unnamed) == good(plain)


@pytest.mark.parametrize("suffix", PACK)
def test_several_archives_in_one_file(tmp_path: Path, suffix: str) -> None:
    pack = PACK[suffix]
    half = LINES.index(b"\n", len(LINES) // 2) - 7
    between = b"\0" * 20 if suffix == ".gz" else b"\x53\x2a\x4d\x18\x05\0\0\0extra"
    content = pack(LINES[:half]) + pack(b"") + between + pack(LINES[half:])
    assert [value["n"] for _, value in good(write(tmp_path, f"d.jsonl{suffix}", content))] == list(range(5000))


BLOCKS = {"empty": b"", "small": b"x" * 7, "same": b"ab" * 300_000, "noise": random.Random(1).randbytes(700_000)}


@pytest.mark.parametrize("content", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("level", [1, 19])
@pytest.mark.parametrize("sized", [True, False])
def test_every_kind_of_zstd_block(tmp_path: Path, content: bytes, level: int, sized: bool) -> None:
    import io

    from llamahome_tui.data.readers.packed import unpacked

    compressor = zstandard.ZstdCompressor(level=level, write_content_size=sized)
    stream = compressor.compressobj()
    made = compressor.compress(content) if sized else stream.compress(content) + stream.flush()
    assert unpacked(io.FileIO(write(tmp_path, "d.zst", made)), "zstd").read() == content


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("left", [-5, -1, 150_000, 200_000])
def test_a_torn_archive_names_the_line_it_reached(tmp_path: Path, suffix: str, left: int) -> None:
    content = PACK[suffix](LINES)
    path = write(tmp_path, f"d.jsonl{suffix}", content[:left])
    read = sum(isinstance(one, Row) for one in read_rows(path))
    ((line, _, reason),) = bad(path)
    assert line == read + 1
    assert "cut short" in reason
    assert read > 1000


@pytest.mark.parametrize("suffix", PACK)
def test_a_broken_archive_and_one_of_another_name(tmp_path: Path, suffix: str) -> None:
    content = bytearray(PACK[suffix](LINES))
    content[len(content) // 2 : len(content) // 2 + 50] = b"x" * 50
    assert "is broken" in bad(write(tmp_path, f"d.jsonl{suffix}", bytes(content)))[-1][2]
    assert "rename it" in bad(write(tmp_path, f"e.jsonl{suffix}", LINES))[0][2]
    assert "rename it" in bad(write(tmp_path, f"e{suffix}", PACK[".gz" if suffix == ".zst" else ".zst"](LINES)))[0][2]
    twice = PACK[suffix](PACK[suffix](LINES))
    assert "compressed twice" in bad(write(tmp_path, f"f.jsonl{suffix}", twice))[0][2]
    assert "Parquet" in bad(write(tmp_path, f"g.parquet{suffix}", PACK[suffix](b"PAR1...")))[0][2]
    assert good(write(tmp_path, f"empty.jsonl{suffix}", PACK[suffix](b""))) == []


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("filling", [b"x", b" ", b"\n"])
def test_a_bomb_takes_little_memory_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, filling: bytes
) -> None:
    monkeypatch.setattr(limits, "MAX_ROW_BYTES", 1 << 18)
    monkeypatch.setattr(limits, "UNPACKED_ALLOWANCE", 1 << 20)
    piece = PACK[suffix](filling * (1 << 21))
    path = write(tmp_path, f"d.jsonl{suffix}", PACK[suffix](b'{"a": "') + piece * 4)
    tracemalloc.start()
    found = bad(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "unpacked" in found[-1][2]
    assert peak < 6 << 20


def test_a_zstd_window_that_wants_gigabytes_is_refused(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=30, write_content_size=False)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    path = write(tmp_path, "d.jsonl.zst", stream.compress(LINES) + stream.flush())
    ((_, _, reason),) = bad(path)
    assert "too much memory" in reason
