"""Files made to hurt: each is read by a process of its own, whose memory is measured, and answered in one sentence."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

MIB = 1 << 20
LARGE = 200
# VmHWM is of this process alone; ru_maxrss begins with what the parent had when it forked.
READ = """
import json, sys
from pathlib import Path
from llamahome_tui.data.check import validate

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) >> 10

validate([Path(sys.argv[1])])
before = peak()
found = validate([Path(sys.argv[2])])
print(json.dumps([peak() - before, found.as_dict()]))
"""
GOOD = {"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]}


def many(piece: bytes, before: bytes, after: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with path.open("wb") as stream:
            stream.write(before)
            for _ in range(LARGE):
                stream.write(piece)
            stream.write(after)

    return make


def packed(make: Callable[[Path], None], how: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def pack(path: Path) -> None:
        make(path)
        path.write_bytes(how(path.read_bytes()))

    return pack


def parquet(path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", "x" * LARGE * MIB, "b"]}), path)


def exactly(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


LINE = json.dumps(GOOD).encode() + b"\n"
GIANT = many(b"x" * MIB, LINE + b'{"text": "', b'"}\n' + LINE)
DEEP = b"[" * 10_000 + b"]" * 10_000
OBJECTS = b'{"a":' * 10_000 + b"1" + b"}" * 10_000
# kind: (file name, how it is made, rows that are good, line, field, reason)
HOSTILE: dict[str, tuple[str, Callable[[Path], None], int, int, str, str]] = {
    "a giant line": ("d.jsonl", GIANT, 2, 2, "", "longer than 16 MiB"),
    "a giant line of letters with accents": (
        "d.jsonl", many("é".encode() * (MIB // 2), LINE + b'{"text": "', b'"}\n'), 1, 2, "", "longer than 16 MiB"),
    "a giant element": ("d.json", many(b"x" * MIB, b'[{"text": "', b'"}]'), 0, 1, "", "longer than 16 MiB"),
    "a giant number": ("d.json", many(b"9" * MIB, b'[{"n": ', b"}]"), 0, 1, "", "JSON"),
    "giant white space": ("d.jsonl", many(b" " * MIB, LINE, b"\n" + LINE), 2, 2, "", "longer than 16 MiB"),
    "a giant field": ("d.csv", many(b"x" * MIB, b"text\na\n", b"\nb\n"), 1, 3, "", "longer than 16 MiB"),
    "a quote that never closes": ("d.csv", many(b"x\n" * (MIB // 2), b'text\na\n"', b""), 1, 3, "", "quote"),
    "a giant header": ("d.csv", many(b"x," * (MIB // 2), b"", b"\n"), 0, 1, "", "longer than 16 MiB"),
    "a giant text": ("d.txt", many(b"x" * MIB, b"a\n\n", b"\n\nb"), 2, 3, "", "longer than 16 MiB"),
    "a giant text of short lines": ("d.txt", many(b"x\n" * (MIB // 2), b"", b""), 0, 1, "", "blank lines"),
    "a giant line in gzip": ("d.jsonl.gz", packed(GIANT, lambda b: gzip.compress(b, 1)), 2, 2, "", "MiB"),
    "a giant line in zstd": ("d.jsonl.zst", packed(GIANT, zstandard.ZstdCompressor().compress), 2, 2, "", "MiB"),
    "a giant cell of Parquet": ("d.parquet", parquet, 2, 2, "", "longer than 16 MiB"),
    "lists 10,000 deep": ("d.jsonl", exactly(LINE + b'{"text": ' + DEEP + b"}\n"), 1, 2, "", "deep"),
    "objects 10,000 deep": ("d.jsonl", exactly(LINE + OBJECTS + b"\n"), 1, 2, "", "deep"),
    "an array 10,000 deep": ("d.json", exactly(DEEP), 0, 1, "", "deep"),
    "tools 10,000 deep": (
        "d.jsonl", exactly(LINE + json.dumps(GOOD | {"tools": DEEP.decode()}).encode() + b"\n"), 1, 2, "tools", "deep"),
    "a number of 100,000 digits": ("d.jsonl", exactly(LINE + b'{"n": ' + b"9" * 100_000 + b"}\n"), 1, 2, "", "JSON"),
    "10,000 columns": (
        "d.jsonl", exactly(json.dumps({f"c{n}": "x" for n in range(10_000)}).encode() + b"\n"), 0, 1, "", "9992 more"),
    "10,000 columns of CSV": (
        "d.csv", exactly(",".join(f"c{n}" for n in range(10_000)).encode() + b"\n" + b"x," * 9_999 + b"x\n"),
        0, 2, "", "9992 more"),
    "200 MB of nothing": ("d.jsonl", many(b"\0" * MIB, b"", b""), 0, 1, "", "does not begin with JSON"),
}  # fmt: skip
ALLOWED = (
    100  # MiB on top of what reading one row takes; a row may have 16, and pyarrow holds a whole cell of 200 some times
)
PARQUET_ALLOWED = 4 * LARGE


@pytest.mark.parametrize("kind", HOSTILE)
def test_memory_stays_bounded_and_the_answer_is_one_sentence(tmp_path: Path, kind: str) -> None:
    name, make, rows, line, field, reason = HOSTILE[kind]
    path = tmp_path / name
    make(path)
    small = path.with_name("small.jsonl")
    small.write_bytes(LINE)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(small), str(path)], capture_output=True, text=True, timeout=120, check=True
    )
    peak, found = json.loads(done.stdout)
    first: dict[str, Any] = found["bad"][0]
    print(f"{kind}: {peak} MiB")
    assert (first["file"], first["field"]) == (str(path), field)
    assert reason in first["reason"]
    assert "\n" not in first["reason"]
    assert len(first["reason"]) < 300
    assert found["rows"] == rows
    assert first["line"] == line
    assert peak < (PARQUET_ALLOWED if name.endswith("parquet") else ALLOWED)
